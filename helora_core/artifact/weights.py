"""Weights read back from stored plaintexts: an artifact is judged by them, not by what it states.

A packing's plaintexts are the module's numbers, each in one or more places. The place of each number is found by
letting the installed packing place numbers that identify their origin. Then a module's plaintexts have to be what
the packing makes from *some* module: every number the same in all its places, nothing between them, no vector longer or
shorter. The floods have to suit the sizes of that module's weights.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.compiler.plan import Plan
from helora_core.packing.protocol import Layout, Vector

LARGEST_MATRIX = 1 << 28
"""Most numbers that are read back: two gibibytes of them."""

_KEPT = 1 << 24
"""Most places that are kept for the next module of a plan: 128 MiB of them."""

Places: TypeAlias = NDArray[np.int64]
"""The number in each place of a vector, from 1: ``down``'s before ``up``'s, or up·down's; 0 for none."""


class NotOfThePacking(Exception):
    """The packing does not make these plaintexts from any module. The text says what is wrong, without the numbers."""


@dataclass(frozen=True)
class Recovered:
    """The exact weights that plaintexts are made of.

    Attributes:
        down: r × d_in; None if only the merged matrix is stored.
        up: The scaled ``up``, d_out × r; likewise.
        merged: up·down, d_out × d_in, if that is stored.
    """

    down: Vector | None
    up: Vector | None
    merged: Vector | None


class Readback:
    """Where a layout puts each number.

    Args:
        plan: The plan, whose layout has to be one that the installed packing makes.
    """

    def __init__(self, plan: Plan) -> None:
        self._layout = plan.layout
        self._shape = plan.shape
        self._kind = _kind_of(plan.layout, plan.shape)
        self._kept: list[tuple[str, Places]] | None = [] if self._kind else None

    @property
    def possible(self) -> bool:
        """Whether plaintexts are numbers of the module, or of up·down, unchanged."""
        return self._kind is not None

    def read(self, vectors: Iterable[tuple[str, Vector]]) -> Recovered:
        """The weights in a module's plaintexts; those that are not stored are zero.

        Raises:
            NotOfThePacking: No module has these plaintexts.
        """
        stored = dict(vectors)
        kind = self._kind
        if kind is None:
            raise NotOfThePacking("its packing changes the numbers that it places")
        numbers = np.full(kind.numbers(self._shape) + 1, np.nan)
        numbers[0] = 0.0
        for name, places in self._places(kind):
            vector = stored.pop(name, None)
            if vector is None:
                vector = np.zeros(places.size)
            if vector.size != places.size:
                raise NotOfThePacking(f"constant {name!r} has another length")
            # The first of equal places decides, and all others have to agree; NaN is a number that is not set yet.
            unset = np.isnan(numbers[places])
            numbers[places[unset]] = vector[unset]
            if not np.array_equal(numbers[places], vector):
                raise NotOfThePacking(f"constant {name!r} does not fit the others, or has numbers where none belong")
        if stored:
            raise NotOfThePacking(f"the packing has no constant {next(iter(stored))!r}")
        return kind.recovered(np.nan_to_num(numbers[1:], copy=False, nan=0.0), self._shape)

    def _places(self, kind: _Kind) -> Iterator[tuple[str, Places]]:
        if self._kept:
            yield from self._kept
            return
        keep: list[tuple[str, Places]] | None = []
        total = 0
        for name, places in kind.places(self._layout, self._shape):
            total += places.size
            if total > _KEPT:
                keep = None
            if keep is not None:
                keep.append((name, places))
            yield name, places
        self._kept = keep


class _Kind(ABC):
    """How a packing stores weights."""

    @abstractmethod
    def numbers(self, shape: ModuleShape) -> int:
        """How many numbers there are."""

    @abstractmethod
    def places(self, layout: Layout, shape: ModuleShape) -> Iterator[tuple[str, Places]]:
        """For each constant, the number in each place."""

    @abstractmethod
    def recovered(self, numbers: Vector, shape: ModuleShape) -> Recovered:
        """The weights, of all numbers in order."""


class _Factors(_Kind):
    """Numbers of ``down`` and of ``up``."""

    def numbers(self, shape: ModuleShape) -> int:
        return shape.rank * (shape.d_in + shape.d_out)

    def places(self, layout: Layout, shape: ModuleShape) -> Iterator[tuple[str, Places]]:
        tags = np.arange(1.0, self.numbers(shape) + 1)
        parts = self.recovered(tags, shape)
        assert parts.down is not None and parts.up is not None  # noqa: PT018 - both are what ``recovered`` gives
        for name, vector in layout.constants(LoRAModule("places", parts.down, parts.up, 1.0)):
            yield name, vector.astype(np.int64)

    def recovered(self, numbers: Vector, shape: ModuleShape) -> Recovered:
        down = shape.rank * shape.d_in
        return Recovered(
            numbers[:down].reshape(shape.rank, shape.d_in), numbers[down:].reshape(shape.d_out, shape.rank), None
        )


class _Merged(_Kind):
    """Numbers of up·down."""

    def numbers(self, shape: ModuleShape) -> int:
        return shape.d_out * shape.d_in

    def places(self, layout: Layout, shape: ModuleShape) -> Iterator[tuple[str, Places]]:
        # Row and column, each from 1, by two matrices of rank one: every rank has them exactly.
        rows = layout.constants(_rank_one(np.arange(1.0, shape.d_out + 1), np.ones(shape.d_in)))
        columns = layout.constants(_rank_one(np.ones(shape.d_out), np.arange(1.0, shape.d_in + 1)))
        for (name, row), (_, column) in zip(rows, columns, strict=True):
            places = (row.astype(np.int64) - 1) * shape.d_in + column.astype(np.int64)
            yield name, np.where(row == 0, 0, places)

    def recovered(self, numbers: Vector, shape: ModuleShape) -> Recovered:
        return Recovered(None, None, numbers.reshape(shape.d_out, shape.d_in))


def _rank_one(up: Vector, down: Vector) -> LoRAModule:
    return LoRAModule("places", down[np.newaxis], up[:, np.newaxis], 1.0)


def _kind_of(layout: Layout, shape: ModuleShape) -> _Kind | None:
    """How the packing stores weights, if it only places numbers; else None."""
    random = np.random.default_rng(0)
    if _Merged().numbers(shape) <= LARGEST_MATRIX and _is_merged(layout, shape):
        column, row = random.normal(size=shape.d_out), random.normal(size=shape.d_in)
        merged: Vector = np.outer(column, row)
        return _Merged() if _places_only(_Merged(), layout, shape, _rank_one(column, row), merged.ravel()) else None
    if _Factors().numbers(shape) > LARGEST_MATRIX:
        return None
    parts = _Factors().recovered(random.normal(size=_Factors().numbers(shape)), shape)
    assert parts.down is not None and parts.up is not None  # noqa: PT018
    module = LoRAModule("random", parts.down, parts.up, 1.0)
    numbers = np.concatenate([parts.down.ravel(), parts.up.ravel()])
    return _Factors() if _places_only(_Factors(), layout, shape, module, numbers) else None


def _is_merged(layout: Layout, shape: ModuleShape) -> bool:
    """Whether a module with one factor of zero has only zeros in its plaintexts; tested with rank one."""
    nothing = _rank_one(np.zeros(shape.d_out), np.ones(shape.d_in))
    try:
        return not any(vector.any() for _, vector in layout.constants(nothing))
    except (ValueError, IndexError):
        return False  # it looks for rows that a module of rank one does not have


def _places_only(kind: _Kind, layout: Layout, shape: ModuleShape, module: LoRAModule, numbers: Vector) -> bool:
    """Whether the plaintexts of ``module`` are its ``numbers``, in the places given by ``kind``."""
    known = np.concatenate([[0.0], numbers])
    for (name, vector), (tagged, places) in zip(layout.constants(module), kind.places(layout, shape), strict=True):
        if name != tagged or vector.size != places.size or not 0 <= places.min() <= places.max() < known.size:
            return False
        if not np.allclose(known[places], vector, rtol=1e-12, atol=0):
            return False
    return True
