"""The laws of programs that run ahead of time: sums of products of numbers that the client draws, and correlations."""

from __future__ import annotations

from helora_core.compiler.ir import RANDOM, OpKind, Program
from helora_core.errors import InvalidProgram
from helora_core.params.ckks import WRAP_BITS, CKKSParams

_REPORT = "This is a fault of the packing: report it with the plan's --show."

_AHEAD = frozenset({OpKind.INPUT, OpKind.DOT_SCALARS, OpKind.CORRELATE})


def output_masks(program: Program) -> tuple[str, ...]:
    """Name of the mask on each result, in order."""
    return tuple(program.ops[output].constant for output in program.results)


def check_offline(program: Program, params: CKKSParams) -> None:
    """Refuse a program that mixes randomness with activations, or sends results that are not masked.

    Args:
        program: A program with random inputs, or under parameters with a wrap limb.
        params: The parameters.

    Raises:
        InvalidProgram: Some inputs are random and others are not; the parameters have no wrap limb; an operation is
            neither a sum of products with numbers nor a correlation; a result is no correlation, or has no mask of its
            own: the client would see W·r, or the difference of two results; or a correlation is read.
    """
    ops = program.ops
    if any(op.constant != RANDOM for op in ops if op.kind is OpKind.INPUT):
        raise InvalidProgram("A program ahead of time takes activations.", hint=_REPORT)
    if not params.wrap_bits:
        raise InvalidProgram("A program ahead of time, and parameters without a wrap limb.", hint=_REPORT)
    for i, op in enumerate(ops):
        if op.kind not in _AHEAD:
            raise InvalidProgram(f"%{i}: {op.kind.value} in a program ahead of time.", hint=_REPORT)
        if any(ops[arg].kind is OpKind.CORRELATE for arg in op.args):
            raise InvalidProgram(f"%{i}: {op.kind.value} reads a correlation.", hint=_REPORT)
        if op.low_bits and not (len(op.low_bits) == 3 and all(0 <= bits < WRAP_BITS for bits in op.low_bits)):
            raise InvalidProgram(f"%{i}: a correlation cannot drop the low bits {op.low_bits}.", hint=_REPORT)
    for output in program.results:
        if ops[output].kind is not OpKind.CORRELATE:
            raise InvalidProgram(f"%{output}: a result of a program ahead of time has no mask.", hint=_REPORT)
    masks = [op.constant for op in ops if op.kind is OpKind.CORRELATE]
    if len(set(masks)) < len(masks) or len(set(program.results)) < len(program.results):
        raise InvalidProgram("Two results of a program ahead of time have the same mask.", hint=_REPORT)
    if len({ops[output].low_bits for output in program.results}) > 1:
        raise InvalidProgram("Results of a program ahead of time drop different bits.", hint=_REPORT)
