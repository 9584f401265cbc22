"""Fewer rotations for the same result: two in a row are one, and a sum of values rotated alike is rotated once."""

from __future__ import annotations

import msgspec

from helora_core.compiler.ir import Op, OpKind, Program, renumber, with_args


def merge_rotations(program: Program) -> Program:
    """Merge until nothing is left to merge. Rotations with other readers are left alone: they are needed anyway."""
    if all(op.kind is not OpKind.ROTATE for op in program.ops):
        return program
    while (merged := _merged_once(program)) != program:
        program = merged
    return program


def _merged_once(program: Program) -> Program:
    readers = program.readers()
    ops = list(program.ops)
    stands_for = list(range(len(ops)))
    for i, original in enumerate(ops):
        op = with_args(original, tuple([stands_for[arg] for arg in original.args]))
        if op.kind is OpKind.ROTATE:
            op = _after_rotation(op, ops, readers, program.slots)
            if op.steps == 0:
                stands_for[i] = op.args[0]
        elif op.kind is OpKind.ADD and _alike(op, ops, readers):
            first, later = sorted(op.args)
            ops[later] = Op(kind=OpKind.ADD, args=(ops[op.args[0]].args[0], ops[op.args[1]].args[0]))
            op = Op(kind=OpKind.ROTATE, args=(later,), steps=ops[first].steps)
        ops[i] = op
    outputs = [None if output is None else stands_for[output] for output in program.outputs]
    return _without_dead_rotations(msgspec.structs.replace(program, ops=tuple(ops), outputs=tuple(outputs)))


def _after_rotation(op: Op, ops: list[Op], readers: list[int], slots: int) -> Op:
    """The rotation, joined to the one before it if nothing else reads that."""
    inner = ops[op.args[0]]
    if inner.kind is not OpKind.ROTATE or readers[op.args[0]] != 1:
        return op
    return msgspec.structs.replace(op, args=inner.args, steps=(op.steps + inner.steps) % slots)


def _alike(op: Op, ops: list[Op], readers: list[int]) -> bool:
    """Whether a sum adds two rotations by the same steps that only it reads."""
    if op.args[0] == op.args[1] or any(readers[arg] != 1 or ops[arg].kind is not OpKind.ROTATE for arg in op.args):
        return False
    return ops[op.args[0]].steps == ops[op.args[1]].steps != 0


def _without_dead_rotations(program: Program) -> Program:
    dead: set[int] = set()
    readers = program.readers()
    for i in range(len(program.ops) - 1, -1, -1):
        op = program.ops[i]
        if op.kind is OpKind.ROTATE and (readers[i] == 0 or op.steps == 0):
            dead.add(i)
            readers[op.args[0]] -= 1
    if not dead:
        return program
    return renumber(program, ((i, op) for i, op in enumerate(program.ops) if i not in dead), program.outputs)
