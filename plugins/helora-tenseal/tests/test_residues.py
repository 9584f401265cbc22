"""Plaintexts written as residues are those that SEAL itself would encode, and are read back as SEAL reads them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tenseal.sealapi as seal
from numpy.typing import NDArray

from helora_core.backend import residues
from helora_core.backend.checked_backend import checked
from helora_core.backend.embedding import coefficients_to_slots
from helora_core.backend.residues import Integers
from helora_core.params.ckks import CKKSParams
from helora_tenseal.backend import TenSEALBackend
from helora_tenseal.context import Context
from helora_tenseal.residues import from_plaintext, to_plaintext

BACKEND = checked(TenSEALBackend())
CHAINS = [
    CKKSParams(ring_degree=1024, data_bits=(40, 30, 30), special_bits=(40,), scale_bits=30),
    CKKSParams(ring_degree=4096, data_bits=(60, 60), special_bits=(60,), scale_bits=30),
    CKKSParams(ring_degree=2048, data_bits=(53,), special_bits=(), scale_bits=30),
    CKKSParams(ring_degree=8192, data_bits=(20, 45, 60, 31), special_bits=(17,), scale_bits=30),
]
LEVELS = [(chain, level) for chain in CHAINS for level in range(len(chain.data_bits))]
each_level = pytest.mark.parametrize(
    ("chain", "level"), LEVELS, ids=[f"{chain.ring_degree} at level {level}" for chain, level in LEVELS]
)


def words(plaintext: Any) -> NDArray[np.uint64]:
    array = plaintext.dyn_array()
    return np.array([array[i] for i in range(array.size())], dtype=np.uint64)


class Level:
    """A SEAL context, and the primes of one of its levels."""

    def __init__(self, chain: CKKSParams, level: int) -> None:
        self.context = Context(BACKEND.resolve(chain))
        self.parms_id = self.context.parms_ids[level]
        self.primes = self.context.params.data_primes[: level + 1]
        self.n = chain.ring_degree

    def by_seal(self, integers: NDArray[np.float64], scale: float) -> Any:
        """These coefficients over the scale, by SEAL's encoder."""
        plaintext = seal.Plaintext()
        slots = coefficients_to_slots(integers / scale, self.n, BACKEND.capabilities.slot_generator)
        self.context.encoder.encode(slots, self.parms_id, scale, plaintext)
        return plaintext

    def by_us(self, integers: NDArray[np.float64], scale: float) -> Any:
        found = Integers.of_values(integers, 1.0).residues(self.primes)
        return to_plaintext(found, self.primes, self.context.seal, self.parms_id, scale)


@each_level
@pytest.mark.parametrize("scale", [1.0, 2.0**10, 1.7e4])
def test_small_integers_are_written_as_seal_encodes_them(chain: CKKSParams, level: int, scale: float) -> None:
    """Every word, the level and the scale: SEAL's transform is in this order, and its doubles are exact so far."""
    at = Level(chain, level)
    integers = np.random.default_rng(level).integers(-(2**15), 2**15, at.n).astype(np.float64)
    theirs, ours = at.by_seal(integers, scale), at.by_us(integers, scale)
    assert np.array_equal(words(ours), words(theirs))
    assert list(ours.parms_id()) == list(theirs.parms_id()) == list(at.parms_id)
    assert ours.scale == theirs.scale == scale
    assert ours.is_ntt_form()


@each_level
def test_what_seal_encodes_is_read_back_as_it_was(chain: CKKSParams, level: int) -> None:
    at = Level(chain, level)
    integers = np.random.default_rng(level).integers(-(2**15), 2**15, at.n).astype(np.float64)
    found = residues.values_of(from_plaintext(at.by_seal(integers, 2.0**10), at.primes), at.primes, 1.0)
    assert np.array_equal(found, integers)


@each_level
def test_residues_modulo_the_whole_modulus_survive(chain: CKKSParams, level: int) -> None:
    at = Level(chain, level)
    largest = np.array(at.primes, dtype=np.uint64)[:, np.newaxis] - np.ones((1, at.n), dtype=np.uint64)
    for some in (residues.uniform(at.primes, at.n), largest, np.zeros_like(largest)):
        plaintext = to_plaintext(some, at.primes, at.context.seal, at.parms_id, 2.0**30)
        assert np.array_equal(from_plaintext(plaintext, at.primes), some)
        assert plaintext.is_zero() is not some.any()


def test_seals_decoder_reads_the_values_that_were_written() -> None:
    at = Level(CHAINS[0], 2)
    values = np.random.default_rng(0).uniform(-1, 1, at.n)
    plaintext = at.by_us(np.rint(values * 2.0**30), 2.0**30)
    found = np.array(at.context.encoder.decode_complex(plaintext))
    np.testing.assert_allclose(found, coefficients_to_slots(values, at.n, 3), rtol=0, atol=2.0**-20)


@pytest.mark.parametrize("what", ["a residue that is its prime", "residues of another level"])
def test_what_the_backend_refuses_seal_would_refuse_too(what: str) -> None:
    """Nothing that is no plaintext gets in by the serialised form: SEAL checks what it loads."""
    at = Level(CHAINS[0], 1)
    some, parms_id = np.zeros((2, at.n), dtype=np.uint64), at.parms_id
    if what == "residues of another level":
        parms_id = Level(CHAINS[0], 2).parms_id
    values = some.astype("<u8")
    with pytest.MonkeyPatch.context() as patched:
        if what == "a residue that is its prime":
            values[1, 5] = at.primes[1]
            patched.setattr("helora_core.backend.ntt.forward", lambda row, prime: values[at.primes.index(prime)])
        with pytest.raises((RuntimeError, ValueError)):
            to_plaintext(some, at.primes, at.context.seal, parms_id, 1.0)
