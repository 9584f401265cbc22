"""Reading weights off G, a result's second polynomial, where no encryption of zero hides it, or a known one.

c₁ = W·a is known to its top bits, and the client knows a. For two features and weights below 16, all candidates are
tried; lattice reduction would do it for more.
"""

from __future__ import annotations

import numpy as np
from attackers.precomputed.model import (
    DEGREE,
    Q1,
    Key,
    PublicKey,
    Q,
    Result,
    Rules,
    Server,
    T,
    centred,
    errors,
    ternary,
    times,
    whole,
)

LARGEST = 15
_CANDIDATES = [(i, j) for i in range(-LARGEST, LARGEST + 1) for j in range(-LARGEST, LARGEST + 1)]

MODULE = (
    np.array([[5, -3]], dtype=object),
    np.array([[1], [-2], [3], [2]], dtype=object),
)
"""W of rank one, two features and four outputs."""

NOTHING = np.zeros((2, DEGREE), dtype=object)


def _read(g: object, a: object, server: Server, off: int) -> tuple[int, int] | None:
    """The only pair of weights whose product with a has these top bits, give or take so many units, if there is one."""
    lost = 64 - server.how.key_bits
    fitting = []
    for pair in _CANDIDATES:
        product = (pair[0] * a[0] + pair[1] * a[1]) % Q // Q1 >> lost
        if np.all(np.abs(centred(product - g, 1 << server.how.key_bits)) <= off):
            fitting.append(pair)
    return fitting[0] if len(fitting) == 1 else None


def _share(read: list[tuple[int, int] | None]) -> float:
    """The share of W's rows that were read."""
    truth = [tuple(row) for row in whole(MODULE)]
    return float(np.mean([found == row for found, row in zip(read, truth, strict=True)]))


def without_zeros(rules: Rules) -> float:
    """One result, as it leaves the server."""
    server, key = Server([MODULE], rules), Key()
    upload = key.encrypt(NOTHING)
    result = server.results(0, key.public(), upload)
    return _share([_read(g, upload.a, server, 1) for g in result.g])


def of_two_uploads(rules: Rules) -> float:
    """Two uploads for one batch: if their results' zeros are equal, the difference has none."""
    server, key = Server([MODULE], rules), Key()
    public, uploads = key.public(), [key.encrypt(NOTHING) for _ in range(2)]
    first, second = (server.results(0, public, upload).g for upload in uploads)
    a = (uploads[0].a - uploads[1].a) % Q
    return _share([_read(g, a, server, 2) for g in (first - second) % (1 << server.how.key_bits)])


def of_a_forged_key(added: int) -> float:
    """A public key with a quarter of q added: results for x = 0 then show u, and G less a·u is W·a."""
    server, key = Server([MODULE]), Key()
    public, upload, result = _asked(server, key, added)
    read = []
    for row, shift in enumerate(_shift(server, key, result)):
        u = np.array([round(4 * int(each) / (1 << server.how.top_bits)) for each in shift], dtype=object)
        of_zero = times(public.a, u)
        g = result.g[row] << 64 - server.how.key_bits
        read.append(_read(((g * Q1 - of_zero) % Q // Q1 >> 64 - server.how.key_bits), upload.a, server, 2))
    return _share(read)


def parities_of_a_forged_key(added: int) -> float:
    """The share of u's coefficients that are known to be zero or not, which half of q added to a key shows."""
    server, key = Server([MODULE]), Key()
    _, _, result = _asked(server, key, added)
    known = []
    for row, shift in enumerate(_shift(server, key, result)):
        u = ternary(server.zeros_of(0, 0, row))
        known.append((np.abs(shift) > 1 << server.how.top_bits - 3) == (u != 0))
    return float(np.mean(known))


def _asked(server: Server, key: Key, added: int) -> tuple[PublicKey, object, Result]:
    """A batch of r = 0 under a public key to whose constant something was added."""
    honest, upload = key.public(), key.encrypt(NOTHING)
    forged = honest.b.copy()
    forged[0] = (forged[0] + added) % Q
    public = PublicKey(forged, honest.a)
    return public, upload, server.results(0, public, upload)


def _shift(server: Server, key: Key, result: Result) -> object:
    """By how much Δ is off for x = 0, one row an output, in units of results."""
    c = key.decrypt(result)
    v = np.array([server.answer(0, token, np.zeros(2, dtype=object)) for token in range(DEGREE)], dtype=object).T
    return centred(v + c + 1, 1 << server.how.top_bits)


def challenge_answered(*, floored: bool) -> float:
    """The share of a key challenge that a client with a forged key answers as one with an honest key would.

    The challenge is an encryption of a mask under the client's key, and the client has to say the mask. The forged key
    has a quarter of q too much, so that the answer is off by u·t/4; and a little more, which shows u in what a floor
    drops.
    """
    key, small = Key(), 1 << 20
    honest = key.public()
    forged = honest.b.copy()
    forged[0] += Q // 4 + small
    rng = np.random.default_rng()
    u, e0, e1 = ternary(rng), errors(rng), errors(rng)
    mask = np.array([int(each) for each in rng.integers(0, T, DEGREE, dtype=np.uint64)], dtype=object)
    c0, c1 = (times(forged, u) + e0 + Q1 * mask) % Q, (times(honest.a, u) + e1) % Q
    guess = np.zeros(DEGREE, dtype=object)
    if floored:
        c0, c1 = c0 // Q1 * Q1, c1 // Q1 * Q1
    phase = (c0 + times(c1, key.s)) % Q
    if not floored:
        guess = np.array([round(int(each) / small) for each in centred(phase % Q1, Q1)], dtype=object)
    answer = (phase - guess * (Q // 4 + small)) // Q1 % T
    return float(np.mean(np.abs(centred(answer - mask)) < 1 << 10))
