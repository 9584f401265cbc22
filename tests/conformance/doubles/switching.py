"""Doubles whose key switches have errors of another size, or in other slots, than is claimed."""

from __future__ import annotations

import math

import msgspec
import numpy as np

from doubles.honest import HonestBackend, HonestEvaluator, with_values
from doubles.registry import caught_by
from helora_core.params import noise
from helora_numpy.backend import EmulatedCiphertext as Ciphertext


class _KeySwitching(HonestEvaluator):
    """Rotations with less noise."""

    def share(self) -> float:
        raise NotImplementedError

    def rotate(self, ciphertext: Ciphertext, steps: int) -> Ciphertext:
        rotated = super().rotate(ciphertext, steps)
        exact = np.roll(ciphertext.values, -steps)
        return with_values(rotated, exact + (rotated.values - exact) * self.share())


@caught_by("test_the_noise_of_a_rotation_is_that_of_theory")
class SwitchesKeysWithHalfTheErrors(_KeySwitching):
    """The errors of the rotation keys have half the σ.

    Keys are sampled elsewhere than ciphertexts.
    """

    def share(self) -> float:
        return 0.5


@caught_by("test_the_noise_of_a_rotation_is_that_of_theory")
class HasMoreSpecialPrimesThanItStates(_KeySwitching):
    """Rotation keys are modulo one special prime more, which leaves of their errors only the rounding.

    OpenFHE adds one if the first prime has more than 56 bits; the keys are then less secure than those stated.
    """

    def share(self) -> float:
        n = self.params.ring_degree
        return noise.rescale_std(n) / math.hypot(noise.rescale_std(n), noise.ERROR_STD * n / math.sqrt(24))


@caught_by("test_centred_digits_make_no_slot_noisier_than_the_others")
class SaysThatItsDigitsAreCentred(HonestBackend):
    """Centred digits are claimed, and slot 0 is far noisier than the others.

    SEAL's digits go from 0 to the prime; the claim would make the floods of plans too small.
    """

    capabilities = msgspec.structs.replace(HonestBackend.capabilities, centred_digits=True)


@caught_by("test_no_slot_is_far_noisier_after_rotations_than_theory_has_it")
class FloorsKeySwitches(HonestEvaluator):
    """The division that ends a key switch rounds down.

    OpenFHE's does: half a unit in each coefficient of both polynomials, the second times the secret.
    """

    def rotate(self, ciphertext: Ciphertext, steps: int) -> Ciphertext:
        rotated = super().rotate(ciphertext, steps)
        n = self.params.ring_degree
        powers = [pow(HonestBackend.capabilities.slot_generator, slot, 2 * n) for slot in range(n // 2)]
        halves = 1 / (1 - np.exp(1j * np.pi / n * np.array(powers)))
        secret = math.sqrt(2 * n / 3) * np.exp(1j)  # of the size that it has in any slot
        return with_values(rotated, rotated.values - halves * secret / rotated.scale)
