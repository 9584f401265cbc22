"""Tolerances hold by the emulation's noise, with room, and not with so much that a fault would hide in it."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from helora_core.backend.capabilities import Encoding
from helora_core.backend.protocol import Ciphertext
from helora_core.conformance.bench import PARAMS, SCALE_BITS, SLOTS, Bench
from helora_core.conformance.tolerance import Expected
from helora_core.conformance.values import random_complex, random_slots
from helora_core.host.manager import get_manager

Result = tuple[Ciphertext, Expected]
RUNS = 12
"""With 4096 slots each: the largest of 49152 errors is about 4.3 standard deviations."""


@pytest.fixture(scope="module")
def bench() -> Bench:
    return Bench(get_manager().load_backend("numpy"))


def fresh(bench: Bench, seed: int) -> Result:
    return bench.encrypted(random_slots(seed))


def complex_slots(bench: Bench, seed: int) -> Result:
    return bench.encrypted(random_complex(seed), Encoding.COMPLEX_SLOTS)


def coefficients(bench: Bench, seed: int) -> Result:
    return bench.encrypted(random_slots(seed, 2 * SLOTS), Encoding.COEFFICIENTS)


def total(bench: Bench, seed: int) -> Result:
    (a, x), (b, y) = fresh(bench, seed), fresh(bench, seed + 100)
    return bench.evaluator.add(a, b), x.add(y)


def difference(bench: Bench, seed: int) -> Result:
    (a, x), (b, y) = fresh(bench, seed), fresh(bench, seed + 100)
    return bench.evaluator.sub(a, b), x.sub(y)


def total_with_plaintext(bench: Bench, seed: int) -> Result:
    (a, x), plain = fresh(bench, seed), random_slots(seed + 200)
    return bench.evaluator.add_plain(a, bench.encoded(plain)), x.add_plain(plain)


def product(bench: Bench, seed: int) -> Result:
    (a, x), plain = fresh(bench, seed), random_slots(seed + 300)
    return bench.evaluator.multiply_plain(a, bench.encoded(plain)), x.multiply_plain(plain, SCALE_BITS)


def rescaled(bench: Bench, seed: int) -> Result:
    a, x = product(bench, seed)
    return bench.evaluator.rescale(a), x.rescale()


def depth_two(bench: Bench, seed: int) -> Result:
    (a, x), plain = rescaled(bench, seed), random_slots(seed + 400)
    encoded = bench.encoded(plain, PARAMS.max_level - 1)
    return bench.evaluator.rescale(bench.evaluator.multiply_plain(a, encoded)), x.multiply_plain(
        plain, SCALE_BITS
    ).rescale()


def rotated(bench: Bench, seed: int) -> Result:
    a, x = fresh(bench, seed)
    return bench.evaluator.rotate(a, 3), x.rotate(3)


def rotated_at_the_bottom(bench: Bench, seed: int) -> Result:
    a, x = depth_two(bench, seed)
    return bench.evaluator.rotate(a, 3), x.rotate(3)


SIMPLE = (fresh, complex_slots, coefficients, total, difference, total_with_plaintext, product, rescaled, depth_two)
ROTATIONS = (rotated, rotated_at_the_bottom)


@pytest.mark.parametrize("program", [*SIMPLE, *ROTATIONS], ids=lambda program: program.__name__)
def test_no_error_exceeds_its_bound_and_the_bound_is_near(bench: Bench, program: Callable[..., Result]) -> None:
    largest, bounds = 0.0, []
    for seed in range(RUNS):
        ciphertext, expected = program(bench, seed)
        errors = np.abs(bench.decrypted(ciphertext, expected.encoding) - expected.values)
        largest = max(largest, float(errors.max()))
        bounds.append(expected.tolerance)
        assert errors.max() <= expected.tolerance
    # A rotation's bound is that of slot 0 where digits are not centred; the emulation has the mean in all slots.
    room = 2**8 if program in ROTATIONS else 2**6
    assert max(bounds) <= room * largest, f"2^{math.log2(max(bounds) / largest):.1f} times the largest error"


def test_values_follow_the_operations() -> None:
    x = Expected.fresh(random_slots(1), PARAMS, SCALE_BITS)
    y = Expected.fresh(random_slots(2), PARAMS, SCALE_BITS)
    assert (x.add(y).values == x.values + y.values).all()
    assert (x.sub(y).values == x.values - y.values).all()
    assert (x.negate().values == -x.values).all()
    assert x.rotate(1).values[0] == x.values[1]
    assert (x.multiply_plain(y.values, SCALE_BITS).values == x.values * y.values).all()


def test_a_short_vector_is_padded_with_zeros() -> None:
    short = Expected.fresh(np.array([1.0, 2.0]), PARAMS, SCALE_BITS)
    assert short.values.size == SLOTS
    assert short.values[:3].tolist() == [1.0, 2.0, 0.0]
    assert Expected.fresh(np.ones(3), PARAMS, SCALE_BITS, encoding=Encoding.COEFFICIENTS).values.size == 2 * SLOTS


def test_every_operation_but_a_negation_adds_to_the_bound() -> None:
    resolved = get_manager().load_backend("numpy").resolve(PARAMS)
    x = Expected.fresh(random_slots(3), resolved, SCALE_BITS)
    assert x.negate().error == x.error
    assert x.add(x).error == x.sub(x).error == 2 * x.error
    assert x.add_plain(x.values).error > x.error
    assert x.rotate(1).error > x.error
    higher = x.multiply_plain(x.values, SCALE_BITS)
    assert higher.error > x.error
    assert higher.rescale().error > higher.error
    assert higher.rescale().level == x.level - 1
    assert Expected.fresh(x.values, resolved, SCALE_BITS, public=True).error > x.error


def test_the_bound_is_relative_to_the_scale() -> None:
    low, high = (Expected.fresh(np.ones(SLOTS), PARAMS, bits) for bits in (30, 40))
    assert low.error == pytest.approx(2**10 * high.error)
