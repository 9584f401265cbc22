"""What every backend refuses and promises as it makes its roles, beyond the laws of the conformance kit.

The kit has the laws of arithmetic, levels, scales, rotations, ownership and messages, and its doubles show that each is
tested (``tests/conformance``); here are odd values and doors that it leaves out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from helora_core.backend.capabilities import Encoding
from helora_core.backend.checked_backend import checked
from helora_core.errors import CorruptPayload, ForeignCiphertext, HeloraError, MissingRotationKey

# As the parameters of conftest.py have them.
SLOTS, SCALE, TOP = 512, 2.0**30, 2

# Well above the noise of a few operations at this scale (about 1e-6 each), well below the values, which reach 8.
CLOSE = 1e-3


def vector(seed: int, size: int = SLOTS) -> NDArray[np.float64]:
    return np.random.default_rng(seed).uniform(-8, 8, size)


def assert_close(found: NDArray[np.float64], expected: NDArray[np.float64]) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=CLOSE)


@pytest.mark.parametrize("steps", [0, SLOTS, -SLOTS])
def test_rotation_by_zero_adds_not_even_noise(roles: Any, steps: int) -> None:
    ciphertext = roles.uploaded(vector(0))
    same = roles.evaluator.rotate(ciphertext, steps)
    assert np.array_equal(roles.decrypted(same), roles.decrypted(ciphertext))


def test_without_steps_there_is_no_rotation_but_by_zero(backend: Any, quick: Any) -> None:
    params = backend.resolve(quick)
    decryptor, evaluator = checked(backend).generate_keys(params, ())
    ciphertext = evaluator.deserialize(decryptor.serialize(decryptor.encrypt(vector(0), scale=SCALE)))
    same = decryptor.deserialize(evaluator.serialize(evaluator.rotate(ciphertext, 0)))
    assert_close(decryptor.decrypt(same), vector(0))
    with pytest.raises(MissingRotationKey):
        evaluator.rotate(ciphertext, 1)


@pytest.mark.parametrize("zeros", [np.zeros(1), np.zeros(SLOTS), np.full(SLOTS, 1e-15), np.full(3, -5e-324)])
def test_a_plaintext_of_zeros_gives_zeros(roles: Any, zeros: NDArray[np.float64]) -> None:
    ciphertext = roles.uploaded(vector(0))
    plaintext = roles.evaluator.encoder.encode(zeros, level=TOP, scale=SCALE)
    product = roles.evaluator.multiply_plain(ciphertext, plaintext)
    assert_close(roles.decrypted(product), np.zeros(SLOTS))
    assert roles.evaluator.scale(product) == SCALE * SCALE
    ones = roles.evaluator.encoder.encode(np.ones(SLOTS), level=TOP, scale=SCALE)
    total = roles.evaluator.add(product, roles.evaluator.multiply_plain(ciphertext, ones))
    assert_close(roles.decrypted(total), vector(0))


@pytest.mark.parametrize("scale", [2.0**120, 0.0, -SCALE, float("nan"), float("inf")])
def test_a_scale_that_cannot_be_is_refused(roles: Any, scale: float) -> None:
    with pytest.raises(HeloraError):
        roles.decryptor.encrypt(vector(0), scale=scale)
    with pytest.raises(HeloraError):
        roles.evaluator.encoder.encode(vector(0), level=TOP, scale=scale)


def test_what_decrypt_gives_is_the_callers_own(roles: Any) -> None:
    fresh = roles.decryptor.encrypt(vector(0), scale=SCALE)
    for encoding in Encoding.SLOTS, Encoding.COMPLEX_SLOTS, Encoding.SCALAR:
        roles.decryptor.decrypt(fresh, encoding=encoding)[:] = 0
    assert_close(roles.decryptor.decrypt(fresh), vector(0))


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


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_takes_ciphertexts_of_its_own_keys_alone_and_leaves_them_as_they_are(
    roles: Any, other_roles: Any, operation: str
) -> None:
    ciphertext = roles.uploaded(vector(0))
    before = roles.evaluator.serialize(ciphertext)
    OPERATIONS[operation](roles.evaluator, ciphertext)
    assert roles.evaluator.serialize(ciphertext) == before
    with pytest.raises(ForeignCiphertext):
        OPERATIONS[operation](roles.evaluator, other_roles.uploaded(vector(0)))
    for strange in (None, 3, b"bytes", np.ones(SLOTS)):
        with pytest.raises(HeloraError):
            OPERATIONS[operation](roles.evaluator, strange)


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
