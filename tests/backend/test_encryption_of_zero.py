"""Encryptions of zero by the public key, at any level and scale: what hides a result's randomness."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from helora_core.backend.sanitize import (
    _start_scale,
    encryption_of_zero,
)
from helora_core.errors import LevelExhausted, ScaleMismatch
from tests.backend.bench import REFRESHED, SCALE, TOP, Bench


def program_scales() -> Iterator[tuple[float, tuple[int, ...]]]:
    """Scales as programs make them: powers of two, divided by primes one after the other."""
    primes = (35184372121601, 1073643521, 17179672577)
    for dropped in range(3):
        for bits in (40, 63, 90, 101):
            scale = 2.0**bits
            for prime in reversed(primes[3 - dropped :]):
                scale = scale / prime * 2.0**20
            yield scale, primes[3 - dropped :]


@pytest.mark.parametrize(("scale", "dropped"), list(program_scales()))
def test_the_scale_to_start_from_leads_to_exactly_the_one_wanted(scale: float, dropped: tuple[int, ...]) -> None:
    reached = _start_scale(scale, dropped)
    for prime in reversed(dropped):
        reached = reached / prime
    assert reached == scale


def test_a_scale_that_nothing_leads_to_is_refused(refused: Any) -> None:
    # The doubles near scale·prime, just above a power of two, are about twice as far apart as those near the scale.
    prime = round(1.06 * 2**30)
    unreachable = next(
        scale
        for scale in (1.9 + ulp * 2.0**-52 for ulp in range(100))
        if not any(scale * prime * (1 + ulps * 2.0**-53) / prime == scale for ulps in range(-8, 9))
    )
    with refused(ScaleMismatch, "1 rescales", hint="powers of two"):
        _start_scale(unreachable, (prime,))


@pytest.mark.parametrize("level", range(TOP + 1))
def test_it_goes_with_ciphertexts_of_that_level_and_scale(bench: Bench, x: NDArray[np.float64], level: int) -> None:
    ciphertext = bench.encrypted(x, level)
    scale = bench.server.scale(ciphertext)
    zero = encryption_of_zero(*bench.parts, level=level, scale=scale)
    assert bench.server.level(zero) == level
    assert bench.server.scale(zero) == scale
    total = bench.server.add(ciphertext, zero)
    error = np.abs(bench.added(ciphertext, total)).astype(float)
    assert 0 < np.max(error) < REFRESHED


def test_it_is_another_one_each_time(bench: Bench) -> None:
    zeros = [encryption_of_zero(*bench.parts, level=0, scale=SCALE) for _ in range(40)]
    assert len({bench.server.serialize(zero) for zero in zeros}) == 40


@pytest.mark.parametrize("level", [-1, TOP + 1])
def test_levels_that_are_not_there_are_refused(bench: Bench, refused: Any, level: int) -> None:
    with refused(LevelExhausted, f"level {level}"):
        encryption_of_zero(*bench.parts, level=level, scale=SCALE)
