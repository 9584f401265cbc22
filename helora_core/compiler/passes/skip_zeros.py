"""Leave out products with plaintexts that are zero throughout, and all that follows from them.

Sparse and gated adapters have such diagonals, rows or whole modules. What is left out shows in the plan: a client who
sees the plan, or counts ciphertexts, learns where the adapter has its zeros.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec

from helora_core.compiler.ir import Op, OpKind, Program, renumber, with_args

Support = Mapping[str, Collection[int]]
"""For each plaintext that has zeros worth knowing of: the places where it is not zero."""

_OF_ZERO_IS_ZERO = (
    OpKind.ROTATE,
    OpKind.RESCALE,
    OpKind.SANITIZE,
    OpKind.MASK,
    OpKind.ASK_CLIENT,
    OpKind.UNMASK,
    OpKind.CORRELATE,
)


def skip_zeros(program: Program, support: Support) -> Program:
    """Replace sums with zero by their other terms; an output that is zero becomes None.

    A program that asks the client is left as it is, since masks are for zeros too, unless all its outputs are zero.

    Args:
        program: The program.
        support: Plaintexts that are missing here count as not zero anywhere.
    """
    support = {name: frozenset(places) for name, places in support.items()}
    zero: set[int] = set()
    stands_for = list(range(len(program.ops)))
    kept: list[tuple[int, Op]] = []
    for i, op in enumerate(program.ops):
        args = tuple(stands_for[arg] for arg in op.args)
        nonzero = [place for place, arg in enumerate(args) if arg not in zero and _multiplies(op, place, support)]
        if op.kind in (OpKind.ADD, OpKind.DOT_PLAIN, OpKind.DOT_SCALARS, OpKind.MULTIPLY_PLAIN):
            if not nonzero:
                zero.add(i)
                continue
            if op.kind is OpKind.ADD and len(nonzero) == 1:
                stands_for[i] = args[nonzero[0]]
                continue
            op = _restricted(op, nonzero)
            args = tuple(args[place] for place in nonzero)
        elif op.kind in _OF_ZERO_IS_ZERO and zero.issuperset(args):
            zero.add(i)
            continue
        kept.append((i, with_args(op, args)))
    outputs = [
        None if output is None or stands_for[output] in zero else stands_for[output] for output in program.outputs
    ]
    if any(op.kind is OpKind.ASK_CLIENT for op in program.ops):
        return program if any(output is not None for output in outputs) else renumber(program, (), outputs)
    return renumber(program, kept, outputs)


def _multiplies(op: Op, place: int, support: Support) -> bool:
    """Whether operand ``place`` meets something that is not zero."""
    if op.kind is OpKind.MULTIPLY_PLAIN:
        return bool(support.get(op.constant, (0,)))
    if op.kind is OpKind.DOT_PLAIN:
        return bool(support.get(op.constants[place], (0,)))
    if op.kind is OpKind.DOT_SCALARS and op.constant in support:
        return op.positions[place] in support[op.constant]
    return True


def _restricted(op: Op, places: list[int]) -> Op:
    """The operation on some of its operands; the caller sets them."""
    return msgspec.structs.replace(
        op,
        constants=tuple(op.constants[place] for place in places) if op.constants else (),
        positions=tuple(op.positions[place] for place in places) if op.positions else (),
    )
