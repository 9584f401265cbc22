"""Rescale a sum once rather than each of its terms."""

from __future__ import annotations

from helora_core.compiler.ir import Op, OpKind, Program, renumber


def rescale_late(program: Program) -> Program:
    """Move rescales behind sums, as long as both terms are rescaled and nothing else reads them."""
    if all(op.kind is not OpKind.RESCALE for op in program.ops):
        return program
    while (later := _moved_once(program)) is not program:
        program = later
    return program


def _moved_once(program: Program) -> Program:
    readers = program.readers()
    ops = list(program.ops)
    superseded: set[int] = set()
    for i, op in enumerate(ops):
        if op.kind is not OpKind.ADD or op.args[0] == op.args[1]:
            continue
        left, right = (ops[arg] for arg in op.args)
        if left.kind is right.kind is OpKind.RESCALE and readers[op.args[0]] == readers[op.args[1]] == 1:
            # The sum of the unrescaled terms takes the place of the later rescale, and a rescale that of the sum.
            first, later = sorted(op.args)
            ops[later] = Op(kind=OpKind.ADD, args=(left.args[0], right.args[0]))
            ops[i] = Op(kind=OpKind.RESCALE, args=(later,))
            superseded.add(first)
    if not superseded:
        return program
    return renumber(program, ((i, op) for i, op in enumerate(ops) if i not in superseded), program.outputs)
