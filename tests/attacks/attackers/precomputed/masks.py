"""One-time pads that are used twice: masks of the server, and r of the client."""

from __future__ import annotations

import numpy as np
from attackers.precomputed.model import (
    DEGREE,
    F,
    Key,
    Refused,
    Rules,
    Server,
    T,
    centred,
    columns_in_tokens,
    delta,
    drawn,
    uniform,
    weights,
    whole,
)

D_IN, D_OUT = 12, 6
SCALE = 1 << F + 4
"""Numbers this large times a weight are read exactly from results to within 2^f."""

_RNG = np.random.default_rng(3)
MODULES = [weights(_RNG, D_OUT, D_IN) for _ in range(2)]


def _read(numbers: object) -> object:
    """Weights from multiples of them to within a few of 2^f."""
    return np.array([[round(int(n) / SCALE) for n in row] for row in np.atleast_2d(numbers)])


def _share(read: object, truth: object) -> float:
    return float(np.mean(np.array(read) == np.array(truth)))


def columns_of_one_index(rules: Rules) -> float:
    """The share of W's other columns that one index gives away: answers to several y under one mask are subtracted."""
    server = Server(MODULES, rules)
    key, r = Key(), np.zeros((D_IN, DEGREE), dtype=object)
    server.results(0, key.public(), key.encrypt(r))
    first = server.answer(0, 0, columns_in_tokens(D_IN, SCALE)[:, 0])
    read = []
    try:
        for column in range(1, D_IN):
            v = server.answer(0, 0, columns_in_tokens(D_IN, SCALE)[:, column])
            read.append(centred(v - first, 1 << 64 - F) << F)
    except Refused:
        return 0.0
    w = whole(MODULES[0])
    return _share(_read(read), (w[:, 1:] - w[:, :1]).T)


def inputs_of_one_index(*, used_twice: bool) -> float:
    """The share of x − x′ that a server reads off two queries, masked with r of one index or of two."""
    x = _RNG.integers(-(1 << 20), 1 << 20, (2, D_IN)).astype(object)
    r = [uniform(np.random.default_rng(), T, D_IN) for _ in range(2)]
    first, second = (x[0] - r[0]) % T, (x[1] - r[0 if used_twice else 1]) % T
    return _share(centred(first - second), x[0] - x[1])


def inputs_of_two_sites(*, by_site: bool) -> float:
    """The same for one token in two layers: whether the layer is in what r is derived from."""
    x = _RNG.integers(-(1 << 20), 1 << 20, (2, D_IN)).astype(object)
    r = [uniform(drawn(b"client", 0, site if by_site else None), T, D_IN) for site in range(2)]
    first, second = ((each - pad) % T for each, pad in zip(x, r, strict=True))
    return _share(centred(first - second), x[0] - x[1])


def modules_subtracted(rules: Rules) -> float:
    """The share of W_q − W_k read without a single query, by subtracting the correlations of two modules."""
    server, key = Server(MODULES, rules), Key()
    public, upload = key.public(), key.encrypt(columns_in_tokens(D_IN, SCALE))
    first, second = (key.decrypt(server.results(0, public, upload, module)) for module in range(2))
    read = centred(first - second, 1 << 64 - F)[:, :D_IN] << F
    return _share(_read(read), whole(MODULES[0]) - whole(MODULES[1]))


def replayed(rules: Rules) -> float:
    """The share of W read without a single query, by sending another upload for the same batch and subtracting."""
    server, key = Server(MODULES, rules), Key()
    public = key.public()
    zeros = np.zeros((D_IN, DEGREE), dtype=object)
    uploads = key.encrypt(columns_in_tokens(D_IN, SCALE)), key.encrypt(zeros)
    first, second = (key.decrypt(server.results(0, public, upload)) for upload in uploads)
    read = centred(first - second, 1 << 64 - F)[:, :D_IN] << F
    return _share(_read(read), whole(MODULES[0]))


def share_right() -> float:
    """The share of Δ that an honest run of the whole protocol gives to within two units of 2^f."""
    server, key = Server(MODULES), Key()
    r = np.array([uniform(np.random.default_rng(), T) for _ in range(D_IN)])
    c = key.decrypt(server.results(0, key.public(), key.encrypt(r)))
    right = []
    for token in range(DEGREE):
        x = _RNG.integers(-(1 << 40), 1 << 40, D_IN).astype(object)
        found = delta(server.answer(0, token, (x - r[:, token]) % T), c[:, token])
        right.append(np.abs(found - whole(MODULES[0]) @ x) <= 2 << F)
    return float(np.mean(right))
