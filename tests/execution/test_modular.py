"""Arithmetic of the online round: rows drawn from a seed, and exact products modulo primes."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from helora_core.execution import modular


def test_rows_are_drawn_by_their_number_alone_and_below_the_primes() -> None:
    primes = ((1 << 60) + (1 << 59), 97)  # of the first, a third of all words is beyond its last multiple
    seed = bytes(range(32))
    together = modular.drawn(seed, range(50), primes, 7)
    apart = [modular.drawn(seed, [row], primes, 7) for row in range(50)]
    np.testing.assert_array_equal(together, np.concatenate(apart, axis=1))
    assert all((rows < np.uint64(prime)).all() for rows, prime in zip(together, primes, strict=True))
    assert not np.array_equal(together, modular.drawn(bytes(32), range(50), primes, 7))


@given(data=st.data())
def test_products_modulo_a_prime_are_exact(data: st.DataObject) -> None:
    prime = data.draw(st.sampled_from([1152921504606830593, 1125899906826241, 65537]))
    bits = data.draw(st.integers(1, 50))
    matrix = data.draw(arrays.arrays(np.int64, (3, 4), elements=st.integers(-(1 << bits), 1 << bits)))
    values = data.draw(arrays.arrays(np.uint64, (1, 2, 4), elements=st.integers(0, prime - 1)))
    mask = np.zeros((1, 2, 3), dtype=np.uint64)
    found = modular.answered((matrix,), values, mask, [prime])
    exact = values[0].astype(object) @ matrix.T.astype(object) % prime
    assert found[0].tolist() == exact.tolist()
