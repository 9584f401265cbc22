"""The program: a frozen list of operations in single static assignment form.

Value i is the result of operation i, so a program is its own symbol table. Steps are normalised to 1 … slots-1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum

import msgspec

from helora_core.backend.capabilities import Encoding
from helora_core.packing.protocol import ScaleRole


class OpKind(str, Enum):
    """The operations of a server's program."""

    __hash__ = str.__hash__  # Enum's is written in Python and slow, and programs are searched by kind

    INPUT = "input"
    ROTATE = "rotate"
    MULTIPLY_PLAIN = "multiply_plain"
    DOT_PLAIN = "dot_plain"
    """Σ args[i] · constants[i]: a fused sum of products."""
    DOT_SCALARS = "dot_scalars"
    """Σ args[i] · constant[positions[i]]: a sum of products with numbers."""
    ADD = "add"
    RESCALE = "rescale"
    SANITIZE = "sanitize"
    """Re-randomise, drown the noise, and drown the slots or coefficients not in ``positions`` unless that is
    empty; then divide by the primes of the highest ``steps`` levels, and drop ``low_bits`` if the library can.
    """
    MASK = "mask"
    """Add integers that are uniform modulo the level's primes, remembered under ``constant``."""
    ASK_CLIENT = "ask_client"
    """The client decrypts the operands and sends its answer as one fresh ciphertext."""
    UNMASK = "unmask"
    """Subtract the plaintext ``constant`` times the layout's answer to the masks ``constants``."""
    CORRELATE = "correlate"
    """Re-randomise, divide by the data primes, which leaves numbers modulo the wrap limb, and subtract the mask
    ``constant``; drop ``low_bits``, or flood and round to the nearest where there are none.
    """


RANDOM = "random"
"""The ``constant`` of an input without activations: numbers uniform modulo the wrap limb, drawn by the client, times
the data primes. A program of such inputs runs ahead of time."""

PRODUCTS = frozenset({OpKind.MULTIPLY_PLAIN, OpKind.DOT_PLAIN, OpKind.DOT_SCALARS})
"""Operations that multiply by weights."""


class Op(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One operation.

    Attributes:
        kind: What it does.
        args: Indices of the values it reads; all smaller than its own.
        steps: For a rotation: slots to the left. For ``SANITIZE``: levels by which the clean result is divided down.
        constant: For a product: name of the plaintext, or of the vector of numbers. For a mask: its name. For an input:
            empty for activations; ``RANDOM`` for numbers that the client draws.
        constants: For a fused sum: names of the plaintexts, one for each operand. For ``UNMASK``: names of masks.
        role: For products: which scale the plaintexts have.
        positions: For an input: which vector of ``Layout.pack`` it is. For ``DOT_SCALARS``: for each operand the
            place of its number in the vector. For ``SANITIZE``: the slots or coefficients to keep readable.
        bits: For ``SANITIZE``: statistical distance, in bits, that the flood is made for.
        low_bits: For ``SANITIZE`` and ``CORRELATE``: the low bits of the result's two polynomials that are not sent,
            and for the latter those of online answers;
            empty for none.
    """

    kind: OpKind
    args: tuple[int, ...] = ()
    steps: int = 0
    constant: str = ""
    constants: tuple[str, ...] = ()
    role: ScaleRole | None = None
    positions: tuple[int, ...] = ()
    bits: int = 0
    low_bits: tuple[int, ...] = ()


class ConstantSpec(msgspec.Struct, frozen=True, kw_only=True):
    """How one plaintext of the program is encoded; numbers for ``DOT_SCALARS`` are encoded when they are used.

    Attributes:
        level: Level of the ciphertexts that it multiplies.
        scale_bits: log2 of its scale.
        encoding: How it is encoded.
        role: Which of the two matrices it belongs to.
    """

    level: int
    scale_bits: int
    encoding: Encoding = Encoding.SLOTS
    role: ScaleRole = ScaleRole.DOWN


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """A server's program.

    Attributes:
        slots: Slots of a ciphertext; rotations are cyclic in them.
        ops: The operations, each after those it reads.
        outputs: Values that are sent to the client, in order; None stands for a result that is known to be zero.
        encoding: How inputs, plaintexts and outputs are encoded; the numbers of ``DOT_SCALARS`` are always scalars.
    """

    slots: int
    ops: tuple[Op, ...]
    outputs: tuple[int | None, ...]
    encoding: Encoding = Encoding.SLOTS

    @property
    def inputs(self) -> tuple[int, ...]:
        """Values that the client sends, in order."""
        return tuple(i for i, op in enumerate(self.ops) if op.kind is OpKind.INPUT)

    @property
    def input_positions(self) -> tuple[int, ...]:
        """Which of the packed vectors the client sends, in order; vectors that no result depends on are not sent."""
        return tuple(op.positions[0] for op in self.ops if op.kind is OpKind.INPUT)

    @property
    def offline(self) -> bool:
        """Whether it runs ahead of time, on randomness; activations are then used in arithmetic in the clear
        (``helora_core.backend.correlations``).
        """
        return any(op.kind is OpKind.INPUT and op.constant == RANDOM for op in self.ops)

    @property
    def results(self) -> tuple[int, ...]:
        """Values that go back to the client at the end."""
        return tuple(output for output in self.outputs if output is not None)

    @property
    def rotation_steps(self) -> tuple[int, ...]:
        """The distinct rotation steps, ascending: exactly the keys needed."""
        return tuple(sorted({op.steps for op in self.ops if op.kind is OpKind.ROTATE}))

    def last_reads(self) -> tuple[tuple[int, ...], ...]:
        """For each operation, the values that nothing reads after it: an executor may free them.

        A value that nothing reads at all is freed by the operation that makes it, an output never.
        """
        last = {i: i for i in range(len(self.ops))}
        for i, op in enumerate(self.ops):
            for arg in op.args:
                last[arg] = i
        for output in self.results:
            last.pop(output, None)
        freed: list[list[int]] = [[] for _ in self.ops]
        for value, reader in last.items():
            freed[reader].append(value)
        return tuple(map(tuple, freed))

    def needed(self) -> set[int]:
        """The values that an output depends on, and the outputs."""
        needed = set(self.results)
        for i in range(len(self.ops) - 1, -1, -1):
            if i in needed:
                needed.update(self.ops[i].args)
        return needed

    def readers(self) -> list[int]:
        """For each value, how often it is read; an output is read once more."""
        counts = [0] * len(self.ops)
        for op in self.ops:
            for arg in op.args:
                counts[arg] += 1
        for output in self.results:
            counts[output] += 1
        return counts

    def hoisted_groups(self) -> Iterator[range]:
        """Ranges of consecutive rotations of one value, which an executor does in one call."""
        start = 0
        while start < len(self.ops):
            end = start + 1
            if self.ops[start].kind is OpKind.ROTATE:
                while end < len(self.ops) and self._rotates(end, self.ops[start].args):
                    end += 1
                yield range(start, end)
            start = end

    def _rotates(self, i: int, args: tuple[int, ...]) -> bool:
        return self.ops[i].kind is OpKind.ROTATE and self.ops[i].args == args


def products(op: Op) -> int:
    """Number of products with plaintexts or numbers in an operation."""
    if op.kind in (OpKind.DOT_PLAIN, OpKind.DOT_SCALARS):
        return len(op.args)
    return int(op.kind is OpKind.MULTIPLY_PLAIN)


def additions(op: Op) -> int:
    """Number of ciphertext additions in an operation; those of sanitising are counted with it."""
    if op.kind in (OpKind.DOT_PLAIN, OpKind.DOT_SCALARS):
        return len(op.args) - 1
    return int(op.kind in (OpKind.ADD, OpKind.UNMASK))


def plaintexts(op: Op) -> tuple[str, ...]:
    """Names of the encoded plaintexts that an operation multiplies by."""
    if op.kind is OpKind.MULTIPLY_PLAIN:
        return (op.constant,)
    return op.constants if op.kind is OpKind.DOT_PLAIN else ()


def renumber(program: Program, ops: Iterable[tuple[int, Op]], outputs: Iterable[int | None]) -> Program:
    """Make a program of operations that still have their old value numbers, renumbering them.

    Operations whose operands keep their numbers are not copied, so that programs are quick to compare.
    """
    new: dict[int, int] = {}
    renumbered: list[Op] = []
    for old, op in ops:
        new[old] = len(renumbered)
        renumbered.append(with_args(op, tuple([new[arg] for arg in op.args])))
    return msgspec.structs.replace(
        program,
        ops=tuple(renumbered),
        outputs=tuple(None if output is None else new[output] for output in outputs),
    )


def with_args(op: Op, args: tuple[int, ...]) -> Op:
    """The operation on other values; itself if they are the same."""
    return op if op.args == args else msgspec.structs.replace(op, args=args)


def readable(program: Program) -> str:
    """The program as text, one operation a line: for ``helora plan --show``."""
    return "\n".join([*(f"%{i} = {describe(op)}" for i, op in enumerate(program.ops)), _returns(program)])


_SHOWN = 8
"""Most operands of a long sum that a line shows."""


def describe(op: Op) -> str:
    """One operation as text."""
    operands: list[str] = []
    if op.kind is OpKind.DOT_PLAIN:
        operands = [f'%{arg} "{name}"' for arg, name in zip(op.args, op.constants, strict=True)]
    elif op.kind is not OpKind.INPUT:
        operands = [f"%{arg}" for arg in op.args]
    if len(operands) > _SHOWN:
        operands[_SHOWN - 1 : -1] = [f"… {len(operands) - _SHOWN} more …"]
    if op.kind is OpKind.ROTATE:
        operands.append(f"steps={op.steps}")
    if op.constant:
        operands.append(f'"{op.constant}"')
    if op.kind is OpKind.UNMASK:
        operands += [f'"{name}"' for name in op.constants]
    if op.kind is OpKind.SANITIZE:
        operands.append(f"bits={op.bits}" + (f", keep {len(op.positions)} places" if op.positions else ""))
        operands += [f"drop {op.steps} levels"] if op.steps else []
    if op.kind in (OpKind.SANITIZE, OpKind.CORRELATE):
        operands += [f"drop {' and '.join(map(str, op.low_bits))} low bits"] if op.low_bits else []
    return f"{op.kind.value} {', '.join(operands)}".rstrip()


def _returns(program: Program) -> str:
    return "return " + ", ".join("zero" if output is None else f"%{output}" for output in program.outputs)
