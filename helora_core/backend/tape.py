"""A stretch of a server's round as data: for libraries that run it whole, rather than call by call.

A tape is straight-line code in single static assignment form: no branches, no randomness, no state. Its values are
numbered: first the inputs, then what each instruction makes, in order. Core makes tapes of a plan's rounds
(``helora_core.execution.programs``) and follows levels and exact scales through them once; a library need not check
them again. What a server does besides, sanitising and masking, is on no tape: it draws randomness for each run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, NamedTuple, TypeAlias

import msgspec
from numpy.typing import NDArray


class InstructionKind(str, Enum):
    """What an instruction does; each as the evaluator's operation of that name."""

    ROTATE = "rotate"
    """One value by each of ``steps``: as many results, for a library to hoist."""
    MULTIPLY_PLAIN = "multiply_plain"
    DOT_PLAIN = "dot_plain"
    """Σ args[i] · constants[i]."""
    DOT_SCALARS = "dot_scalars"
    """Σ args[i] · c[positions[i]], for the vector of numbers c that ``constants[0]`` names."""
    ADD = "add"
    RESCALE = "rescale"


class Instruction(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One instruction.

    Attributes:
        kind: What it does.
        args: Values that it reads.
        result: The value that it makes; of a rotation by several steps the first of as many in a row.
        level, scale: Of what it makes: rescales still possible, and the exact factor between values and integers.
        steps: Of a rotation: slots to the left, each 1 to N/2 − 1.
        constants: Of products: names of plaintexts, or of one vector of numbers.
        positions: Of ``DOT_SCALARS``: for each operand the place of its number.
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
        level: Of the ciphertexts that it goes with.
        scale: Of the plaintext; a number v stands for the integer closest to v · scale.
        numbers: Whether it is a vector of numbers, for ``DOT_SCALARS``.
    """

    level: int
    scale: float
    numbers: bool = False


class Tape(msgspec.Struct, frozen=True):
    """A program for a library.

    Attributes:
        inputs: Level and scale of each input.
        constants: What it multiplies by, by name.
        instructions: In the order to run them, or any other that keeps each after those it reads.
        outputs: Values to return, in order; none of them is freed.
    """

    inputs: tuple[LevelAndScale, ...]
    constants: dict[str, TapeConstant]
    instructions: tuple[Instruction, ...]
    outputs: tuple[int, ...]

    @property
    def rotation_steps(self) -> frozenset[int]:
        """The steps that it rotates by."""
        return frozenset(step for each in self.instructions for step in each.steps)


class TapeRun(NamedTuple):
    """One run of a tape.

    Attributes:
        evaluator: The library's own, of one client's keys.
        weights: What ``Executable.load`` made of a module's plaintexts.
        inputs: The library's ciphertexts.
    """

    evaluator: Any
    weights: Any
    inputs: tuple[Any, ...]


Numbers: TypeAlias = Mapping[str, NDArray[Any]]
"""Vectors of numbers by name: float64, one dimension."""

Trace: TypeAlias = Callable[[str, int], object]
"""Told what an executable really does: a kind of operation, and how many. Kinds that the ledger has bear its names."""
