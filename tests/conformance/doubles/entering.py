"""Doubles that let in what no ciphertext should be made of, or refuse it without a word."""

from __future__ import annotations

import numpy as np

from doubles.honest import HonestBackend, HonestDecryptor, HonestEncoder, HonestEvaluator, HonestRole
from doubles.registry import caught_by
from helora_core.backend.capabilities import Encoding
from helora_core.backend.protocol import SLOTS, Values
from helora_core.errors import CorruptPayload
from helora_core.params.ckks import CKKSParams
from helora_numpy.backend import EmulatedCiphertext as Ciphertext
from helora_numpy.backend import EmulatedPlaintext as Plaintext


@caught_by("test_every_refusal_says_what_happened_and_what_to_do")
class RefusesWithoutAHint(HonestRole):
    """A refusal does not say what to do next.

    An error code, passed on.
    """

    def deserialize(self, payload: bytes) -> Ciphertext:
        if not payload:
            raise CorruptPayload("error 17", hint="")
        return super().deserialize(payload)


@caught_by("test_real_slots_round_trip_and_the_rest_is_zero")
class DecryptsToFloat32(HonestBackend):
    """decrypt gives float32.

    A device's number format, passed on.
    """

    class decryptor_type(HonestBackend.decryptor_type):  # noqa: N801
        def decrypt(self, ciphertext: Ciphertext, *, encoding: Encoding = SLOTS) -> Values:
            values = super().decrypt(ciphertext, encoding=encoding)
            return values.astype(np.complex64 if values.dtype.kind == "c" else np.float32)


@caught_by("test_real_slots_round_trip_and_the_rest_is_zero")
class GivesBackOnlyWhatItWasGiven(HonestBackend):
    """decrypt gives as many values as the last encryption was given.

    Vectors that know their length, as TenSEAL's: what a rotation brings in from the other slots is cut off.
    """

    class decryptor_type(HonestBackend.decryptor_type):  # noqa: N801
        def encrypt(self, values: Values, *, scale: float, encoding: Encoding = SLOTS) -> Ciphertext:
            self._size = values.size
            return super().encrypt(values, scale=scale, encoding=encoding)

        def decrypt(self, ciphertext: Ciphertext, *, encoding: Encoding = SLOTS) -> Values:
            return super().decrypt(ciphertext, encoding=encoding)[: getattr(self, "_size", None)]


@caught_by("test_parameters_beyond_any_library_are_refused_and_not_narrowed")
class ResolvesTheImpossible(HonestBackend):
    """Parameters that cannot be had are changed until they can.

    Fewer or other primes than asked for, where the library found no more.
    """

    def resolve(self, params: CKKSParams) -> CKKSParams:
        try:
            return super().resolve(params)
        except ValueError:
            return params


@caught_by("test_arrays_are_read_as_they_look_and_left_alone")
class ReadsPastStrides(HonestEncoder):
    """Views of an array are read from where they start, one number after the other.

    A pointer and a length taken from the buffer protocol, and strides that nobody asks for.
    """

    encrypts_too = True

    def taken(self, values: Values, encoding: Encoding) -> Values:
        if not isinstance(values, np.ndarray) or values.flags.c_contiguous or values.base is None:
            return values
        return values.base.ravel()[: values.size]


@caught_by("test_arrays_are_read_as_they_look_and_left_alone")
class RoundsTheArrayItWasGiven(HonestEncoder):
    """Values are rounded in the caller's own array.

    ``out=values``, to save a copy.
    """

    encrypts_too = True

    def taken(self, values: Values, encoding: Encoding) -> Values:
        if isinstance(values, np.ndarray) and values.dtype.kind in "fc" and values.flags.writeable:
            np.round(values, 10, out=values)
        return values


@caught_by("test_values_beyond_64_bits_come_back_if_the_modulus_holds_them")
class RoundsThroughMachineWords(HonestEncoder):
    """Coefficients are rounded to integers of 64 bits.

    ``llround(value * scale)``, which saturates or wraps at 2^63 while the modulus has room for more.
    """

    encrypts_too = True

    def placed(self, slots: Values, values: Values, encoding: Encoding) -> Values:
        largest = 2.0 ** (63 - self.params.scale_bits)
        return np.clip(slots.real, -largest, largest) + 1j * slots.imag


@caught_by("test_what_was_encoded_or_decrypted_is_nobody_elses_memory")
class EncodesWhenItMustAndNotBefore(HonestBackend):
    """A plaintext keeps the caller's array, and is encoded when it is used.

    Lazy evaluation without a copy: what the caller does with the array afterwards is what is computed with.
    """

    class encoder_type(HonestEncoder):  # noqa: N801
        def encode(self, values: Values, *, level: int, scale: float, encoding: Encoding = SLOTS) -> Plaintext:
            encoded = super().encode(values, level=level, scale=scale, encoding=encoding)
            encoded.__dict__["source"] = values, level, scale, encoding
            return encoded

    class evaluator_type(HonestEvaluator):  # noqa: N801
        def add_plain(self, ciphertext: Ciphertext, plaintext: Plaintext) -> Ciphertext:
            values, level, scale, encoding = plaintext.__dict__["source"]
            encoded = self._encoder.encode(values, level=level, scale=scale, encoding=encoding)
            return super().add_plain(ciphertext, encoded)


@caught_by("test_what_was_encoded_or_decrypted_is_nobody_elses_memory")
class HandsOutItsOwnMemory(HonestDecryptor):
    """decrypt gives the same array each time.

    A cached result, or a view of the library's buffer; whoever scales it in place changes what the next one reads.
    """

    def decrypt(self, ciphertext: Ciphertext, *, encoding: Encoding = SLOTS) -> Values:
        values = super().decrypt(ciphertext, encoding=encoding)
        return ciphertext.__dict__.setdefault(f"read as {encoding.value}", values)
