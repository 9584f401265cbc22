"""Bad input is refused by name, by sessions and also by checked backends that are called directly."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from helora_core.conformance.bench import SCALE_BITS, SLOTS, Bench
from helora_core.errors import (
    CapabilityMissing,
    ForeignCiphertext,
    HeloraError,
    InvalidInput,
    PrecisionLost,
    SlotOverflow,
)

_NOT_VALUES = {
    "nan": np.array([1.0, np.nan]),
    "infinity": np.array([np.inf]),
    "integers": np.array([1, 2, 3]),
    "float32": np.ones(4, dtype=np.float32),
    "complex": np.ones(4, dtype=np.complex128),
    "matrix": np.ones((2, 2)),
    "empty": np.array([]),
    "text": np.array(["1.0"]),
}


_NO_CIPHERTEXT: Any = None


class BadInput:
    """Refusals."""

    @pytest.mark.parametrize("name", _NOT_VALUES)
    def test_what_is_not_a_finite_real_vector_is_refused(self, bench: Bench, name: str) -> None:
        values: NDArray[np.generic] = _NOT_VALUES[name]
        with pytest.raises(InvalidInput):
            bench.client.encrypt(values, scale_bits=SCALE_BITS)
        with pytest.raises(InvalidInput):
            bench.server.encoder.encode(values, level=0, scale_bits=SCALE_BITS)

    @pytest.mark.parametrize("name", _NOT_VALUES)
    def test_a_backend_called_directly_refuses_it_too(self, bench: Bench, name: str) -> None:
        decryptor, evaluator = bench.backend.generate_keys(bench.params, ())
        with pytest.raises(InvalidInput):
            decryptor.encrypt(_NOT_VALUES[name], scale=2.0**SCALE_BITS)
        with pytest.raises(InvalidInput):
            evaluator.encoder.encode(_NOT_VALUES[name], level=0, scale=2.0**SCALE_BITS)

    def test_more_values_than_slots_are_refused(self, bench: Bench) -> None:
        too_many = np.ones(SLOTS + 1)
        decryptor, evaluator = bench.backend.generate_keys(bench.params, ())
        with pytest.raises(SlotOverflow):
            decryptor.encrypt(too_many, scale=2.0**SCALE_BITS)
        with pytest.raises(SlotOverflow):
            evaluator.encoder.encode(too_many, level=0, scale=2.0**SCALE_BITS)

    def test_values_that_outgrow_the_modulus_are_refused_and_do_not_wrap(self, bench: Bench) -> None:
        """Q has 140 bits: at scale 2^40, 2^110 would wrap around silently."""
        huge = np.full(SLOTS, 2.0**110)
        with pytest.raises(PrecisionLost):
            bench.client.encrypt(huge, scale_bits=SCALE_BITS)
        with pytest.raises(PrecisionLost):
            bench.server.encoder.encode(huge, level=bench.params.max_level, scale_bits=SCALE_BITS)

    def test_a_plaintext_must_fit_the_modulus_of_its_level(self, bench: Bench) -> None:
        """A value that fits the 140 bits of the top level need not fit the base prime's 60."""
        with pytest.raises(PrecisionLost):
            bench.server.encoder.encode(np.full(SLOTS, 2.0**40), level=0, scale_bits=SCALE_BITS)

    @pytest.mark.parametrize("thing", [None, 3, b"bytes", np.ones(SLOTS)])
    def test_what_is_no_ciphertext_is_refused(self, bench: Bench, thing: Any) -> None:
        good, _ = bench.encrypted(np.ones(SLOTS))
        for operation in (
            lambda: bench.evaluator.rotate(thing, 1),
            lambda: bench.evaluator.rescale(thing),
            lambda: bench.evaluator.negate(thing),
            lambda: bench.evaluator.add(good, thing),
            lambda: bench.client.decrypt(thing),
        ):
            with pytest.raises(ForeignCiphertext):
                operation()

    def test_a_seed_is_refused_unless_it_is_claimed(self, bench: Bench) -> None:
        if bench.capabilities.seeded_keys:
            bench.backend.generate_keys(bench.params, (), seed=1)
            return
        with pytest.raises(CapabilityMissing):
            bench.backend.generate_keys(bench.params, (), seed=1)

    def test_every_refusal_says_what_happened_and_what_to_do(self, bench: Bench) -> None:
        """For refusals below the sessions."""
        decryptor, evaluator = bench.backend.generate_keys(bench.params, (1,))
        good = evaluator.deserialize(decryptor.serialize(decryptor.encrypt(np.ones(2), scale=2.0**SCALE_BITS)))
        for refused in (
            lambda: decryptor.encrypt(np.array([np.nan]), scale=2.0**SCALE_BITS),
            lambda: evaluator.encoder.encode(np.ones(1), level=bench.params.max_level + 1, scale=2.0**SCALE_BITS),
            lambda: evaluator.encoder.encode(np.full(1, 2.0**110), level=0, scale=2.0**SCALE_BITS),
            lambda: evaluator.rotate(good, 2),
            lambda: evaluator.negate(_NO_CIPHERTEXT),
            lambda: evaluator.deserialize(b""),
            lambda: bench.backend.load_evaluator(bench.params, b""),
        ):
            with pytest.raises(HeloraError) as refusal:
                refused()
            assert refusal.value.message.strip()
            assert refusal.value.hint.strip()
