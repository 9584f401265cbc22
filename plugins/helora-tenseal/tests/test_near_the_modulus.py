"""The slots of random coefficients are √N times as large as they; what must fit the modulus is the coefficients."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from helora_core.backend.capabilities import Encoding
from helora_core.backend.checked_backend import checked
from helora_core.backend.embedding import coefficients_to_slots
from helora_core.backend.residues import values_of
from helora_core.errors import PrecisionLost
from helora_core.params.ckks import CKKSParams
from helora_tenseal.backend import TenSEALBackend, TenSEALEvaluator
from helora_tenseal.residues import from_plaintext

BACKEND = checked(TenSEALBackend())
PARAMS = BACKEND.resolve(CKKSParams(ring_degree=8192, data_bits=(53, 52, 53), special_bits=(56,), scale_bits=75))


@pytest.fixture(scope="module")
def server() -> TenSEALEvaluator:
    return BACKEND.generate_keys(PARAMS, ())[1]


def coefficients(bits: int) -> NDArray[np.float64]:
    return np.random.default_rng(5).choice([-1.0, 1.0], size=PARAMS.ring_degree) * 2.0**bits


def test_slots_beyond_the_modulus_encode_exactly_if_their_coefficients_fit(server: TenSEALEvaluator) -> None:
    wanted = coefficients(PARAMS.data_bits[0] - 3)
    slots = coefficients_to_slots(wanted, PARAMS.ring_degree, BACKEND.capabilities.slot_generator)
    assert np.max(np.abs(slots)) > 2.0 ** PARAMS.data_bits[0]
    plaintext = server.encoder.encode(slots, level=0, scale=1.0, encoding=Encoding.COMPLEX_SLOTS)
    encoded = values_of(from_plaintext(plaintext.data, PARAMS.data_primes[:1]), PARAMS.data_primes[:1], 1.0)
    assert np.max(np.abs(encoded - wanted)) < 2.0**-46 * np.max(np.abs(wanted))


def test_coefficients_beyond_it_are_refused(server: TenSEALEvaluator) -> None:
    slots = coefficients_to_slots(
        coefficients(PARAMS.data_bits[0]), PARAMS.ring_degree, BACKEND.capabilities.slot_generator
    )
    with pytest.raises(PrecisionLost, match=r"do not fit the .* modulus of level 0"):
        server.encoder.encode(slots, level=0, scale=1.0, encoding=Encoding.COMPLEX_SLOTS)
