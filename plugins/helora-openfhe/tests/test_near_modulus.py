"""Plaintexts near the modulus: what must fit it is coefficients, whose slots may be √N times as large and more."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

import helora_openfhe
from helora_core.backend.capabilities import Encoding
from helora_core.backend.checked_backend import checked
from helora_core.backend.embedding import coefficients_to_slots, slots_to_coefficients
from helora_core.errors import PrecisionLost
from helora_core.params.ckks import CKKSParams

REASON = helora_openfhe.availability()
if REASON is not None:
    pytest.skip(REASON, allow_module_level=True)

from helora_openfhe.backend import OpenFHEBackend  # noqa: E402 - needs the library

BACKEND = checked(OpenFHEBackend())
PARAMS = BACKEND.resolve(CKKSParams(ring_degree=1024, data_bits=(45, 30), special_bits=(60,), scale_bits=30))
N = PARAMS.ring_degree
MODULUS = PARAMS.data_primes[0] * PARAMS.data_primes[1]


def slots(size: float) -> NDArray[np.complex128]:
    """Of coefficients of random signs; ``size`` in integer units."""
    signs = np.random.default_rng(1).choice([-1.0, 1.0], size=N)
    return coefficients_to_slots(signs * size / 2.0**PARAMS.scale_bits, N)


def test_slots_beyond_the_modulus_are_encoded_if_their_coefficients_fit() -> None:
    client, server = BACKEND.generate_keys(PARAMS, ())
    values = slots(MODULUS / 8)
    assert np.max(np.abs(values)) * 2.0**PARAMS.scale_bits > MODULUS
    plaintext = server.encoder.encode(values, level=1, scale=2.0**PARAMS.scale_bits, encoding=Encoding.COMPLEX_SLOTS)
    zero = client.encrypt(np.zeros(1), scale=2.0**PARAMS.scale_bits)
    seen = client.decrypt(server.add_plain(zero, plaintext), encoding=Encoding.COMPLEX_SLOTS)
    error = slots_to_coefficients(seen - values, N) * 2.0**PARAMS.scale_bits
    assert np.max(np.abs(error)) < MODULUS * 2.0**-45


def test_coefficients_beyond_it_are_refused() -> None:
    _, server = BACKEND.generate_keys(PARAMS, ())
    with pytest.raises(PrecisionLost, match=r"do not fit the .* modulus of level 1"):
        server.encoder.encode(
            slots(MODULUS / 2), level=1, scale=2.0**PARAMS.scale_bits, encoding=Encoding.COMPLEX_SLOTS
        )
