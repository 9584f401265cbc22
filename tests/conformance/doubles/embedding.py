"""Doubles that take coefficients themselves, and misplace them."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from doubles.honest import HonestBackend, HonestDecryptor, HonestEncoder, HonestEvaluator
from doubles.registry import caught_by
from helora_core.backend.capabilities import Encoding
from helora_core.backend.embedding import coefficients_to_slots, slots_to_coefficients
from helora_core.backend.protocol import SLOTS, Values
from helora_numpy.backend import EmulatedCiphertext as Ciphertext


class _Encoder(HonestEncoder):
    """Takes coefficients as the polynomial they are."""

    generator = 5

    def _polynomial(self, values: Values, scale: float, encoding: Encoding) -> Any:
        if encoding is not Encoding.COEFFICIENTS:
            return super()._polynomial(values, scale, encoding)
        coefficients = np.pad(values, (0, self.params.ring_degree - values.size))
        return coefficients_to_slots(self.stored(coefficients), self.params.ring_degree, self.generator)

    def stored(self, coefficients: Values) -> Values:
        """The coefficients as they are stored."""
        return coefficients

    def read(self, coefficients: Values) -> Values:
        """And back."""
        return self.stored(coefficients)


class _Client(HonestDecryptor):
    def decrypt(self, ciphertext: Ciphertext, *, encoding: Encoding = SLOTS) -> Values:
        if encoding is not Encoding.COEFFICIENTS:
            return super().decrypt(ciphertext, encoding=encoding)
        slots = super().decrypt(ciphertext, encoding=Encoding.COMPLEX_SLOTS)
        encoder = self._encoder
        return encoder.read(slots_to_coefficients(slots, self.params.ring_degree, encoder.generator))


class _TakesCoefficients(HonestBackend):
    """Right as it is; a double gives it an encoder that is not."""

    # Of integers, core would make the coefficients itself.
    capabilities = msgspec.structs.replace(
        HonestBackend.capabilities,
        encodings=HonestBackend.capabilities.encodings - {Encoding.INTEGERS} | {Encoding.COEFFICIENTS},
    )

    def __init_subclass__(cls) -> None:
        cls.decryptor_type = type("Client", (_Client,), {"encoder_type": cls.encoder_type})
        cls.evaluator_type = type("Server", (HonestEvaluator,), {"encoder_type": cls.encoder_type})


@caught_by("test_products_of_coefficients_are_negacyclic_convolutions")
class StoresCoefficientsBitReversed(_TakesCoefficients):
    """Coefficients are stored in bit-reversed order.

    The natural order of a number-theoretic transform's other side: round trips do not show it, products do.
    """

    class encoder_type(_Encoder):  # noqa: N801
        def stored(self, coefficients: Values) -> Values:
            bits = coefficients.size.bit_length() - 1
            return coefficients[[int(f"{place:0{bits}b}"[::-1], 2) for place in range(coefficients.size)]]


@caught_by("test_the_constant_coefficient_is_the_same_in_every_slot")
class StoresTheHighestCoefficientFirst(_TakesCoefficients):
    """Coefficients are stored from the highest to the constant one.

    Polynomials as they are written on paper.
    """

    class encoder_type(_Encoder):  # noqa: N801
        def stored(self, coefficients: Values) -> Values:
            return coefficients[::-1]


@caught_by("test_coefficients_round_trip")
class TakesAsManyCoefficientsAsSlots(_TakesCoefficients):
    """The upper half of the coefficients is left out.

    N/2 places, as for slots, where there are N.
    """

    class encoder_type(_Encoder):  # noqa: N801
        def stored(self, coefficients: Values) -> Values:
            return np.where(np.arange(coefficients.size) < coefficients.size // 2, coefficients, 0.0)


@caught_by("test_coefficients_are_those_of_the_polynomial_itself")
class OrdersItsSlotsByAnotherGenerator(_TakesCoefficients):
    """Slot j is the polynomial's value at ζ^(3^j), where 5 is claimed.

    SEAL's generator is 3, the papers' is 5; round trips, products and rotations of slots do not show it.
    """

    class encoder_type(_Encoder):  # noqa: N801
        generator = 3
