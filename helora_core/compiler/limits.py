"""Limits on modules and programs, so that planning neither takes forever nor fills the memory.

The limits do not say what is worth running; they bound the work of finding that out. Programs are metered while
they are emitted, since a packing's loops cannot be trusted to end soon; all of a packing's operations are metered.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from helora_core.adapter.lora import ModuleShape
from helora_core.compiler.builder import Builder
from helora_core.compiler.cost import relative_cost
from helora_core.compiler.ir import Op, OpKind, Program
from helora_core.errors import ProgramTooLarge
from helora_core.packing.costs import DEFAULT_COSTS, OperationCosts
from helora_core.packing.protocol import Layout, Value

LARGEST_DIMENSION = 300_000
"""Widest module, or highest rank. The widest layers of published models are vocabularies of some 262 000 words."""

LARGEST_PROGRAM = 150_000
"""Most operations of a program; ``OPERANDS_OF_AN_OPERATION`` operands count as one more. ``halevi_shoup``, which needs
most, has 87 000 for the widest layer of a 70-billion-parameter model, and half a megabyte of plaintext for each."""

LARGEST_ALTERNATIVE = 25_000
"""The same for layouts after a packing's first, and for all that are tried to find a batch: the search for something
better must not take longer than the plan itself."""

OPERANDS_OF_AN_OPERATION = 64

_NO_BOUND = [math.inf]
_SHARED: ContextVar[list[float]] = ContextVar("helora_core.compiler.limits", default=_NO_BOUND)

_ROUNDING = 1 + 1e-9
"""Tolerance for rounding: costs are added up in two orders."""

AnyLayout = TypeVar("AnyLayout", bound=Layout)


def check_shape(shape: ModuleShape) -> None:
    """Refuse a module that is larger than those of any model.

    Raises:
        ProgramTooLarge: A dimension or the rank is beyond ``LARGEST_DIMENSION``.
    """
    if max(shape.d_in, shape.d_out, shape.rank) > LARGEST_DIMENSION:
        raise ProgramTooLarge(
            f"Module {shape}: dimensions and rank go up to {LARGEST_DIMENSION}.",
            hint="Check the shape, d_in:d_out:r; split the module if it is really that wide.",
        )


class TooCostly(Exception):
    """A program costs more than one that is already known, so the rest of it need not be emitted."""


class Meter:
    """Limits the size and cost of a program while it is emitted.

    Args:
        costs: What operations cost.
        most_cost: Bound on the costs of one run; they are counted as ``relative_cost`` does, or less.

    Attributes:
        who: The packing, as the subject of an error message.
    """

    def __init__(self, costs: OperationCosts = DEFAULT_COSTS, most_cost: float = math.inf) -> None:
        self.who = "A packing"
        self._size_left = float(LARGEST_PROGRAM)
        self._cost_left = most_cost
        self._shared = _SHARED.get()
        self._scalar = costs.multiply_scalar
        self._cost = {
            OpKind.INPUT: costs.encrypt,
            OpKind.ASK_CLIENT: costs.encrypt,
            OpKind.ROTATE: costs.key_product,
            OpKind.MULTIPLY_PLAIN: costs.multiply_plain,
            OpKind.ADD: costs.add,
            OpKind.RESCALE: costs.rescale,
            OpKind.SANITIZE: costs.sanitize,
            OpKind.MASK: costs.sanitize,
            OpKind.CORRELATE: costs.sanitize,
        }

    def count(self, op: Op) -> None:
        """Count an operation.

        Raises:
            ProgramTooLarge: The program has too many operations.
            TooCostly: The program costs more than ``most_cost``.
        """
        size = 1 + len(op.args) / OPERANDS_OF_AN_OPERATION
        self._size_left -= size
        self._shared[0] -= size
        if self._size_left < 0 or self._shared[0] < 0:
            raise ProgramTooLarge(
                f"{self.who}: the program for this module has more than {LARGEST_PROGRAM} operations.",
                hint="Use another packing (`helora explain` compares them), a larger ring, or a narrower module.",
            )
        scalars = len(op.args) if op.kind is OpKind.DOT_SCALARS else 0
        self._cost_left -= self._cost.get(op.kind, 0.0) + scalars * self._scalar
        if self._cost_left < 0:
            raise TooCostly


class MeteredBuilder(Builder):
    """A builder that stops a program from growing beyond its limits while it is emitted.

    Args:
        meter: The limits.
        arguments, options: As for ``Builder``.
    """

    def __init__(self, meter: Meter, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._meter = meter

    def _append(self, op: Op) -> Value:
        self._meter.count(op)
        return super()._append(op)


@contextmanager
def together_within(operations: float) -> Iterator[None]:
    """Limit all programs emitted in the block to so many operations together, and to no more than outside it.

    Raises:
        ProgramTooLarge: Raised in the block by the first operation too many.
    """
    outer = _SHARED.get()
    inner = [min(operations, outer[0])]
    token = _SHARED.set(inner)
    before = inner[0]
    try:
        yield
    finally:
        _SHARED.reset(token)
        outer[0] -= before - inner[0]


def cheapest(
    layouts: Iterable[AnyLayout],
    emit: Callable[[AnyLayout, Meter], Program],
    *,
    tokens: int | None,
    costs: OperationCosts,
    most: float = math.inf,
) -> tuple[float, AnyLayout, Program] | None:
    """The cheapest layout, its cost, and its program; None if all cost more than ``most``.

    Programs grow from layout to layout, so that after the first one they are followed no further than
    ``LARGEST_ALTERNATIVE``.

    Args:
        layouts: The layouts to choose from.
        emit: Gives a layout's program.
        tokens: Tokens to run, in as many runs as needed; None for one run.
        costs: What operations cost.
        most: Bound on the costs of all runs.

    Raises:
        ProgramTooLarge: Even the first program is too large.
    """
    best: tuple[float, AnyLayout, Program] | None = None
    for number, layout in enumerate(layouts):
        runs = 1 if tokens is None else -(-tokens // layout.tokens_per_run)
        bound = (most if best is None else best[0]) * _ROUNDING / runs
        try:
            with together_within(LARGEST_ALTERNATIVE if number else LARGEST_PROGRAM):
                program = emit(layout, Meter(costs, bound))
        except TooCostly:
            continue
        except ProgramTooLarge:
            if number:
                break
            raise
        cost = runs * relative_cost(program, costs)
        if cost <= most and (best is None or cost < best[0]):
            best = cost, layout, program
    return best
