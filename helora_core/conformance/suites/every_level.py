"""Every operation at every level: one that is right at the top may be wrong below it, with other moduli."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from helora_core.backend.capabilities import Encoding
from helora_core.backend.embedding import coefficients_to_slots
from helora_core.backend.encodings import can_encode, checked_native
from helora_core.backend.protocol import Ciphertext, Plaintext, Values
from helora_core.conformance.bench import PARAMS, SCALE_BITS, SLOTS, STEPS, Bench
from helora_core.conformance.requirements import requires
from helora_core.conformance.tolerance import STANDARD_DEVIATIONS, Expected
from helora_core.conformance.values import random_complex, random_slots
from helora_core.params import noise

at_every_level = pytest.mark.parametrize("level", range(PARAMS.max_level, -1, -1))

MANY_STEPS = (
    *(100, 3, -1, 8, 0, 2, 100, SLOTS + 8, 1, SLOTS - 1, 3, SLOTS // 2, -SLOTS, 2, 2, 1 - SLOTS, 8, 0),
    *(SLOTS // 2, 1, 100 - SLOTS, 3, -1, 8, 2 * SLOTS + 2, 0, 1, 100, -SLOTS // 2),
)
"""Steps in no particular order, some of them written in several ways: zero, negative, past the slots, repeated."""


class EveryLevel:
    """Laws at each level, which is reached as in programs, by products and rescales."""

    @at_every_level
    def test_sums_are_right_at_every_level(self, bench: Bench, level: int) -> None:
        (a, x), (b, y) = _at(bench, level, 1), _at(bench, level, 2)
        evaluator = bench.evaluator
        bench.agrees(evaluator.add(a, b), x.add(y))
        bench.agrees(evaluator.sub(a, b), x.sub(y))
        bench.agrees(evaluator.sub(b, a), y.sub(x))
        bench.agrees(evaluator.add(a, a), x.add(x))
        bench.agrees(evaluator.negate(a), x.negate())

    @at_every_level
    def test_products_are_right_at_every_level(self, bench: Bench, level: int) -> None:
        """Also at the last level, if a plaintext may have a scale small enough for the product to fit."""
        a, x = _at(bench, level, 3)
        if level:
            plain = random_slots(4)
            product = bench.evaluator.multiply_plain(a, bench.encoded(plain, level))
            bench.agrees(product, x.multiply_plain(plain, SCALE_BITS))
            bench.agrees(bench.evaluator.rescale(product), x.multiply_plain(plain, SCALE_BITS).rescale())
        elif bench.explicit and bench.capabilities.free_plaintext_scale:
            bits = 8
            scalar = bench.server.encoder.encode(np.array([-2.75]), level=0, scale_bits=bits, encoding=Encoding.SCALAR)
            # -2.75·2^8 is an integer and needs no rounding, but an emulation may round slots all the same.
            rounding = STANDARD_DEVIATIONS * noise.encoding_std(2 * SLOTS) / 2.0**bits * x.magnitude
            error = 2.75 * x.error + rounding
            exact = replace(x, values=-2.75 * x.values, error=error, scale=x.scale * 2.0**bits)
            bench.agrees(bench.evaluator.multiply_plain(a, scalar), exact)

    @at_every_level
    def test_every_step_works_at_every_level(self, bench: Bench, level: int) -> None:
        a, x = _at(bench, level, 5)
        for steps in STEPS:
            bench.agrees(bench.evaluator.rotate(a, steps), x.rotate(steps))

    @at_every_level
    def test_many_steps_in_any_order_are_those_one_by_one(self, bench: Bench, level: int) -> None:
        """Hoisted if the library can, otherwise by core's fallback; as many as a program may ask for."""
        a, x = _at(bench, level, 6)
        for steps in (MANY_STEPS, MANY_STEPS[:6][::-1], (1, 1)):
            rotated = bench.evaluator.rotate_many(a, steps)
            assert len(rotated) == len(steps)
            for ciphertext, step in zip(rotated, steps, strict=True):
                bench.agrees(ciphertext, x.rotate(step) if step % SLOTS else x)

    @requires("explicit rescaling")
    @at_every_level
    def test_every_encoding_is_right_at_every_level(self, bench: Bench, level: int) -> None:
        a, x = _at(bench, level, 7)
        scale = bench.evaluator.scale(a)
        for encoding in Encoding:
            if encoding is Encoding.INTEGERS or not can_encode(encoding, bench.capabilities):
                continue  # tested by coefficients, which are made from integers if a backend has them
            values = _values(encoding)
            native, given = checked_native(
                values, encoding, bench.capabilities, bench.params, level=level, scale=scale, who="a law"
            )
            plaintext = bench.evaluator.encoder.encode(given, level=level, scale=scale, encoding=native)
            total = bench.evaluator.add_plain(a, plaintext)
            if encoding in (Encoding.SLOTS, Encoding.SCALAR):
                bench.agrees(total, x.add_plain(values))
                continue
            slots = values
            if encoding is Encoding.COEFFICIENTS:
                slots = coefficients_to_slots(values, 2 * SLOTS, bench.capabilities.slot_generator)
            bench.agrees(total, replace(x.add_plain(slots), encoding=Encoding.COMPLEX_SLOTS))

    @at_every_level
    def test_bytes_keep_everything_at_every_level(self, bench: Bench, level: int) -> None:
        a, x = _at(bench, level, 8)
        there = bench.server.receive(bench.server.send(a))
        back = bench.server.receive(bench.client.send(bench.client.receive(bench.server.send(there))))
        bench.agrees(back, x)
        if bench.explicit:
            assert bench.evaluator.level(back) == bench.evaluator.level(a) == level
            assert bench.evaluator.scale(back) == bench.evaluator.scale(a)
        bench.agrees(bench.evaluator.add(back, a), x.add(x))
        bench.agrees(bench.evaluator.rotate(back, STEPS[0]), x.rotate(STEPS[0]))

    @requires("explicit rescaling")
    def test_scales_are_equal_to_the_last_bit_on_every_path(self, bench: Bench) -> None:
        """Products multiply scales and rescales divide them by a prime, in float64; nothing else changes them.

        Ciphertexts that reached a level by the same number of products can be added, whatever path they took.
        """
        evaluator = bench.evaluator
        (a, x), (b, y) = bench.encrypted(random_slots(9)), bench.encrypted(random_slots(10))
        for level in range(bench.params.max_level, 0, -1):
            plain = random_slots(11 + level)
            encoded = bench.encoded(plain, level)

            def down(ciphertext: Ciphertext, encoded: Plaintext = encoded) -> Ciphertext:
                return evaluator.rescale(evaluator.multiply_plain(ciphertext, encoded))

            paths = [
                evaluator.add(down(a), down(b)),
                down(evaluator.add(a, b)),
                down(evaluator.negate(evaluator.sub(evaluator.negate(b), a))),
                evaluator.rescale(
                    evaluator.add(evaluator.multiply_plain(a, encoded), evaluator.multiply_plain(b, encoded))
                ),
                down(evaluator.rotate_many(evaluator.add(a, b), (0,))[0]),
                bench.server.receive(bench.server.send(down(evaluator.add(a, b)))),
            ]
            a, x = paths[0], x.add(y).multiply_plain(plain, SCALE_BITS).rescale()
            for path in paths:
                bench.agrees(path, x)
                assert evaluator.scale(path) == evaluator.scale(a), f"{evaluator.scale(path)}, {evaluator.scale(a)}"
                bench.agrees(evaluator.sub(evaluator.add(path, a), a), x.add(x).sub(x))
            rotated = [evaluator.rotate(a, STEPS[0]), *evaluator.rotate_many(a, STEPS[:1])]
            assert {evaluator.scale(each) for each in rotated} == {evaluator.scale(a)}
            b, y = evaluator.add(a, a), x.add(x)

    @at_every_level
    def test_operands_serve_again_and_again(self, bench: Bench, level: int) -> None:
        """The third use gives the same as the first: no operand is used up, and no stale state is kept."""
        a, x = _at(bench, level, 12)
        b, y = _at(bench, level, 13)
        c, z = _at(bench, level, 31)
        evaluator = bench.evaluator
        plain = random_slots(14)
        product = bench.encoded(plain, level) if level else None
        operations: list[tuple[Callable[[Ciphertext], Ciphertext], Callable[[Expected], Expected]]] = [
            (lambda each: evaluator.add(each, c), lambda each: each.add(z)),
            (lambda each: evaluator.sub(c, each), lambda each: z.sub(each)),
            (evaluator.negate, Expected.negate),
            (lambda each: evaluator.rotate(each, 3), lambda each: each.rotate(3)),
            (lambda each: evaluator.rotate_many(each, (2, 0, 1))[2], lambda each: each.rotate(1)),
        ]
        if product is not None:
            operations.append(
                (
                    lambda each: evaluator.rescale(evaluator.multiply_plain(each, product)),
                    lambda each: each.multiply_plain(plain, SCALE_BITS).rescale(),
                )
            )
        for compute, expect in operations:
            for ciphertext, expected in ((a, x), (b, y), (a, x), (a, x)):
                bench.agrees(compute(ciphertext), expect(expected))
        for ciphertext, expected in ((a, x), (b, y), (c, z)):
            bench.agrees(ciphertext, expected)
            bench.client.decrypt(ciphertext)
            bench.agrees(ciphertext, expected)

    def test_one_plaintext_serves_many_ciphertexts(self, bench: Bench) -> None:
        """Constants are encoded once, then multiplied by every token's ciphertext and added to others."""
        plain = random_slots(15)
        encoded = bench.encoded(plain)
        for seed in range(16, 22):
            a, x = bench.encrypted(random_slots(seed))
            bench.agrees(bench.evaluator.multiply_plain(a, encoded), x.multiply_plain(plain, SCALE_BITS))
            bench.agrees(bench.evaluator.add_plain(a, encoded), x.add_plain(plain))

    @pytest.mark.parametrize("level", range(PARAMS.max_level, 0, -1))
    def test_sums_of_products_take_operands_again(self, bench: Bench, level: int) -> None:
        """In one call if the library fuses them, otherwise one by one. (The last level has no room for products.)"""
        (a, x), (b, y) = _at(bench, level, 23), _at(bench, level, 24)
        plains = [random_slots(seed) for seed in (25, 26)]
        p, q = (bench.encoded(plain, level) for plain in plains)
        operands = [(a, x, 0), (b, y, 0), (a, x, 1), (a, x, 0), (b, y, 1)]
        for count in (1, 2, 3, 5):
            chosen = operands[:count]
            total = bench.evaluator.dot_plain([a for a, _, _ in chosen], [(p, q)[which] for _, _, which in chosen])
            products = [x.multiply_plain(plains[which], SCALE_BITS) for _, x, which in chosen]
            bench.agrees(total, functools.reduce(Expected.add, products))


def _at(bench: Bench, level: int, seed: int) -> tuple[Ciphertext, Expected]:
    """A ciphertext at a level, reached by products and rescales, and the result that it must decrypt to."""
    a, x = bench.encrypted(random_slots(seed) / 8)
    for above in range(bench.params.max_level, level, -1):
        plain = random_slots(100 * seed + above) / 4
        a = bench.evaluator.rescale(bench.evaluator.multiply_plain(a, bench.encoded(plain, above)))
        x = x.multiply_plain(plain, SCALE_BITS).rescale()
    return a, x


def _values(encoding: Encoding) -> Values:
    if encoding is Encoding.SCALAR:
        return np.array([-2.75])
    if encoding is Encoding.COMPLEX_SLOTS:
        return random_complex(27)
    if encoding is Encoding.COEFFICIENTS:
        return random_slots(28, 2 * SLOTS) / 64  # slots are larger than coefficients
    return random_slots(29)
