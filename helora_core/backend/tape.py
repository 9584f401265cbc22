"""Part of a server's round as data, for libraries that run it as a whole instead of call by call.

A tape is straight-line code in static single assignment form: no branches, no randomness, no state. Its values are
numbered: first the inputs, then the results of the instructions, in order. Core makes tapes from a plan's rounds
(``helora_core.execution.programs``) and computes levels and exact scales for them once; a library need not check them
again. Sanitising and masking are never on a tape, since they draw randomness for each run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from typing import Any, NamedTuple, TypeAlias, TypeVar

import msgspec
from numpy.typing import NDArray


class InstructionKind(str, Enum):
    """The operation of an instruction; each works as the evaluator's of that name."""

    ROTATE = "rotate"
    """Rotate one value by each of ``steps``, with one result for each, so that a library can hoist."""
    MULTIPLY_PLAIN = "multiply_plain"
    DOT_PLAIN = "dot_plain"
    """Σ args[i] · constants[i]."""
    DOT_SCALARS = "dot_scalars"
    """Σ args[i] · c[positions[i]], for the vector of numbers c that ``constants[0]`` names."""
    ADD = "add"
    """The sum of two values or more. None of them is a sum that nothing else reads: that would be part of this one."""
    RESCALE = "rescale"


class Instruction(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One instruction.

    Attributes:
        kind: The operation.
        args: Values that it reads.
        result: The value that it makes; for a rotation by several steps, the first of as many consecutive values.
        level, scale: Of the result: rescales still possible, and the exact factor between values and integers.
        steps: For rotations: slots to the left, each 1 to N/2 − 1.
        constants: For products: the names of plaintexts, or of one vector of numbers.
        positions: For ``DOT_SCALARS``: the index of each operand's number in the vector.
        freed: Values that nothing reads afterwards.
    """

    kind: InstructionKind
    args: tuple[int, ...]
    result: int
    level: int
    scale: float
    steps: tuple[int, ...] = ()
    constants: tuple[str, ...] = ()
    positions: tuple[int, ...] = ()
    freed: tuple[int, ...] = ()


class LevelAndScale(NamedTuple):
    """Rescales still possible, and the exact factor between values and their integer encoding."""

    level: int
    scale: float


class TapeConstant(msgspec.Struct, frozen=True, gc=False):
    """A plaintext that a tape names, or a vector of numbers.

    Attributes:
        level: Level of the ciphertexts that it is combined with.
        scale: Scale of the plaintext; a number v stands for the integer closest to v · scale.
        numbers: Whether it is a vector of numbers, for ``DOT_SCALARS``.
    """

    level: int
    scale: float
    numbers: bool = False


class Tape(msgspec.Struct, frozen=True):
    """A program for a library.

    Attributes:
        inputs: Level and scale of each input.
        constants: The plaintexts and numbers that it multiplies by, by name.
        instructions: In an order in which they can be run; any order that keeps each after those it reads is allowed.
        outputs: Values to return, in order; none of them is freed.
    """

    inputs: tuple[LevelAndScale, ...]
    constants: dict[str, TapeConstant]
    instructions: tuple[Instruction, ...]
    outputs: tuple[int, ...]

    @property
    def rotation_steps(self) -> frozenset[int]:
        """The steps by which the tape rotates."""
        return frozenset(step for each in self.instructions for step in each.steps)


class TapeRun(NamedTuple):
    """One run of a tape.

    Attributes:
        evaluator: The library's own evaluator, for one client's keys.
        weights: A module's weights, as ``Executable.load`` returned them.
        inputs: The library's ciphertexts.
    """

    evaluator: Any
    weights: Any
    inputs: tuple[Any, ...]


Numbers: TypeAlias = Mapping[str, NDArray[Any]]
"""Vectors of numbers by name: float64, one dimension."""

Trace: TypeAlias = Callable[[str, int], object]
"""Called with each kind of operation that an executable really does, and how many. Kinds have the ledger's names,
``OperationCounts``'s and ``InnerCounts``'s; others are ignored."""


Value = TypeVar("Value")


def interpreted(
    tape: Tape, inputs: Sequence[Value], made: Callable[[Instruction, list[Value]], Iterable[Value]]
) -> list[Value]:
    """The outputs of a tape that is run instruction by instruction, for libraries that lower no further.

    Args:
        tape: The tape.
        inputs: Its inputs.
        made: The results of an instruction with these operands.
    """
    live = dict(enumerate(inputs))
    for instruction in tape.instructions:
        operands = [live[arg] for arg in instruction.args]
        live |= enumerate(made(instruction, operands), start=instruction.result)
        for value in instruction.freed:
            del live[value]
    return [live[output] for output in tape.outputs]


def operations(tape: Tape) -> Counter[str]:
    """The operations of one run, under the ledger's names."""
    done: Counter[str] = Counter()
    for each in tape.instructions:
        terms = len(each.args)
        if each.kind is InstructionKind.ROTATE:
            done += Counter(rotations=len(each.steps), keyswitches=len(each.steps))
        elif each.kind is InstructionKind.RESCALE:
            done += Counter(rescales=1)
        elif each.kind is InstructionKind.ADD:
            done += Counter(additions=terms - 1)
        else:
            done += Counter(ct_pt=terms, additions=terms - 1)
    return done
