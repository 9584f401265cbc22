"""Doubles that rotate wrongly, or with keys that nobody asked for."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec
import numpy as np

from doubles.honest import HonestBackend, HonestDecryptor, HonestEncoder, HonestEvaluator, with_values
from doubles.registry import caught_by
from helora_core.backend.capabilities import Encoding
from helora_core.backend.protocol import SLOTS, Values
from helora_core.errors import MissingRotationKey
from helora_numpy.backend import EmulatedCiphertext as Ciphertext
from helora_numpy.backend import _EvaluationKeys


def _rolled(ciphertext: Ciphertext, steps: int) -> Ciphertext:
    """Further to the left, without a key."""
    return with_values(ciphertext, np.roll(ciphertext.values, -steps))


@caught_by("test_rotate_moves_slots_to_the_left_cyclically")
class RotatesToTheRight(HonestEvaluator):
    """rotate moves slots to the right.

    Half of the field does; NumPy's ``roll`` does.
    """

    def rotate(self, ciphertext: Ciphertext, steps: int) -> Ciphertext:
        return _rolled(super().rotate(ciphertext, steps), -2 * steps)


@caught_by("test_rotate_brings_slot_one_to_slot_zero")
class RotatesOneTooFar(HonestEvaluator):
    """rotate goes one step further than asked.

    Galois elements counted from 1: the k-th power of the generator for the k-th key.
    """

    def rotate(self, ciphertext: Ciphertext, steps: int) -> Ciphertext:
        return _rolled(super().rotate(ciphertext, steps), 1 if steps else 0)


@caught_by("test_rotate_moves_slots_to_the_left_cyclically")
class RotatesInTwoRows(HonestEvaluator):
    """Slots rotate within each half of the ciphertext.

    BFV's plaintexts are two rows of N/2; a wrapper written for it takes CKKS's N/2 slots for two rows of N/4.
    """

    def rotate(self, ciphertext: Ciphertext, steps: int) -> Ciphertext:
        rotated = super().rotate(ciphertext, steps)
        rows = ciphertext.values.reshape(2, -1)
        return with_values(rotated, np.roll(rows, -steps, axis=1).ravel())


@caught_by("test_a_short_vector_rotates_through_all_slots")
class RotatesWithinTheValuesGiven(HonestEncoder):
    """A short vector is repeated to fill the slots, and so rotates within its own length.

    OpenFHE's batch size, and TenSEAL's vectors: the slots are narrowed to the values that came in.
    """

    encrypts_too = True

    def placed(self, slots: Values, values: Values, encoding: Encoding) -> Values:
        width = 1 << (values.size - 1).bit_length()
        return np.resize(slots[:width], slots.size)


@caught_by("test_rotations_compose")
class RotatesARotationFromTheStart(HonestEvaluator):
    """A rotated ciphertext that is rotated again starts from what it was before.

    A decomposition kept for hoisting, and used for the result of the rotation too.
    """

    def rotate(self, ciphertext: Ciphertext, steps: int) -> Ciphertext:
        start = getattr(ciphertext, "start", ciphertext)
        rotated = super().rotate(start, steps)
        if rotated is not start:
            object.__setattr__(rotated, "start", start)
        return rotated


@caught_by("test_rotation_distributes_over_addition")
class RotatesSumsLess(HonestEvaluator):
    """A sum is not rotated.

    Lazy evaluation that forgets an operation on a node it has not computed yet.
    """

    def add(self, left: Ciphertext, right: Ciphertext) -> Ciphertext:
        total = super().add(left, right)
        object.__setattr__(total, "lazy", True)
        return total

    def rotate(self, ciphertext: Ciphertext, steps: int) -> Ciphertext:
        rotated = super().rotate(ciphertext, steps)
        return ciphertext if hasattr(ciphertext, "lazy") else rotated


@caught_by("test_rotation_works_at_the_last_level")
class CannotRotateAtTheLastLevel(HonestEvaluator):
    """At level 0, rotate finds no key.

    Keys that are made for the moduli of the levels above, or a "last level" that a library counts out.
    """

    def rotate(self, ciphertext: Ciphertext, steps: int) -> Ciphertext:
        if ciphertext.level == 0 and steps:
            raise MissingRotationKey("no key at level 0", hint="Stay above.")
        return super().rotate(ciphertext, steps)


@caught_by("test_every_step_works_at_every_level")
class ConfusesOneStepAtOneLevel(HonestEvaluator):
    """One step rotates wrongly at one level.

    An index into a table of keys by step and level that is off in one place; only ``--thorough`` goes there.
    """

    def rotate(self, ciphertext: Ciphertext, steps: int) -> Ciphertext:
        rotated = super().rotate(ciphertext, steps)
        return _rolled(rotated, 1) if (ciphertext.level, steps) == (1, 100) else rotated


@caught_by("test_rotation_keeps_level_and_scale")
class RotatesAtTheCostOfALevel(HonestEvaluator):
    """rotate drops a level.

    A rotation as a product with a mask, or a key switch that gives up a data prime for want of a special one.
    """

    def rotate(self, ciphertext: Ciphertext, steps: int) -> Ciphertext:
        rotated = super().rotate(ciphertext, steps)
        return Ciphertext(rotated.values, max(rotated.level - 1, 0), rotated.scale)


@caught_by("test_a_step_without_its_own_key_is_refused_not_composed")
class ComposesMissingSteps(HonestEvaluator):
    """A step without a key is composed of others that have one.

    SEAL does so with its default keys, in several key switches that no counter outside sees.
    """

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        self._keys = self.rotation_steps
        self.rotation_steps = range(1, self.params.slots)

    def rotate(self, ciphertext: Ciphertext, steps: int) -> Ciphertext:
        for first in sorted(self._keys - {steps}):
            if (steps - first) % self.params.slots in self._keys:
                return super().rotate(super().rotate(ciphertext, first), steps - first)
        return super().rotate(ciphertext, steps)


@caught_by("test_keys_are_made_for_exactly_the_steps_asked_for")
class MakesKeysForAllPowersOfTwo(HonestBackend):
    """Keys are made for all powers of two, whatever is asked for.

    What Pyfhel and SEAL do by default: 24 keys of a megabyte each at N = 8192.
    """

    def keys_for(self, rotation_steps: Collection[int], public_key: bool) -> _EvaluationKeys:
        return super().keys_for({*rotation_steps, *(2**power for power in range(12))}, public_key)


@caught_by("test_many_rotations_at_once_are_those_one_by_one")
class HoistsInTheOrderOfItsKeys(HonestEvaluator):
    """rotate_many gives its results in ascending order of steps.

    Results gathered in a dictionary of steps, or computed in the order of the keys.
    """

    def rotate_many(self, ciphertext: Ciphertext, steps: Sequence[int]) -> list[Ciphertext]:
        return super().rotate_many(ciphertext, sorted(steps))


@caught_by("test_two_key_pairs_in_one_process_do_not_meet")
class KeepsOneGlobalTableOfKeys(HonestEvaluator):
    """The rotation keys of the process are those that were loaded last.

    OpenFHE keeps evaluation keys in static maps; a wrapper that clears or overwrites them mixes up its users.
    """

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        KeepsOneGlobalTableOfKeys.table = self.rotation_steps

    def rotate(self, ciphertext: Ciphertext, steps: int) -> Ciphertext:
        return super().rotate(ciphertext, steps) if steps in KeepsOneGlobalTableOfKeys.table else ciphertext


@caught_by("test_a_new_key_pair_leaves_the_old_one_working")
class ForgetsOldKeyPairs(HonestDecryptor):
    """A new key pair takes the noise and the right to decrypt from the one before.

    A context that holds one secret key, and is shared by all sessions of a process.
    """

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        ForgetsOldKeyPairs.current = self.key_id

    def decrypt(self, ciphertext: Ciphertext, *, encoding: Encoding = SLOTS) -> Values:
        values = super().decrypt(ciphertext, encoding=encoding)
        return values if self.key_id == ForgetsOldKeyPairs.current else values[::-1].copy()


@caught_by("test_keys_are_no_larger_than_the_stated_primes_make_them")
class SendsKeysModuloMoreThanItStates(HonestDecryptor):
    """Rotation keys have three special primes, and one is stated.

    A library that picks them itself; the keys are less secure than the stated parameters.
    """

    def evaluation_keys(self) -> bytes:
        keys = super().evaluation_keys()
        params = self.params
        size = 2 * len(params.data_bits) * params.ring_degree * (params.modulus_bits + 120) // 8
        count = len(msgspec.msgpack.decode(keys, type=_EvaluationKeys).steps)
        return keys + np.random.default_rng().bytes(size * count)


@caught_by("test_steps_may_come_in_any_order_and_twice")
class TakesAscendingStepsOnly(HonestBackend):
    """Keys are made until a step is not larger than the one before.

    A merge of two lists that are taken for sorted.
    """

    def keys_for(self, rotation_steps: Collection[int], public_key: bool) -> _EvaluationKeys:
        ascending: list[int] = []
        for step in rotation_steps:
            if ascending and step <= ascending[-1]:
                break
            ascending.append(step)
        return super().keys_for(ascending, public_key)
