"""Make one operation of a sum of products: a backend may add them up without storing each."""

from __future__ import annotations

from helora_core.compiler.ir import Op, OpKind, Program, renumber


def fuse_dots(program: Program) -> Program:
    """Replace each largest tree of sums over products that nothing else reads by one ``DOT_PLAIN``.

    Terms of another kind, or of another role, stay outside and are added afterwards.
    """
    if all(op.kind is not OpKind.ADD for op in program.ops):
        return program
    readers = program.readers()
    ops = list(program.ops)
    inside: set[int] = set()
    for i in range(len(ops) - 1, -1, -1):
        if ops[i].kind is not OpKind.ADD or i in inside:
            continue
        terms, sums = _terms(ops, readers, i)
        if len(terms) < 2 or any(ops[t].kind is not OpKind.MULTIPLY_PLAIN or readers[t] != 1 for t in terms):
            continue
        if len({ops[t].role for t in terms}) != 1:
            continue
        ops[i] = Op(
            kind=OpKind.DOT_PLAIN,
            args=tuple(ops[t].args[0] for t in terms),
            constants=tuple(ops[t].constant for t in terms),
            role=ops[terms[0]].role,
        )
        inside.update(sums, terms)
    if not inside:
        return program
    return renumber(program, ((i, op) for i, op in enumerate(ops) if i not in inside), program.outputs)


def _terms(ops: list[Op], readers: list[int], root: int) -> tuple[list[int], set[int]]:
    """The terms of the sum at ``root`` from left to right, and the inner sums that only it reads."""
    terms: list[int] = []
    sums: set[int] = set()
    stack = [root]
    while stack:
        value = stack.pop()
        if value == root or (ops[value].kind is OpKind.ADD and readers[value] == 1):
            if value != root:
                sums.add(value)
            stack.extend(reversed(ops[value].args))
        else:
            terms.append(value)
    return terms, sums
