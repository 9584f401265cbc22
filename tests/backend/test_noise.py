"""Noise as measured on each backend, against ``helora_core.params.noise``, which parameters are chosen by.

Rotations are averaged over several keys: SEAL does not centre the digits of a key switch, so a few slots (those whose
root of unity is nearest to 1) carry much of one key's mean square.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest

from helora_core.backend.checked_backend import checked
from helora_core.params import noise
from helora_core.params.ckks import CKKSParams

EQUAL = CKKSParams(ring_degree=1024, data_bits=(48, 30, 34), special_bits=(48,), scale_bits=30)
# The digits of the base prime, not the rounding, make the noise of a key switch here.
SHORT_SPECIAL = msgspec.structs.replace(EQUAL, special_bits=(46,))
WIDE = msgspec.structs.replace(EQUAL, ring_degree=4096)
# One prime less than the special one: what is left is the rounding of the division by it.
LONG_SPECIAL = msgspec.structs.replace(EQUAL, special_bits=(60,))
SCALE = 2.0**30

params = pytest.mark.parametrize("params", [EQUAL, WIDE], ids=["N=1024", "N=4096"])


def measured_std(backend: Any, params: CKKSParams, run: Callable[..., Any], *, keys: int = 1, runs: int = 4) -> float:
    """Root mean square over slots, runs and keys of ``run(params, decryptor, evaluator)``, in units of 1/scale."""
    resolved = backend.resolve(params)
    pairs = [checked(backend).generate_keys(resolved, (1,)) for _ in range(keys)]
    errors = np.concatenate([run(resolved, *pair) for pair in pairs for _ in range(runs)])
    assert abs(np.mean(errors)) < np.std(errors) / 8, "noise is centred"
    return float(np.sqrt(np.mean(errors**2)))


def random_values(params: CKKSParams) -> Any:
    return np.random.default_rng().uniform(-1, 1, params.slots)


def uploaded(decryptor: Any, evaluator: Any, values: Any, scale: float = SCALE) -> Any:
    return evaluator.deserialize(decryptor.serialize(decryptor.encrypt(values, scale=scale)))


def brought_down(params: CKKSParams, evaluator: Any, ciphertext: Any, to: int) -> Any:
    """The same values at level ``to``, by products with 1."""
    for level in range(evaluator.level(ciphertext), to, -1):
        one = evaluator.encoder.encode(np.ones(params.slots), level=level, scale=float(params.data_primes[level]))
        ciphertext = evaluator.rescale(evaluator.multiply_plain(ciphertext, one))
    return ciphertext


def assert_predicted(found: float, predicted: float) -> None:
    assert 0.6 < found / predicted < 1.6, f"{found:.1f} measured, {predicted:.1f} predicted"


@params
def test_a_fresh_encryption_has_the_predicted_noise(backend: Any, params: CKKSParams) -> None:
    def run(params: CKKSParams, decryptor: Any, evaluator: Any) -> Any:
        values = random_values(params)
        return (decryptor.decrypt(decryptor.encrypt(values, scale=SCALE)) - values) * SCALE

    n = params.ring_degree
    assert_predicted(measured_std(backend, params, run), np.hypot(noise.encryption_std(n), noise.encoding_std(n)))


@params
def test_encoding_a_plaintext_has_the_predicted_noise(backend: Any, params: CKKSParams) -> None:
    def run(params: CKKSParams, decryptor: Any, evaluator: Any) -> Any:
        factor = random_values(params)
        ones = uploaded(decryptor, evaluator, np.ones(params.slots))
        product = evaluator.multiply_plain(ones, evaluator.encoder.encode(factor, level=2, scale=2.0**10))
        return (decryptor.decrypt(product) - factor) * 2.0**10

    assert_predicted(measured_std(backend, params, run), noise.encoding_std(params.ring_degree))


@params
def test_a_rescale_has_the_predicted_noise(backend: Any, params: CKKSParams) -> None:
    def run(params: CKKSParams, decryptor: Any, evaluator: Any) -> Any:
        values = random_values(params)
        rescaled = evaluator.rescale(uploaded(decryptor, evaluator, values, scale=2.0**60))
        return (decryptor.decrypt(rescaled) - values) * evaluator.scale(rescaled)

    assert_predicted(measured_std(backend, params, run), noise.rescale_std(params.ring_degree))


@pytest.mark.parametrize(
    ("params", "level"),
    [(EQUAL, 2), (SHORT_SPECIAL, 0), (LONG_SPECIAL, 1)],
    ids=["equal special, top", "short special, bottom", "long special, middle"],
)
def test_a_rotation_has_the_predicted_noise(backend: Any, params: CKKSParams, level: int) -> None:
    def run(params: CKKSParams, decryptor: Any, evaluator: Any) -> Any:
        ciphertext = brought_down(params, evaluator, uploaded(decryptor, evaluator, random_values(params)), level)
        rotated = decryptor.decrypt(evaluator.rotate(ciphertext, 1))
        return (rotated - np.roll(decryptor.decrypt(ciphertext), -1)) * evaluator.scale(ciphertext)

    predicted = noise.keyswitch_std(params.ring_degree, params.data_bits[: level + 1], sum(params.special_bits))
    assert_predicted(measured_std(backend, params, run, keys=10, runs=1), predicted)
