"""The program: a frozen list of operations in single static assignment form.

Value i is the result of operation i, so a program is its own symbol table. Steps are normalised to 1 … slots-1.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

import msgspec

from helora_core.packing.protocol import ScaleRole


class OpKind(str, Enum):
    """The operations of a server's program."""

    INPUT = "input"
    ROTATE = "rotate"
    MULTIPLY_PLAIN = "multiply_plain"
    ADD = "add"
    RESCALE = "rescale"


class Op(msgspec.Struct, frozen=True, kw_only=True):
    """One operation.

    Attributes:
        kind: What it does.
        args: Indices of the values it reads; all smaller than its own.
        steps: Of a rotation: slots to the left.
        constant: Of a product: name of the plaintext.
        role: Of a product: which scale the plaintext has.
    """

    kind: OpKind
    args: tuple[int, ...] = ()
    steps: int = 0
    constant: str = ""
    role: ScaleRole | None = None


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """A server's program.

    Attributes:
        slots: Slots of a ciphertext; rotations are cyclic in them.
        ops: The operations, each after those it reads.
        outputs: Values that go back to the client, in order.
    """

    slots: int
    ops: tuple[Op, ...]
    outputs: tuple[int, ...]

    @property
    def inputs(self) -> tuple[int, ...]:
        """Values that the client sends, in order."""
        return tuple(i for i, op in enumerate(self.ops) if op.kind is OpKind.INPUT)

    @property
    def rotation_steps(self) -> tuple[int, ...]:
        """The distinct steps rotated by, ascending: exactly the keys needed."""
        return tuple(sorted({op.steps for op in self.ops if op.kind is OpKind.ROTATE}))

    def last_reads(self) -> tuple[tuple[int, ...], ...]:
        """For each operation, the values that nothing reads after it: an executor may free them.

        A value that nothing reads at all is freed by the operation that makes it, an output never.
        """
        last = {i: i for i in range(len(self.ops))}
        for i, op in enumerate(self.ops):
            for arg in op.args:
                last[arg] = i
        for output in self.outputs:
            last.pop(output, None)
        freed: list[list[int]] = [[] for _ in self.ops]
        for value, reader in last.items():
            freed[reader].append(value)
        return tuple(map(tuple, freed))


def renumber(slots: int, ops: Iterable[tuple[int, Op]], outputs: Iterable[int]) -> Program:
    """Make a program of operations that still carry their old value numbers, numbering them anew."""
    new: dict[int, int] = {}
    renumbered: list[Op] = []
    for old, op in ops:
        new[old] = len(renumbered)
        renumbered.append(msgspec.structs.replace(op, args=tuple(new[arg] for arg in op.args)))
    return Program(slots=slots, ops=tuple(renumbered), outputs=tuple(new[output] for output in outputs))


def readable(program: Program) -> str:
    """The program as text, one operation a line: for ``helora plan --show``."""
    return "\n".join([*(f"%{i} = {_describe(op)}" for i, op in enumerate(program.ops)), _returns(program)])


def _describe(op: Op) -> str:
    operands = [f"%{arg}" for arg in op.args]
    if op.kind is OpKind.ROTATE:
        operands.append(f"steps={op.steps}")
    if op.kind is OpKind.MULTIPLY_PLAIN:
        operands.append(f'"{op.constant}"')
    return f"{op.kind.value} {', '.join(operands)}".rstrip()


def _returns(program: Program) -> str:
    return "return " + ", ".join(f"%{output}" for output in program.outputs)
