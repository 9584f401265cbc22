"""Compute the same operation on the same operands once: a rotation repeated is a key switch wasted."""

from __future__ import annotations

from helora_core.compiler.ir import Op, OpKind, Program, renumber, with_args

_NEVER_ALIKE = (OpKind.INPUT, OpKind.SANITIZE, OpKind.MASK, OpKind.ASK_CLIENT, OpKind.CORRELATE)
"""Each of these is another ciphertext, or fresh randomness, every time."""


def share_common(program: Program) -> Program:
    """Replace every repeated operation by its first occurrence. Sums are shared whatever their operands' order."""
    first: dict[Op, int] = {}
    stands_for: list[int] = []
    kept: list[tuple[int, Op]] = []
    for i, op in enumerate(program.ops):
        # Until something is shared, every value stands for itself.
        shared = op if len(kept) == i else with_args(op, tuple([stands_for[arg] for arg in op.args]))
        if op.kind not in _NEVER_ALIKE:
            unordered = op.kind is OpKind.ADD and shared.args[0] > shared.args[1]
            key = with_args(shared, shared.args[::-1]) if unordered else shared
            earlier = first.setdefault(key, i)
            if earlier != i:
                stands_for.append(earlier)
                continue
        stands_for.append(i)
        kept.append((i, shared))
    if len(kept) == len(program.ops):
        return program
    outputs = (None if output is None else stands_for[output] for output in program.outputs)
    return renumber(program, kept, outputs)
