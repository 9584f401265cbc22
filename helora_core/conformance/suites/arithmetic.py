"""Arithmetic laws, compared with NumPy on the plain values."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from numpy.typing import NDArray

from helora_core.conformance.bench import SCALE_BITS, SLOTS, Bench
from helora_core.conformance.profile import searched
from helora_core.conformance.values import random_slots, slot_vectors
from helora_core.errors import InvalidInput


def _all_slots(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.pad(values, (0, SLOTS - values.size))


class Arithmetic:
    """Sums and products."""

    @searched
    @given(left=slot_vectors(), right=slot_vectors())
    def test_add_is_the_slotwise_sum(self, bench: Bench, left: NDArray[np.float64], right: NDArray[np.float64]) -> None:
        (a, x), (b, y) = bench.encrypted(left), bench.encrypted(right)
        bench.agrees(bench.evaluator.add(a, b), x.add(y))

    def test_sub_takes_the_second_from_the_first(self, bench: Bench) -> None:
        (a, x), (b, y) = bench.encrypted(random_slots(1)), bench.encrypted(random_slots(2))
        bench.agrees(bench.evaluator.sub(a, b), x.sub(y))

    def test_a_difference_without_secret_is_zero_or_refused_by_name(self, bench: Bench) -> None:
        """ct − ct no longer depends on the secret, and SEAL refuses to make it. It must never be anything but 0."""
        a, x = bench.encrypted(random_slots(14))
        try:
            difference = bench.evaluator.sub(a, a)
        except InvalidInput:
            return
        bench.agrees(difference, x.sub(x))

    def test_negate_twice_is_the_identity_and_once_is_not(self, bench: Bench) -> None:
        a, x = bench.encrypted(random_slots(3))
        negative = bench.evaluator.negate(a)
        bench.agrees(negative, x.negate())
        bench.agrees(bench.evaluator.negate(negative), x)

    def test_a_ciphertext_added_to_itself_doubles(self, bench: Bench) -> None:
        a, x = bench.encrypted(random_slots(4))
        bench.agrees(bench.evaluator.add(a, a), x.add(x))

    def test_add_plain_is_the_slotwise_sum(self, bench: Bench) -> None:
        a, x = bench.encrypted(random_slots(5))
        plain = random_slots(6)
        bench.agrees(bench.evaluator.add_plain(a, bench.encoded(plain)), x.add_plain(plain))

    @searched
    @given(left=slot_vectors(), right=slot_vectors())
    def test_multiply_plain_is_the_slotwise_product(
        self, bench: Bench, left: NDArray[np.float64], right: NDArray[np.float64]
    ) -> None:
        a, x = bench.encrypted(left)
        product = bench.evaluator.multiply_plain(a, bench.encoded(right))
        bench.agrees(product, x.multiply_plain(_all_slots(right), SCALE_BITS))

    def test_multiplication_distributes_over_addition(self, bench: Bench) -> None:
        (a, x), (b, y) = bench.encrypted(random_slots(7)), bench.encrypted(random_slots(8))
        plain = random_slots(9)
        encoded, evaluator = bench.encoded(plain), bench.evaluator
        separate = evaluator.add(evaluator.multiply_plain(a, encoded), evaluator.multiply_plain(b, encoded))
        bench.agrees(separate, x.add(y).multiply_plain(plain, SCALE_BITS))
        bench.agrees(evaluator.multiply_plain(evaluator.add(a, b), encoded), x.add(y).multiply_plain(plain, SCALE_BITS))

    def test_a_short_plaintext_leaves_nothing_in_the_other_slots(self, bench: Bench) -> None:
        a, x = bench.encrypted(random_slots(10))
        plain = np.array([1.5, -2.0])
        bench.agrees(
            bench.evaluator.multiply_plain(a, bench.encoded(plain)), x.multiply_plain(_all_slots(plain), SCALE_BITS)
        )

    def test_operations_leave_their_operands_as_they_were(self, bench: Bench) -> None:
        (a, x), (b, y) = bench.encrypted(random_slots(11)), bench.encrypted(random_slots(12))
        plain = bench.encoded(random_slots(13))
        evaluator = bench.evaluator
        before = [evaluator.serialize(ciphertext) for ciphertext in (a, b)]
        stable = before == [evaluator.serialize(ciphertext) for ciphertext in (a, b)]
        first = evaluator.multiply_plain(a, plain)
        for result in (evaluator.add(a, b), evaluator.sub(a, b), evaluator.negate(a), evaluator.add_plain(a, plain)):
            assert result is not a
        evaluator.rotate(a, 1)
        evaluator.rotate_many(a, (1, 2))
        evaluator.rescale(first)
        if stable:
            assert before == [evaluator.serialize(ciphertext) for ciphertext in (a, b)], "an operand's bytes changed"
        bench.agrees(a, x)
        bench.agrees(b, y)
        again = evaluator.multiply_plain(a, plain)
        bench.agrees(again, x.multiply_plain(random_slots(13), SCALE_BITS))

    def test_results_stay_as_they_are_while_others_are_computed(self, bench: Bench) -> None:
        """A result must not be in a buffer that a later operation reuses."""
        a, x = bench.encrypted(random_slots(15))
        plain = random_slots(16)
        encoded, evaluator = bench.encoded(plain), bench.evaluator
        results = [
            (evaluator.add(a, a), x.add(x)),
            (evaluator.negate(a), x.negate()),
            (evaluator.add_plain(a, encoded), x.add_plain(plain)),
            (evaluator.multiply_plain(a, encoded), x.multiply_plain(plain, SCALE_BITS)),
            (evaluator.rotate(a, 1), x.rotate(1)),
            (evaluator.rotate(a, 3), x.rotate(3)),
        ]
        bench.encrypted(random_slots(17))
        for result, expected in results:
            bench.agrees(result, expected)

    def test_arrays_are_read_as_they_look_and_left_alone(self, bench: Bench) -> None:
        """Strided, reversed and read-only views are arrays too, and a backend may not write to any of them."""
        whole = random_slots(18, 2 * SLOTS)
        fixed = whole[:SLOTS].copy()
        fixed.flags.writeable = False
        for values in (whole[::2], whole[SLOTS - 1 :: -1], fixed):
            before = values.copy()
            a, x = bench.encrypted(values)
            bench.agrees(a, x)
            bench.agrees(bench.evaluator.add_plain(a, bench.encoded(values)), x.add_plain(before))
            assert (values == before).all()

    def test_what_was_encoded_or_decrypted_is_nobody_elses_memory(self, bench: Bench) -> None:
        values = random_slots(19)
        a, x = bench.encrypted(values)
        plain = random_slots(20)
        encoded = bench.encoded(plain)
        expected = x.add_plain(plain.copy())
        plain[:] = 0.0
        total = bench.evaluator.add_plain(a, encoded)
        bench.agrees(total, expected)
        received = bench.client.receive(bench.server.send(total))
        read = bench.client.decrypt(received)
        if read.flags.writeable:
            read[:] = 0.0
        assert np.max(np.abs(bench.client.decrypt(received) - expected.values)) <= expected.rescaled_unasked().tolerance
