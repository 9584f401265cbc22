"""Compute the same operation on the same operands once: a rotation repeated is a key switch wasted."""

from __future__ import annotations

from helora_core.compiler.ir import Op, OpKind, Program, renumber, with_args

_NEVER_ALIKE = (OpKind.INPUT, OpKind.SANITIZE, OpKind.MASK, OpKind.ASK_CLIENT)
"""Each of these is another ciphertext, or fresh randomness, every time."""


def share_common(program: Program) -> Program:
    """Replace every repeated operation by its first occurrence. Sums are shared whatever their operands' order."""
    first: dict[Op, int] = {}
    stands_for: list[int] = []
    kept = []
    for i, op in enumerate(program.ops):
        shared = with_args(op, tuple([stands_for[arg] for arg in op.args]))
        key = with_args(shared, tuple(sorted(shared.args))) if op.kind is OpKind.ADD else shared
        if op.kind not in _NEVER_ALIKE and key in first:
            stands_for.append(first[key])
            continue
        first[key] = i
        stands_for.append(i)
        kept.append((i, shared))
    outputs = (None if output is None else stands_for[output] for output in program.outputs)
    return renumber(program, kept, outputs)
