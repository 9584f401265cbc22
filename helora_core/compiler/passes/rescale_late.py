"""Rescale a sum once rather than each of its terms."""

from __future__ import annotations

import msgspec

from helora_core.compiler.ir import Op, OpKind, Program, renumber


def rescale_late(program: Program) -> Program:
    """Move rescales behind sums, as long as both terms are rescaled and nothing else reads them."""
    readers = program.readers()
    ops = list(program.ops)
    for i, op in enumerate(ops):
        if op.kind is not OpKind.ADD or op.args[0] == op.args[1]:
            continue
        left, right = (ops[arg] for arg in op.args)
        if left.kind is right.kind is OpKind.RESCALE and readers[op.args[0]] == readers[op.args[1]] == 1:
            # The sum of the unrescaled terms takes the place of the later rescale, and a rescale that of the sum.
            first, later = sorted(op.args)
            ops[later] = Op(kind=OpKind.ADD, args=(left.args[0], right.args[0]))
            ops[i] = Op(kind=OpKind.RESCALE, args=(later,))
            readers[first] = 0
    live = [i for i, op in enumerate(ops) if readers[i] or op.kind is not OpKind.RESCALE]
    return renumber(msgspec.structs.replace(program, ops=tuple(ops)), ((i, ops[i]) for i in live), program.outputs)
