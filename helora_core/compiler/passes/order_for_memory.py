"""Add each term to its sum as soon as it exists, so that few ciphertexts are alive at once.

Packings emit all terms of a sum and then the sum; executed in that order, a rank-64 module would hold 64 products.
Rotations of one value come together, where it is first rotated, so that a backend can hoist them; at most
``HOISTED_AT_ONCE`` of them, since all of a group are alive together.
"""

from __future__ import annotations

from helora_core.compiler.ir import OpKind, Program, renumber

HOISTED_AT_ONCE = 64


def order_for_memory(program: Program) -> Program:
    """Reorder by depth-first search from the outputs, left operands first; inputs keep their order and come first."""
    siblings = _sibling_rotations(program)
    order: list[int] = list(program.inputs)
    placed = set(order)

    def place(value: int) -> None:
        for each in siblings.get(value, (value,)):
            if each not in placed:
                placed.add(each)
                order.append(each)

    for output in program.results:
        stack = [output]
        while stack:
            value = stack[-1]
            waiting = next((arg for arg in program.ops[value].args if arg not in placed), None)
            if waiting is not None:
                stack.append(waiting)
                continue
            stack.pop()
            place(value)
    # Whatever no output reaches stays, at the end: dropping it is another pass's business.
    order += [i for i in range(len(program.ops)) if i not in placed]
    return renumber(program, ((i, program.ops[i]) for i in order), program.outputs)


def _sibling_rotations(program: Program) -> dict[int, tuple[int, ...]]:
    """For each rotation that an output needs, the group of rotations of the same value that it is done with."""
    by_source: dict[int, list[int]] = {}
    needed = program.needed()
    for i, op in enumerate(program.ops):
        if op.kind is OpKind.ROTATE and i in needed:
            by_source.setdefault(op.args[0], []).append(i)
    groups: dict[int, tuple[int, ...]] = {}
    for rotations in by_source.values():
        for start in range(0, len(rotations), HOISTED_AT_ONCE):
            group = tuple(rotations[start : start + HOISTED_AT_ONCE])
            groups |= dict.fromkeys(group, group)
    return groups
