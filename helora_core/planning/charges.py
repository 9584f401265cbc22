"""What a run takes at the server, as figures of a profile: operation by operation, or within whole programs."""

from __future__ import annotations

from collections.abc import Iterator

from helora_core.backend.capabilities import Encoding
from helora_core.compiler.cost import least_divisions
from helora_core.compiler.ir import PRODUCTS, Op, OpKind, additions
from helora_core.compiler.plan import Plan
from helora_core.compiler.rounds import RoundKind

Charge = tuple[str, int, float]
"""An operation of the profile, the level it works at, and how often."""

Named = tuple[str, Charge]
"""A charge by the name it is shown under."""


def single_charges(plan: Plan) -> Iterator[Named]:
    """The charges for every operation of a run, done one by one."""
    for i, op in enumerate(plan.program.ops):
        level = _level(plan, op)
        if op.kind is OpKind.ROTATE:
            previous = plan.program.ops[i - 1]
            hoisted = previous.kind is OpKind.ROTATE and previous.args == op.args
            yield "rotate", ("rotate_further" if hoisted else "rotate_first", level, 1)
        elif op.kind is OpKind.MULTIPLY_PLAIN:
            yield "multiply_plain", ("multiply_plain", level, 1)
        elif op.kind is OpKind.DOT_PLAIN:
            yield "multiply_plain", ("dot_first", level, 1)
            yield "multiply_plain", ("dot_further", level, len(op.args) - 1)
        elif op.kind is OpKind.DOT_SCALARS:
            yield "multiply_scalar", ("multiply_scalar", level, len(op.args))
            yield "add", ("add", level, additions(op))
        elif op.kind is OpKind.ADD:
            yield "add", ("add", level, 1)
        elif op.kind is OpKind.RESCALE:
            yield "rescale", ("rescale", level, 1)
        else:
            yield from _between(plan, op, level)


def whole_charges(plan: Plan) -> Iterator[Named]:
    """The charges for a run whose rounds the backend runs as whole programs; see ``program_probes`` for the figures.

    Sums are not charged: they are part of the rotations and products that they add up.
    """
    ops, top = plan.program.ops, plan.params.max_level
    numbers = any(op.kind is OpKind.DOT_SCALARS for op in ops)
    rounds = sum(turn.kind is RoundKind.HOMOMORPHIC for turn in plan.rounds)
    yield "run", ("program_run_numbers" if numbers else "program_run", top, rounds)
    division = least_divisions(plan.program)
    for value, _ in division.divided:
        yield "rotate", ("program_divide", plan.values[value].level, 1)
    for value in {op.args[0] for op in ops if op.kind is OpKind.ROTATE}:
        yield "rotate", ("program_decompose", plan.values[value].level, 1)
    for i, op in enumerate(ops):
        level = _level(plan, op)
        if op.kind is OpKind.ROTATE:
            yield "rotate", ("program_rotate", level, 1)
        elif op.kind is OpKind.DOT_SCALARS:
            yield "multiply_scalar", ("program_multiply_number", level, len(op.args))
        elif op.kind in PRODUCTS:
            figure = "program_multiply_rotated" if division.undivided[i] else "program_multiply"
            yield "multiply_plain", (figure, level, len(op.args))
        elif op.kind is OpKind.RESCALE:
            yield "rescale", ("program_rescale", level, 1)
        elif op.kind is not OpKind.ADD:
            yield from _between(plan, op, level)


def _between(plan: Plan, op: Op, level: int) -> Iterator[Named]:
    """What comes before, after and between programs."""
    if op.kind in (OpKind.INPUT, OpKind.ASK_CLIENT):
        yield "receive", ("server_receive", plan.params.max_level, 1)
        for arg in op.args:
            yield "send", ("server_send", plan.values[arg].level, 1)
    else:
        yield "sanitize", _hiding(plan, op, level)
        for dropped in range(op.steps if op.kind is OpKind.SANITIZE else 0):
            yield "rescale", ("rescale", level - dropped, 1)


def _hiding(plan: Plan, op: Op, level: int) -> Charge:
    """The time to sanitise, mask or unmask a value; sanitising is timed only at the highest level."""
    if op.kind is OpKind.SANITIZE:
        trimmed = op.positions and plan.program.encoding is Encoding.COEFFICIENTS
        return "sanitize_trimmed" if trimmed else "sanitize", plan.params.max_level, 1
    return op.kind.value, level, 1


def _level(plan: Plan, op: Op) -> int:
    """The level of what an operation reads."""
    return plan.values[op.args[0]].level if op.args else plan.params.max_level
