"""The client's secret key: averaged out of retries, or asked for by a server that changes results and watches."""

from __future__ import annotations

import numpy as np
from attackers.precomputed.model import (
    DEGREE,
    PRIMES,
    Q1,
    TRIM,
    F,
    Key,
    Q,
    Result,
    Server,
    T,
    Upload,
    centred,
    delta,
    times,
    uniform,
    weights,
    whole,
)

from helora_core.backend import ntt

RETRIES = 1200
"""The mean of so many errors of size 3.24 rounds to zero, but for one in 10^7."""

D_IN, D_OUT = 3, 1


def averaged(*, fresh_errors: bool) -> float:
    """The share of the key's coefficients that retries give away which repeat a seed, with fresh errors or without."""
    key = Key()
    r = np.array([uniform(np.random.default_rng(), T)])
    first = key.encrypt(r)
    others = [key.encrypt(r, first.seed) if fresh_errors else first for _ in range(RETRIES)]
    mean = np.mean([centred(other.b[0] - first.b[0], Q).astype(float) for other in others], axis=0)
    b = first.b[0] + np.rint(mean).astype(int)
    prime = PRIMES[0]
    # modulo the prime, b = −a·s
    values, divisors = (ntt.forward((each % prime).astype(np.uint64), prime) for each in (b, first.a[0]))
    quotients = [-int(v) * pow(int(d), -1, prime) % prime for v, d in zip(values, divisors, strict=True)]
    found = ntt.inverse(np.array(quotients, dtype=np.uint64), prime).astype(object)
    return float(np.mean(centred(found, prime) == key.s))


def asked_by_reactions(*, key_per_batch: bool) -> float:
    """The share of a third batch's r that a server decrypts, which shifted the results of two batches.

    t/2 added to G's constant makes those tokens wrong whose coefficient of the key is odd. A quarter added, and taken
    from all of H, leaves those right whose coefficient is 1. Which tokens come out wrong, the server is told, or sees.
    """
    server, key = Server([weights(np.random.default_rng(5), D_OUT, D_IN)]), Key()
    wrong = []
    for batch, (of_g, of_h) in enumerate(
        [(1 << TRIM.key_bits - 1, 0), (1 << TRIM.key_bits - 2, 1 << TRIM.top_bits - 2)]
    ):
        wrong.append(_wrong_tokens(server, key if not key_per_batch else Key(), batch, of_g, of_h))
    odd, not_one = wrong
    s = np.array([int(each) for each in np.where(~not_one, 1, np.where(odd, -1, 0))], dtype=object)
    r = _r()
    upload = (key if not key_per_batch else Key()).encrypt(r)
    return float(np.mean(_decrypted(upload, s) == r))


def _wrong_tokens(server: Server, key: Key, batch: int, of_g: int, of_h: int) -> object:
    r = _r()
    result = server.results(batch, key.public(), key.encrypt(r))
    g = result.g.copy()
    g[0][0] = (g[0][0] + of_g) % (1 << TRIM.key_bits)
    c = key.decrypt(Result((result.h - of_h) % (1 << TRIM.top_bits), g))
    wrong = []
    for token in range(DEGREE):
        x = np.array([1 << 45, -(1 << 44), 1 << 46], dtype=object)
        found = delta(server.answer(batch, token, (x - r[:, token]) % T), c[:, token])
        wrong.append(abs(int((found - whole(server.modules[0]) @ x)[0])) > 2 << F)
    return np.array(wrong)


def _r() -> object:
    return np.array([uniform(np.random.default_rng(), T) for _ in range(D_IN)])


def _decrypted(upload: Upload, s: object) -> object:
    phases = [(b + times(a, s)) % Q for a, b in zip(upload.a, upload.b, strict=True)]
    return np.array([(phase + Q1 // 2) // Q1 % T for phase in phases])
