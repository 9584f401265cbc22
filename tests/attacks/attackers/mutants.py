"""Product code with one protection weakened each, and where that must be noticed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import numpy as np

from helora_core.backend import coefficient_noise
from helora_core.backend import sanitize as sanitizing
from helora_core.backend.residues import Integers
from helora_core.compiler import error_flow
from helora_core.compiler.error_flow import ErrorFlow
from helora_core.compiler.noisy import Noisy, Source
from helora_core.packing.protocol import ScaleRole
from helora_core.privacy import floods

Weakened = Callable[[], contextlib.AbstractContextManager[Any]]

SLOTS, TWO_ROUNDS = "slots", "two rounds"


@dataclass(frozen=True)
class Mutant:
    """A weakening.

    Attributes:
        what: In words.
        weakened: The context in which it is in force.
        seen_in: By which services' measurements it is noticed.
    """

    what: str
    weakened: Weakened
    seen_in: tuple[str, ...] = (SLOTS, TWO_ROUNDS)


def _flow(name: str, changed: Callable[..., Any]) -> Weakened:
    """A method of the error flow, with its result changed by ``changed(flow, result, …)``."""
    honest = getattr(ErrorFlow, name)
    return lambda: mock.patch.object(ErrorFlow, name, lambda self, *args: changed(self, honest(self, *args), *args))


def _sized(name: str, changed: Callable[[float, int], int]) -> Weakened:
    """``flood_deviation_bits`` or ``mask_deviation_bits`` as the flow uses it."""
    return lambda: mock.patch.object(error_flow, name, changed)


def _up_by_root_mean_square(flow: ErrorFlow, result: Noisy, op: Any, operands: Any) -> Noisy:
    """The norm of the whole of ``up`` is one, rather than each row's."""
    rows = flow.shape.d_out if op.role is ScaleRole.UP else 1
    return replace(result, variances=result.variances / rows)


def _without(source: Source) -> Callable[..., Noisy]:
    def changed(flow: ErrorFlow, result: Noisy, *args: Any) -> Noisy:
        variances = result.variances.copy()
        variances[source.value] = 0.0
        return replace(result, variances=variances)

    return changed


def _nothing_drowned(ring_degree: int, *args: Any) -> Integers:
    return Integers(np.zeros((1, ring_degree), dtype=np.int64))


def _imaginary_parts_left(ring_degree: int, bits: int, readable: Any, generator: int) -> Integers:
    normal = coefficient_noise._normal(ring_degree // 2)
    slots = (normal * ~readable).astype(np.complex128)
    coefficients = coefficient_noise.slots_to_coefficients(slots, ring_degree, generator)
    return Integers.of_values(coefficients, 2.0**bits)


def _small_integers(primes: Any, count: int) -> Any:
    return Integers(np.random.default_rng().integers(-(2**20), 2**20, size=(1, count))).residues(primes)


@contextlib.contextmanager
def _one_seed() -> Iterator[None]:
    """Every draw from the operating system's generator gives the same bytes."""
    with mock.patch("secrets.token_bytes", lambda count=16: np.random.default_rng(1).bytes(count)):
        yield


MUTANTS = (
    Mutant("floods without margin, and 20 bits less", lambda: mock.patch.object(floods, "FLOOD_MARGIN_BITS", -20)),
    Mutant(
        "floods 20 bits too small",
        _sized("flood_deviation_bits", lambda norm, bits: floods.flood_deviation_bits(norm, bits) - 20),
    ),
    Mutant(
        "masks 20 bits too small",
        _sized("mask_deviation_bits", lambda norm, bits: floods.mask_deviation_bits(norm, bits) - 20),
        (SLOTS,),
    ),
    Mutant(
        "20 bits for floods, whatever was asked",
        _sized("flood_deviation_bits", lambda norm, bits: floods.flood_deviation_bits(norm, 20)),
    ),
    Mutant(
        "20 bits for masks, whatever was asked",
        _sized("mask_deviation_bits", lambda norm, bits: floods.mask_deviation_bits(norm, 20)),
        (SLOTS,),
    ),
    Mutant("rows of up by their root mean square", _flow("_product", _up_by_root_mean_square), (SLOTS,)),
    Mutant("key switches without noise", _flow("_keyswitch", lambda flow, result, i: (0.0, 0.0)), (SLOTS,)),
    Mutant("a first round without noise", _flow("_answered", _without(Source.FIRST_ROUND)), (TWO_ROUNDS,)),
    Mutant(
        "no flood",
        lambda: mock.patch.object(
            sanitizing, "normal_integers", lambda count, bits: Integers(np.zeros((1, count), dtype=np.int64))
        ),
    ),
    Mutant(
        "unread slots not drowned", lambda: mock.patch.object(sanitizing, "normal_in_slots", _nothing_drowned), (SLOTS,)
    ),
    Mutant(
        "imaginary parts not drowned",
        lambda: mock.patch.object(sanitizing, "normal_in_slots", _imaginary_parts_left),
        (SLOTS,),
    ),
    Mutant(
        "unread coefficients not masked",
        lambda: mock.patch.object(sanitizing, "_others", lambda keep, places: np.zeros(places, dtype=bool)),
        (TWO_ROUNDS,),
    ),
    Mutant("masks of small integers", lambda: mock.patch.object(sanitizing, "uniform", _small_integers), (TWO_ROUNDS,)),
    Mutant(
        "results not re-randomised",
        lambda: mock.patch.object(sanitizing, "rerandomize", lambda evaluator, params, capabilities, result: result),
        (TWO_ROUNDS,),
    ),
    Mutant("noise from a seeded generator", _one_seed),
)
