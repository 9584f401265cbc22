"""Doubles that compute something other than they were asked for."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from doubles.honest import HonestEncoder, HonestEvaluator, with_values
from doubles.registry import caught_by
from helora_core.backend.capabilities import Encoding
from helora_core.backend.protocol import SLOTS, Values
from helora_numpy.backend import EmulatedCiphertext as Ciphertext
from helora_numpy.backend import EmulatedPlaintext as Plaintext


@caught_by("test_add_is_the_slotwise_sum")
class AddsAsItSubtracts(HonestEvaluator):
    """add gives the difference.

    Two operations of one shape, and a line copied from the other.
    """

    def add(self, left: Ciphertext, right: Ciphertext) -> Ciphertext:
        return self.sub(left, right)


@caught_by("test_sub_takes_the_second_from_the_first")
class SubtractsTheOtherWayRound(HonestEvaluator):
    """sub takes the first from the second.

    Libraries name the operands of in-place methods differently: ``a.sub(b)``, ``sub(destination, operand)``.
    """

    def sub(self, left: Ciphertext, right: Ciphertext) -> Ciphertext:
        return super().sub(right, left)


@caught_by("test_a_difference_without_secret_is_zero_or_refused_by_name")
class RaisesWhatTheLibraryRaises(HonestEvaluator):
    """x - x raises the library's own exception, not a refusal by name.

    SEAL refuses to make a "transparent" ciphertext, by ``std::logic_error``.
    """

    def sub(self, left: Ciphertext, right: Ciphertext) -> Ciphertext:
        if left is right:
            raise RuntimeError("result ciphertext is transparent")
        return super().sub(left, right)


@caught_by("test_negate_twice_is_the_identity_and_once_is_not")
class NegatesNothing(HonestEvaluator):
    """negate returns a copy.

    The in-place method of a library, called on a copy that is then thrown away.
    """

    def negate(self, ciphertext: Ciphertext) -> Ciphertext:
        return super().negate(super().negate(ciphertext))


@caught_by("test_a_ciphertext_added_to_itself_doubles")
class AddsACiphertextToItselfOnce(HonestEvaluator):
    """add of a ciphertext and itself returns it.

    An in-place addition whose operand is its destination, in a kernel that reads what it has just written.
    """

    def add(self, left: Ciphertext, right: Ciphertext) -> Ciphertext:
        return left if left is right else super().add(left, right)


@caught_by("test_add_plain_is_the_slotwise_sum")
class AddsPlaintextsToTheFirstHalf(HonestEvaluator):
    """add_plain reaches the first half of the slots only.

    A loop over N/2 that was meant to run over N.
    """

    def add_plain(self, ciphertext: Ciphertext, plaintext: Plaintext) -> Ciphertext:
        values = super().add_plain(ciphertext, plaintext).values.copy()
        half = values.size // 2
        values[half:] = ciphertext.values[half:]
        return with_values(ciphertext, values)


@caught_by("test_multiply_plain_is_the_slotwise_product")
class HasEightBitsOfPrecision(HonestEncoder):
    """Plaintexts are rounded to 8 bits after the point.

    Weights quantised on the way into a fixed-point format, as is tempting on a device with small words.
    """

    def encode(self, values: Values, *, level: int, scale: float, encoding: Encoding = SLOTS) -> Plaintext:
        encoded = super().encode(values, level=level, scale=scale, encoding=encoding)
        return Plaintext(np.round(encoded.values * 2**8) / 2**8, level, scale)


@caught_by("test_multiplication_distributes_over_addition")
class MultipliesSumsTwice(HonestEvaluator):
    """A product of a sum counts the second operand of the sum twice.

    Lazy sums that are carried out once when they are made and once more when they are used.
    """

    def add(self, left: Ciphertext, right: Ciphertext) -> Ciphertext:
        total = super().add(left, right)
        object.__setattr__(total, "pending", right.values)
        return total

    def multiply_plain(self, ciphertext: Ciphertext, plaintext: Plaintext) -> Ciphertext:
        pending = getattr(ciphertext, "pending", 0.0)
        return super().multiply_plain(with_values(ciphertext, ciphertext.values + pending), plaintext)


@caught_by("test_a_short_plaintext_leaves_nothing_in_the_other_slots")
class PadsWithWhatWasThere(HonestEncoder):
    """A short plaintext is padded with what the encoder's buffer held before.

    A buffer that is reused without being cleared.
    """

    _before: Values | None = None

    def encode(self, values: Values, *, level: int, scale: float, encoding: Encoding = SLOTS) -> Plaintext:
        encoded = super().encode(values, level=level, scale=scale, encoding=encoding)
        slots = encoded.values.copy()
        if encoding is not Encoding.SCALAR and values.size < slots.size:
            slots[values.size :] = 0.125 if self._before is None else self._before[values.size :]
        self._before = slots
        return Plaintext(slots, level, scale)


@caught_by("test_an_all_zero_plaintext_multiplies_to_zero")
class RefusesZeroPlaintexts(HonestEvaluator):
    """A product with zeros raises.

    SEAL's ``multiply_plain`` does, since its result would be "transparent"; PEFT initialises one matrix with zeros.
    """

    def multiply_plain(self, ciphertext: Ciphertext, plaintext: Plaintext) -> Ciphertext:
        if np.max(np.abs(plaintext.values)) < 2.0**-20:
            raise RuntimeError("result ciphertext is transparent")
        return super().multiply_plain(ciphertext, plaintext)


@caught_by("test_a_scalar_multiplies_every_slot")
class PutsScalarsIntoTheFirstSlot(HonestEncoder):
    """A scalar is encoded into slot 0 alone.

    A scalar passed on as a vector of one value, which every library pads with zeros.
    """

    def encode(self, values: Values, *, level: int, scale: float, encoding: Encoding = SLOTS) -> Plaintext:
        return super().encode(
            values, level=level, scale=scale, encoding=SLOTS if encoding is Encoding.SCALAR else encoding
        )


@caught_by("test_complex_slots_keep_their_imaginary_part")
class DropsTheImaginaryPart(HonestEncoder):
    """Complex values are encoded as their real parts.

    OpenFHE does so unless it is told ``SetCKKSDataType(COMPLEX)``.
    """

    encrypts_too = True

    def placed(self, slots: Values, values: Values, encoding: Encoding) -> Values:
        return slots.real.astype(np.complex128)


@caught_by("test_operations_leave_their_operands_as_they_were")
class AddsInPlace(HonestEvaluator):
    """add writes its result into the first operand too.

    The in-place method of a library registered as the other: Pyfhel's ``+=`` beside ``+``, SEAL's ``add_inplace``.
    """

    def add(self, left: Ciphertext, right: Ciphertext) -> Ciphertext:
        total = super().add(left, right)
        object.__setattr__(left, "values", total.values)
        return total


@caught_by("test_results_stay_as_they_are_while_others_are_computed")
class ReusesOneResultBuffer(HonestEvaluator):
    """All products are in one buffer, each overwriting the one before.

    A scratch ciphertext that is allocated once per evaluator, "for speed".
    """

    _buffer: Any = None

    def _ciphertext(self, values: Any, level: int, scale: float) -> Ciphertext:
        result = super()._ciphertext(values, level, scale)
        if self._buffer is None:
            self._buffer = np.empty_like(result.values)
        self._buffer[:] = result.values
        return with_values(result, self._buffer)


@caught_by("test_delta_equals_the_plaintext_reference")
class RecyclesOldResults(HonestEvaluator):
    """Results are in a pool of sixteen buffers; the seventeenth overwrites the first.

    A pool sized for its author's tests: laws with a dozen ciphertexts do not notice it, a module does.
    """

    _pool: Any = None
    _used = 0

    def _ciphertext(self, values: Any, level: int, scale: float) -> Ciphertext:
        result = super()._ciphertext(values, level, scale)
        if self._pool is None:
            self._pool = np.empty((16, values.size), dtype=np.complex128)
        place = self._pool[self._used % 16]
        self._used += 1
        place[:] = result.values
        return with_values(result, place)


@caught_by("test_the_bound_holds_for_activations_of_any_size")
class Saturates(HonestEvaluator):
    """Values above a half come out as a half.

    A clip against outliers, taken over from quantised inference: usual activations have no Δ so large beside ‖x‖.
    """

    def _ciphertext(self, values: Any, level: int, scale: float) -> Ciphertext:
        clipped = np.clip(values.real, -0.5, 0.5) + 1j * np.clip(values.imag, -0.5, 0.5)
        return super()._ciphertext(clipped, level, scale)


@caught_by("test_more_tokens_than_a_run_holds_are_all_right")
class RemembersConstantsTooWell(HonestEvaluator):
    """Ciphertexts multiplied by one plaintext for the third time give the first result again.

    A cache of products that is keyed by the weights alone: right until a second batch of tokens comes.
    """

    def multiply_plain(self, ciphertext: Ciphertext, plaintext: Plaintext) -> Ciphertext:
        product = super().multiply_plain(ciphertext, plaintext)
        earlier: list[Ciphertext] = plaintext.__dict__.setdefault("products", [])
        earlier.append(product)
        return earlier[0] if len(earlier) > 1 and earlier[0].level == product.level else product


@caught_by("test_one_plaintext_serves_two_key_pairs")
class BindsPlaintextsToKeys(HonestEvaluator):
    """A plaintext is right with the first key pair that it is used with, and zero with others.

    A cache of transforms inside the plaintext, filled for the context that came first.
    """

    def multiply_plain(self, ciphertext: Ciphertext, plaintext: Plaintext) -> Ciphertext:
        product = super().multiply_plain(ciphertext, plaintext)
        bound = plaintext.__dict__.setdefault("bound", self.key_id)
        return product if bound == self.key_id else with_values(product, np.zeros_like(product.values))


@caught_by("test_two_threads_may_share_one_server")
class SharesScratchBetweenThreads(HonestEvaluator):
    """rotate works in a buffer of the evaluator, which a second thread overwrites.

    Pools and contexts that are documented as "not thread-safe", and used by a server that is.
    """

    _scratch: Any = None

    def rotate(self, ciphertext: Ciphertext, steps: int) -> Ciphertext:
        self._scratch = super().rotate(ciphertext, steps)
        time.sleep(0.02)
        return self._scratch


@caught_by("test_two_threads_with_contexts_of_their_own_do_not_meet")
class SharesScratchBetweenContexts(HonestEvaluator):
    """add works in a buffer of the library, which a second context overwrites.

    A global buffer in a library that was written for one context in one thread.
    """

    def add(self, left: Ciphertext, right: Ciphertext) -> Ciphertext:
        SharesScratchBetweenContexts.scratch = super().add(left, right).values
        time.sleep(0.02)
        return with_values(left, SharesScratchBetweenContexts.scratch)
