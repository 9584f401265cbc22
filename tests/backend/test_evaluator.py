"""The laws of the backend protocol, on each backend as it makes its roles, below sessions and ledger."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from helora_core.backend.capabilities import Encoding
from helora_core.backend.checked_backend import checked
from helora_core.errors import (
    CorruptPayload,
    ForeignCiphertext,
    HeloraError,
    InvalidInput,
    LevelExhausted,
    LevelMismatch,
    MissingRotationKey,
    PrecisionLost,
    ScaleMismatch,
    SlotOverflow,
)

# As the parameters of conftest.py have them.
SLOTS, SCALE, TOP = 512, 2.0**30, 2

# Well above the noise of a few operations at this scale (about 1e-6 each), well below the values, which reach 8.
# The noise itself is the matter of test_noise.py.
CLOSE = 1e-3

law = settings(deadline=None, max_examples=25)
sizes = st.integers(1, SLOTS)
seeds = st.integers(0, 2**32 - 1)


def vector(seed: int, size: int = SLOTS) -> NDArray[np.float64]:
    return np.random.default_rng(seed).uniform(-8, 8, size)


def padded(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.pad(values, (0, SLOTS - values.size))


def assert_close(found: NDArray[np.float64], expected: NDArray[np.float64]) -> None:
    assert found.shape == (SLOTS,)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=0, atol=CLOSE)


def at_level(roles: Any, values: NDArray[np.float64], level: int) -> Any:
    """A ciphertext of the values that came down to ``level`` by products with 1."""
    ciphertext = roles.uploaded(values)
    while roles.evaluator.level(ciphertext) > level:
        here = roles.evaluator.level(ciphertext)
        one = roles.evaluator.encoder.encode(np.ones(SLOTS), level=here, scale=float(roles.params.data_primes[here]))
        ciphertext = roles.evaluator.rescale(roles.evaluator.multiply_plain(ciphertext, one))
    return ciphertext


class TestEncryption:
    @law
    @given(size=sizes, seed=seeds)
    def test_decrypting_gives_the_values_then_zeros(self, roles: Any, size: int, seed: int) -> None:
        values = vector(seed, size)
        assert_close(roles.decryptor.decrypt(roles.decryptor.encrypt(values, scale=SCALE)), padded(values))
        assert_close(roles.decrypted(roles.uploaded(values)), padded(values))

    def test_a_fresh_ciphertext_is_at_the_top_with_the_scale_asked_for(self, roles: Any) -> None:
        for scale in (SCALE, 2.0**25, 3e8):
            fresh = roles.decryptor.encrypt(vector(0), scale=scale)
            for role, ciphertext in ((roles.decryptor, fresh), (roles.evaluator, roles.uploaded(vector(0), scale))):
                assert role.level(ciphertext) == TOP == roles.params.max_level
                assert role.scale(ciphertext) == scale

    def test_the_same_values_never_encrypt_to_the_same_bytes(self, roles: Any) -> None:
        fresh = {roles.decryptor.serialize(roles.decryptor.encrypt(vector(0), scale=SCALE)) for _ in range(4)}
        assert len(fresh) == 4

    def test_serialising_keeps_level_scale_and_values(self, roles: Any) -> None:
        for level in (TOP, 1, 0):
            ciphertext = at_level(roles, vector(1), level)
            read = roles.decryptor.deserialize(roles.evaluator.serialize(ciphertext))
            assert roles.decryptor.level(read) == level
            assert roles.decryptor.scale(read) == roles.evaluator.scale(ciphertext)
            assert np.array_equal(roles.decryptor.decrypt(read), roles.decrypted(ciphertext))


class TestRotation:
    @law
    @given(data=st.data(), size=sizes, seed=seeds)
    def test_rotate_by_k_is_np_roll_by_minus_k(self, roles: Any, data: st.DataObject, size: int, seed: int) -> None:
        steps, values = data.draw(st.sampled_from(roles.steps)), vector(seed, size)
        rotated = roles.evaluator.rotate(roles.uploaded(values), steps)
        assert_close(roles.decrypted(rotated), np.roll(padded(values), -steps))

    def test_slot_k_comes_to_slot_0_and_slot_0_wraps_to_the_end(self, roles: Any) -> None:
        found = roles.decrypted(roles.evaluator.rotate(roles.uploaded(np.arange(SLOTS) / SLOTS), 5))
        assert found[0] == pytest.approx(5 / SLOTS, abs=CLOSE)
        assert found[-5] == pytest.approx(0, abs=CLOSE)

    @pytest.mark.parametrize("turns", [-2, -1, 1, 3])
    def test_steps_are_taken_modulo_the_slots(self, roles: Any, turns: int) -> None:
        rotated = roles.evaluator.rotate(roles.uploaded(vector(0)), 5 + turns * SLOTS)
        assert_close(roles.decrypted(rotated), np.roll(vector(0), -5))

    @pytest.mark.parametrize("steps", [1, 2])
    def test_rotate_by_k_then_minus_k_is_identity(self, roles: Any, steps: int) -> None:
        there = roles.evaluator.rotate(roles.uploaded(vector(0)), steps)
        assert_close(roles.decrypted(roles.evaluator.rotate(there, -steps)), vector(0))

    def test_rotations_add_up(self, roles: Any) -> None:
        ciphertext = roles.uploaded(vector(0))
        composed = roles.evaluator.rotate(roles.evaluator.rotate(ciphertext, 2), 5)
        assert_close(roles.decrypted(composed), roles.decrypted(roles.evaluator.rotate(ciphertext, 7)))

    @pytest.mark.parametrize("steps", [0, SLOTS, -SLOTS])
    def test_rotation_by_zero_adds_not_even_noise(self, roles: Any, steps: int) -> None:
        ciphertext = roles.uploaded(vector(0))
        same = roles.evaluator.rotate(ciphertext, steps)
        assert np.array_equal(roles.decrypted(same), roles.decrypted(ciphertext))

    @pytest.mark.parametrize("level", [TOP, 1, 0])
    def test_rotation_works_at_every_level_and_keeps_level_and_scale(self, roles: Any, level: int) -> None:
        ciphertext = at_level(roles, vector(0), level)
        rotated = roles.evaluator.rotate(ciphertext, 7)
        assert_close(roles.decrypted(rotated), np.roll(vector(0), -7))
        assert roles.evaluator.level(rotated) == level
        assert roles.evaluator.scale(rotated) == roles.evaluator.scale(ciphertext)

    # Sums, differences and the non-adjacent forms (3 = 4 - 1, 6 = 8 - 2) that libraries compose rotations from.
    @pytest.mark.parametrize("steps", [3, 6, 8, 9, 10, SLOTS // 2 + 1, SLOTS - 3, -4, -7])
    def test_a_step_without_its_own_key_is_refused(self, roles: Any, steps: int) -> None:
        with pytest.raises(MissingRotationKey, match=f"by {steps % SLOTS}"):
            roles.evaluator.rotate(roles.uploaded(vector(0)), steps)

    def test_without_steps_there_is_no_rotation_but_by_zero(self, backend: Any, quick: Any) -> None:
        params = backend.resolve(quick)
        decryptor, evaluator = checked(backend).generate_keys(params, ())
        ciphertext = evaluator.deserialize(decryptor.serialize(decryptor.encrypt(vector(0), scale=SCALE)))
        same = decryptor.deserialize(evaluator.serialize(evaluator.rotate(ciphertext, 0)))
        assert_close(decryptor.decrypt(same), vector(0))
        with pytest.raises(MissingRotationKey):
            evaluator.rotate(ciphertext, 1)


LINEAR: dict[str, Callable[[Any, Any, Any], object]] = {
    "add": lambda evaluator, left, right: evaluator.add(left, right),
    "sub": lambda evaluator, left, right: evaluator.sub(left, right),
}


class TestAddition:
    @law
    @given(seed=seeds)
    def test_adds_and_subtracts_slot_by_slot(self, roles: Any, seed: int) -> None:
        left, right = vector(seed), vector(seed + 1)
        a, b = roles.uploaded(left), roles.uploaded(right)
        assert_close(roles.decrypted(roles.evaluator.add(a, b)), left + right)
        assert_close(roles.decrypted(roles.evaluator.add(b, a)), left + right)
        assert_close(roles.decrypted(roles.evaluator.sub(a, b)), left - right)
        assert_close(roles.decrypted(roles.evaluator.sub(b, a)), right - left)

    @law
    @given(size=sizes, seed=seeds)
    def test_a_plaintext_may_be_added(self, roles: Any, size: int, seed: int) -> None:
        left, right = vector(seed), vector(seed + 1, size)
        plaintext = roles.evaluator.encoder.encode(right, level=TOP, scale=SCALE)
        assert_close(roles.decrypted(roles.evaluator.add_plain(roles.uploaded(left), plaintext)), left + padded(right))

    def test_a_negative_keeps_level_and_scale(self, roles: Any) -> None:
        for level in (TOP, 0):
            ciphertext = at_level(roles, vector(0), level)
            negative = roles.evaluator.negate(ciphertext)
            assert_close(roles.decrypted(negative), -vector(0))
            assert roles.evaluator.level(negative) == level
            assert roles.evaluator.scale(negative) == roles.evaluator.scale(ciphertext)

    def test_a_plaintext_of_another_scale_or_level_is_not_added(self, roles: Any) -> None:
        ciphertext = roles.uploaded(vector(0))
        with pytest.raises(ScaleMismatch):
            roles.evaluator.add_plain(ciphertext, roles.evaluator.encoder.encode(vector(1), level=TOP, scale=SCALE * 2))
        with pytest.raises(LevelMismatch):
            roles.evaluator.add_plain(ciphertext, roles.evaluator.encoder.encode(vector(1), level=1, scale=SCALE))

    def test_a_ciphertext_may_be_added_to_itself(self, roles: Any) -> None:
        a = roles.uploaded(vector(0))
        assert_close(roles.decrypted(roles.evaluator.add(a, a)), 2 * vector(0))

    def test_keeps_level_and_scale(self, roles: Any) -> None:
        for level in (TOP, 0):
            a = at_level(roles, vector(0), level)
            total = roles.evaluator.add(a, a)
            assert roles.evaluator.level(total) == level
            assert roles.evaluator.scale(total) == roles.evaluator.scale(a)

    def test_what_cancels_is_zero_or_refused(self, roles: Any) -> None:
        """SEAL refuses results without a secret in them; nothing else than a refusal by name may come of it."""
        a = roles.uploaded(vector(0))
        plus, minus = (
            roles.evaluator.multiply_plain(a, roles.evaluator.encoder.encode(sign * vector(1), level=TOP, scale=SCALE))
            for sign in (1, -1)
        )
        for cancel in (lambda: roles.evaluator.add(plus, minus), lambda: roles.evaluator.sub(a, a)):
            with contextlib.suppress(InvalidInput):
                assert_close(roles.decrypted(cancel()), np.zeros(SLOTS))

    @pytest.mark.parametrize("operation", LINEAR)
    @pytest.mark.parametrize("scale", [2.0**31, SCALE * (1 + 2**-40)])
    def test_scales_that_differ_in_the_least_are_refused(self, roles: Any, operation: str, scale: float) -> None:
        with pytest.raises(ScaleMismatch):
            LINEAR[operation](roles.evaluator, roles.uploaded(vector(0)), roles.uploaded(vector(1), scale))

    def test_the_scales_of_another_order_of_primes_are_refused(self, roles: Any) -> None:
        """Nominally 2^30 both; the primes dropped on the way are not."""
        nominal = roles.evaluator.encoder.encode(np.ones(SLOTS), level=TOP, scale=2.0**34)
        drifted = roles.evaluator.rescale(roles.evaluator.multiply_plain(roles.uploaded(vector(0)), nominal))
        with pytest.raises(ScaleMismatch):
            roles.evaluator.add(drifted, at_level(roles, vector(0), 1))

    @pytest.mark.parametrize("operation", LINEAR)
    def test_levels_that_differ_are_refused(self, roles: Any, operation: str) -> None:
        for left, right in ((TOP, 1), (0, 1)):
            with pytest.raises(LevelMismatch, match=f"{left} and {right}"):
                LINEAR[operation](roles.evaluator, at_level(roles, vector(0), left), at_level(roles, vector(0), right))


class TestProduct:
    @law
    @given(size=sizes, seed=seeds)
    def test_multiplies_slot_by_slot_with_zeros_past_the_end(self, roles: Any, size: int, seed: int) -> None:
        values, factor = vector(seed), vector(seed + 1, size) / 8
        product = roles.evaluator.multiply_plain(
            roles.uploaded(values), roles.evaluator.encoder.encode(factor, level=TOP, scale=SCALE)
        )
        assert_close(roles.decrypted(product), values * padded(factor))

    def test_scales_multiply_and_the_level_stays(self, roles: Any) -> None:
        for level in (TOP, 1, 0):
            ciphertext = at_level(roles, np.ones(SLOTS), level)
            plaintext = roles.evaluator.encoder.encode(np.ones(SLOTS), level=level, scale=3.0)
            product = roles.evaluator.multiply_plain(ciphertext, plaintext)
            assert roles.evaluator.level(product) == level
            assert roles.evaluator.scale(product) == roles.evaluator.scale(ciphertext) * 3.0

    @pytest.mark.parametrize("zeros", [np.zeros(1), np.zeros(SLOTS), np.full(SLOTS, 1e-15), np.full(3, -5e-324)])
    def test_a_plaintext_of_zeros_gives_zeros(self, roles: Any, zeros: NDArray[np.float64]) -> None:
        ciphertext = roles.uploaded(vector(0))
        plaintext = roles.evaluator.encoder.encode(zeros, level=TOP, scale=SCALE)
        product = roles.evaluator.multiply_plain(ciphertext, plaintext)
        assert_close(roles.decrypted(product), np.zeros(SLOTS))
        assert roles.evaluator.scale(product) == SCALE * SCALE
        ones = roles.evaluator.encoder.encode(np.ones(SLOTS), level=TOP, scale=SCALE)
        total = roles.evaluator.add(product, roles.evaluator.multiply_plain(ciphertext, ones))
        assert_close(roles.decrypted(total), vector(0))

    def test_a_plaintext_for_another_level_is_refused(self, roles: Any) -> None:
        for held, encoded in ((TOP, 1), (0, 1)):
            plaintext = roles.evaluator.encoder.encode(vector(0), level=encoded, scale=SCALE)
            with pytest.raises(LevelMismatch, match=f"{held} and {encoded}"):
                roles.evaluator.multiply_plain(at_level(roles, vector(0), held), plaintext)

    def test_a_scale_that_outgrows_the_modulus_is_refused(self, roles: Any) -> None:
        ciphertext = at_level(roles, vector(0), 0)
        plaintext = roles.evaluator.encoder.encode(np.ones(SLOTS), level=0, scale=2.0**20)
        with pytest.raises(PrecisionLost):
            roles.evaluator.multiply_plain(ciphertext, plaintext)

    def test_a_plaintext_of_other_parameters_is_refused(self, backend: Any, roles: Any, quick: Any) -> None:
        other = backend.resolve(msgspec.structs.replace(quick, ring_degree=2048))
        _, evaluator = checked(backend).generate_keys(other, ())
        with pytest.raises(ForeignCiphertext):
            roles.evaluator.multiply_plain(
                roles.uploaded(vector(0)), evaluator.encoder.encode(vector(0), level=TOP, scale=SCALE)
            )

    def test_a_ciphertext_in_the_place_of_a_plaintext_is_refused(self, roles: Any) -> None:
        ciphertext = roles.uploaded(vector(0))
        with pytest.raises(HeloraError):
            roles.evaluator.multiply_plain(ciphertext, ciphertext)


class TestRescale:
    def test_takes_one_level_and_divides_the_scale_by_the_very_prime(self, roles: Any) -> None:
        ciphertext = roles.uploaded(vector(0), 2.0**60)
        scale = 2.0**60
        for level in (1, 0):
            ciphertext = roles.evaluator.rescale(ciphertext)
            scale /= roles.params.data_primes[level + 1]
            assert roles.evaluator.level(ciphertext) == level
            assert roles.evaluator.scale(ciphertext) == pytest.approx(scale, rel=1e-12)
            if level:
                assert_close(roles.decrypted(ciphertext), vector(0))

    def test_keeps_the_values_of_a_product(self, roles: Any) -> None:
        factor = roles.evaluator.encoder.encode(vector(1), level=TOP, scale=float(roles.params.data_primes[TOP]))
        product = roles.evaluator.rescale(roles.evaluator.multiply_plain(roles.uploaded(vector(0)), factor))
        assert roles.evaluator.scale(product) == pytest.approx(SCALE, rel=1e-12)
        assert_close(roles.decrypted(product), vector(0) * vector(1))

    def test_below_the_last_level_there_is_none(self, roles: Any) -> None:
        with pytest.raises(LevelExhausted):
            roles.evaluator.rescale(at_level(roles, vector(0), 0))

    @pytest.mark.parametrize("level", [TOP + 1, -1])
    def test_plaintexts_cannot_be_encoded_at_levels_that_do_not_exist(self, roles: Any, level: int) -> None:
        with pytest.raises(LevelExhausted, match=str(level)):
            roles.evaluator.encoder.encode(vector(0), level=level, scale=SCALE)


BAD_VALUES: dict[str, tuple[Any, type[HeloraError]]] = {
    "nan": (np.array([1.0, np.nan]), InvalidInput),
    "inf": (np.array([np.inf]), InvalidInput),
    "two dimensions": (np.ones((2, 2)), InvalidInput),
    "ints": (np.ones(2, dtype=np.int64), InvalidInput),
    "complex": (np.ones(2, dtype=np.complex128), InvalidInput),
    "empty": (np.zeros(0), InvalidInput),
    "list": ([1.0, 2.0], InvalidInput),
    "too many": (np.ones(SLOTS + 1), SlotOverflow),
    "too large": (np.full(SLOTS, 2.0**83), PrecisionLost),
    "huge": (np.full(SLOTS, 1e300), PrecisionLost),
}


class TestDoor:
    @pytest.mark.parametrize("bad", BAD_VALUES)
    def test_both_roles_refuse_values_that_ckks_cannot_hold(self, roles: Any, bad: str) -> None:
        values, error = BAD_VALUES[bad]
        with pytest.raises(error):
            roles.decryptor.encrypt(values, scale=SCALE)
        with pytest.raises(error):
            roles.evaluator.encoder.encode(values, level=TOP, scale=SCALE)

    def test_what_fits_the_modulus_at_the_top_need_not_fit_it_below(self, roles: Any) -> None:
        large = np.full(SLOTS, 2.0**20)
        roles.evaluator.encoder.encode(large, level=TOP, scale=SCALE)
        with pytest.raises(PrecisionLost):
            roles.evaluator.encoder.encode(large, level=0, scale=SCALE)

    @pytest.mark.parametrize("scale", [2.0**120, 0.0, -SCALE, float("nan"), float("inf")])
    def test_a_scale_that_cannot_be_is_refused(self, roles: Any, scale: float) -> None:
        with pytest.raises(HeloraError):
            roles.decryptor.encrypt(vector(0), scale=scale)
        with pytest.raises(HeloraError):
            roles.evaluator.encoder.encode(vector(0), level=TOP, scale=scale)


OPERATIONS: dict[str, Callable[[Any, Any], object]] = {
    "add": lambda evaluator, ct: evaluator.add(ct, ct),
    "multiply_plain": lambda evaluator, ct: evaluator.multiply_plain(
        ct, evaluator.encoder.encode(vector(1), level=TOP, scale=SCALE)
    ),
    "sub": lambda evaluator, ct: evaluator.sub(evaluator.add(ct, ct), ct),
    "negate": lambda evaluator, ct: evaluator.negate(ct),
    "add_plain": lambda evaluator, ct: evaluator.add_plain(
        ct, evaluator.encoder.encode(vector(1), level=TOP, scale=SCALE)
    ),
    "rotate": lambda evaluator, ct: evaluator.rotate(ct, 1),
    "rotate by 0": lambda evaluator, ct: evaluator.rotate(ct, 0),
    "rescale": lambda evaluator, ct: evaluator.rescale(ct),
    "serialize": lambda evaluator, ct: evaluator.serialize(ct),
}


class TestOwnership:
    @pytest.mark.parametrize("operation", OPERATIONS)
    def test_no_operation_alters_its_arguments(self, roles: Any, operation: str) -> None:
        ciphertext = roles.uploaded(vector(0))
        before = roles.evaluator.serialize(ciphertext)
        OPERATIONS[operation](roles.evaluator, ciphertext)
        assert roles.evaluator.serialize(ciphertext) == before

    def test_a_plaintext_may_be_used_again(self, roles: Any) -> None:
        plaintext = roles.evaluator.encoder.encode(vector(1), level=TOP, scale=SCALE)
        for seed in (2, 3):
            product = roles.evaluator.multiply_plain(roles.uploaded(vector(seed)), plaintext)
            assert_close(roles.decrypted(product), vector(seed) * vector(1))

    def test_values_given_are_neither_altered_nor_kept(self, roles: Any) -> None:
        values = vector(0)
        fresh = roles.decryptor.encrypt(values, scale=SCALE)
        assert np.array_equal(values, vector(0))
        values[:] = 0
        assert_close(roles.decryptor.decrypt(fresh), vector(0))

    def test_what_decrypt_gives_is_the_callers_own(self, roles: Any) -> None:
        fresh = roles.decryptor.encrypt(vector(0), scale=SCALE)
        for encoding in Encoding.SLOTS, Encoding.COMPLEX_SLOTS, Encoding.SCALAR:
            roles.decryptor.decrypt(fresh, encoding=encoding)[:] = 0
        assert_close(roles.decryptor.decrypt(fresh), vector(0))

    @pytest.mark.parametrize("operation", OPERATIONS)
    def test_every_operation_refuses_a_ciphertext_of_other_keys(
        self, roles: Any, other_roles: Any, operation: str
    ) -> None:
        with pytest.raises(ForeignCiphertext):
            OPERATIONS[operation](roles.evaluator, other_roles.uploaded(vector(0)))

    def test_addition_refuses_a_foreign_operand_on_either_side(self, roles: Any, other_roles: Any) -> None:
        ours, theirs = roles.uploaded(vector(0)), other_roles.uploaded(vector(0))
        for operation in LINEAR.values():
            for operands in ((ours, theirs), (theirs, ours)):
                with pytest.raises(ForeignCiphertext):
                    operation(roles.evaluator, *operands)

    @pytest.mark.parametrize("form", ["fresh", "uploaded"])
    def test_the_client_refuses_a_ciphertext_of_other_keys(self, roles: Any, other_roles: Any, form: str) -> None:
        theirs = other_roles.decryptor.encrypt(vector(0), scale=SCALE)
        if form == "uploaded":
            theirs = other_roles.uploaded(vector(0))
        for use in (roles.decryptor.decrypt, roles.decryptor.serialize):
            with pytest.raises(ForeignCiphertext):
                use(theirs)

    @pytest.mark.parametrize("strange", [None, 3, b"bytes", np.ones(SLOTS)])
    def test_what_is_no_ciphertext_is_refused(self, roles: Any, strange: Any) -> None:
        for operation in OPERATIONS.values():
            with pytest.raises(HeloraError):
                operation(roles.evaluator, strange)
        with pytest.raises(HeloraError):
            roles.decryptor.decrypt(strange)


class TestEvaluationKeys:
    """As the backend reads them, without the sessions' checks."""

    def test_they_make_an_evaluator_with_the_same_keys(self, backend: Any, roles: Any) -> None:
        evaluator = checked(backend).load_evaluator(roles.params, roles.decryptor.evaluation_keys())
        assert evaluator.key_id == roles.decryptor.key_id
        rotated = evaluator.rotate(roles.uploaded(vector(0)), 5)
        assert_close(roles.decrypted(rotated), np.roll(vector(0), -5))

    def test_bytes_that_are_no_keys_are_refused(self, backend: Any, roles: Any) -> None:
        keys = roles.decryptor.evaluation_keys()
        for payload in (b"", b"\x00", b"\xc1", keys[:-1], keys[1:], keys[: len(keys) // 2], b"\0" + keys, keys + b"\0"):
            with pytest.raises(CorruptPayload):
                checked(backend).load_evaluator(roles.params, payload)

    def test_altered_bytes_are_read_or_refused_by_name(self, backend: Any, roles: Any) -> None:
        keys = roles.decryptor.evaluation_keys()
        rng = np.random.default_rng(0)
        refused = 0
        for _ in range(50):
            altered = bytearray(keys)
            altered[rng.integers(min(len(keys), 60))] = rng.integers(256)
            try:
                checked(backend).load_evaluator(roles.params, bytes(altered))
            except CorruptPayload:
                refused += 1
        assert refused > 15
