"""Compute the same operation on the same operands once: a rotation repeated is a key switch wasted."""

from __future__ import annotations

import msgspec

from helora_core.compiler.ir import Op, OpKind, Program, renumber


def share_common(program: Program) -> Program:
    """Replace every repeated operation by its first occurrence. Sums are shared whatever their operands' order."""
    first: dict[Op, int] = {}
    stands_for: list[int] = []
    kept = []
    for i, op in enumerate(program.ops):
        shared = msgspec.structs.replace(op, args=tuple(stands_for[arg] for arg in op.args))
        key = msgspec.structs.replace(shared, args=tuple(sorted(shared.args)))
        # Two inputs look alike and are not: each is another ciphertext.
        if op.kind is not OpKind.INPUT and key in first:
            stands_for.append(first[key])
            continue
        first[key] = i
        stands_for.append(i)
        kept.append((i, shared))
    return renumber(program.slots, kept, (stands_for[output] for output in program.outputs))
