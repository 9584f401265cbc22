"""Add each term to its sum as soon as it exists, so that few ciphertexts are alive at once.

Packings emit all terms of a sum and then the sum; executed in that order, a rank-64 module would hold 64 products.
"""

from __future__ import annotations

from helora_core.compiler.ir import OpKind, Program, renumber


def order_for_memory(program: Program) -> Program:
    """Reorder by depth-first search from the outputs, left operands first; inputs keep their order and come first."""
    order: list[int] = list(program.inputs)
    placed = set(order)
    for output in program.outputs:
        stack = [output]
        while stack:
            value = stack[-1]
            waiting = [arg for arg in program.ops[value].args if arg not in placed]
            if waiting:
                stack.append(waiting[0])
                continue
            stack.pop()
            if value not in placed:
                placed.add(value)
                order.append(value)
    # Whatever no output reaches stays, at the end: dropping it is another pass's business.
    order += [i for i, op in enumerate(program.ops) if i not in placed and op.kind is not OpKind.INPUT]
    return renumber(program.slots, ((i, program.ops[i]) for i in order), program.outputs)
