"""The laws of programs that run ahead of time, on integers that the client draws."""

from __future__ import annotations

from collections.abc import Sequence

from helora_core.compiler.ir import RANDOM, OpKind, Program
from helora_core.errors import InvalidProgram

_REPORT = "This is a fault of the packing: report it with the plan's --show."


def output_masks(program: Program) -> tuple[str, ...]:
    """Name of the mask on each result, in order; the server subtracts it once activations come.

    Raises:
        InvalidProgram: A result has no mask, or two have the same: the client would see W·r, or the difference of two
            results.
    """
    names = []
    for output in program.results:
        op = program.ops[output]
        while op.kind is OpKind.SANITIZE:
            op = program.ops[op.args[0]]
        if op.kind is not OpKind.MASK:
            raise InvalidProgram(f"%{output}: a result of a program ahead of time has no mask.", hint=_REPORT)
        names.append(op.constant)
    if len(set(names)) < len(names):
        raise InvalidProgram("Two results of a program ahead of time have the same mask.", hint=_REPORT)
    return tuple(names)


def check_offline(program: Program, levels: Sequence[int]) -> None:
    """Refuse a program that mixes randomness with activations, or sends unmasked results.

    Args:
        program: A program with random inputs.
        levels: The level of each of its values.

    Raises:
        InvalidProgram: Some inputs are random and others are not; a result has no mask of its own; or results are
            masked at two levels.
    """
    if any(op.constant != RANDOM for op in program.ops if op.kind is OpKind.INPUT):
        raise InvalidProgram("A program ahead of time takes activations.", hint=_REPORT)
    masked = [op.constant for op in program.ops if op.kind is OpKind.MASK]
    if len(set(masked)) < len(masked):
        raise InvalidProgram("Two values of a program ahead of time have the same mask.", hint=_REPORT)
    output_masks(program)
    if len({levels[output] for output in program.results}) > 1:
        raise InvalidProgram("Results of a program ahead of time are at several levels.", hint=_REPORT)
