"""Small programs to time, for backends that run whole programs: the costs of single operations do not add up there.

The figures that are fitted to them: ``program_run``, what a run takes besides its operations; ``program_decompose``, of
each value that is rotated; ``program_rotate``, of each rotation: its product with a key; ``program_divide``, of each
polynomial divided by the special primes, with divisions put off as in ``helora_core.compiler.cost.least_divisions``;
``program_multiply`` and ``program_multiply_rotated``, products with plaintexts of values that are divided, and of those
that are not yet; ``program_rescale``. Products with numbers are fitted apart, since libraries may run them otherwise:
``program_run_numbers`` and ``program_multiply_number``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from helora_core.backend.checked_programs import ProgramRun
from helora_core.backend.protocol import Ciphertext, Plaintext, Values
from helora_core.backend.session import ServerSession
from helora_core.backend.tape import Instruction, InstructionKind, LevelAndScale, Tape, TapeConstant, Trace
from helora_core.execution.programs import freeing
from helora_core.params.ckks import CKKSParams
from helora_core.planning.probe import Probe

NUMBERS = "numbers"
"""The name of the vector of numbers."""

Parts = dict[str, float]


@dataclass
class TapeWriter:
    """Writes a tape on inputs of one level and scale.

    Attributes:
        params: The resolved parameters.
        inputs: Level and scale of each input.
        plain: Level and scale of the plaintexts, by name, and of the numbers.
    """

    params: CKKSParams
    inputs: Sequence[LevelAndScale]
    plain: Mapping[str, TapeConstant]
    _places: list[LevelAndScale] = field(init=False)
    _instructions: list[Instruction] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self._places = list(self.inputs)

    def rotate(self, value: int, steps: Sequence[int]) -> list[int]:
        """The value rotated by each of the steps."""
        first = self._append(InstructionKind.ROTATE, (value,), self._places[value], steps=tuple(steps))
        return list(range(first, first + len(steps)))

    def dot(self, values: Sequence[int], names: Sequence[str]) -> int:
        """The sum of products with plaintexts."""
        level, scale = self._places[values[0]]
        place = LevelAndScale(level, scale * self.plain[names[0]].scale)
        return self._append(InstructionKind.DOT_PLAIN, values, place, constants=tuple(names))

    def dot_numbers(self, values: Sequence[int]) -> int:
        """The sum of products with the first numbers of the vector."""
        level, scale = self._places[values[0]]
        place = LevelAndScale(level, scale * self.plain[NUMBERS].scale)
        positions = tuple(range(len(values)))
        return self._append(InstructionKind.DOT_SCALARS, values, place, constants=(NUMBERS,), positions=positions)

    def add(self, values: Sequence[int]) -> int:
        """The sum."""
        return self._append(InstructionKind.ADD, values, self._places[values[0]])

    def rescale(self, value: int) -> int:
        """The value divided by the last prime of its level."""
        level, scale = self._places[value]
        place = LevelAndScale(level - 1, scale / self.params.data_primes[level])
        return self._append(InstructionKind.RESCALE, (value,), place)

    def tape(self, outputs: Sequence[int]) -> Tape:
        """The tape so far."""
        named = {name for each in self._instructions for name in each.constants}
        constants = {name: each for name, each in self.plain.items() if name in named}
        return Tape(tuple(self.inputs), constants, freeing(self._instructions, tuple(outputs)), tuple(outputs))

    def _append(
        self,
        kind: InstructionKind,
        args: Sequence[int],
        place: LevelAndScale,
        *,
        steps: tuple[int, ...] = (),
        constants: tuple[str, ...] = (),
        positions: tuple[int, ...] = (),
    ) -> int:
        result = len(self._places)
        self._places += [place] * max(1, len(steps))
        self._instructions.append(
            Instruction(
                kind=kind,
                args=tuple(args),
                result=result,
                level=place.level,
                scale=place.scale,
                steps=steps,
                constants=constants,
                positions=positions,
            )
        )
        return result


@dataclass(frozen=True)
class ProgramBench:
    """Operands for programs at one level.

    Attributes:
        server: The server; it has the keys of the steps 1 to 8 if anything is to be rotated.
        ciphertexts: Eight ciphertexts of this level.
        vectors: Eight vectors of values for plaintexts, or none if products do not fit.
        scale_bits: log2 of the scale of plaintexts and numbers.
        rotates: Whether there are rotation keys.
    """

    server: ServerSession
    ciphertexts: Sequence[Ciphertext]
    vectors: Sequence[Values]
    scale_bits: int
    rotates: bool

    def probes(self) -> Iterator[Probe]:
        """Runs of programs that tell the figures apart."""
        level = self._place.level
        for parts, tape in self.programs():
            family = "numbers" if any(each.numbers for each in tape.constants.values()) else "program"
            yield Probe(family, level, self.call(tape), parts)

    def programs(self) -> Iterator[tuple[Parts, Tape]]:
        """The programs, and what they consist of."""
        for parts, writer, outputs in (*self._programs(), *self._of_numbers()):
            yield parts, writer.tape(outputs)

    @property
    def _place(self) -> LevelAndScale:
        evaluator = self.server.evaluator
        return LevelAndScale(evaluator.level(self.ciphertexts[0]), evaluator.scale(self.ciphertexts[0]))

    def _writer(self) -> TapeWriter:
        level, scale = self._place.level, 2.0**self.scale_bits
        plain = {str(i): TapeConstant(level, scale) for i in range(len(self.vectors))}
        return TapeWriter(
            self.server.encoder.params,
            [self._place] * len(self.ciphertexts),
            {**plain, NUMBERS: TapeConstant(level, scale, numbers=True)},
        )

    def _programs(self) -> Iterator[tuple[Parts, TapeWriter, list[int]]]:
        if self.vectors:
            for k in (1, 4, 8):
                yield self._products(k, rescaled=False)
            if self._place.level:
                for k in (1, 4):
                    yield self._products(k, rescaled=True)
        if self.rotates:
            for k in (1, 3, 8):
                yield self._giant_steps(k)
            for radix, folds in ((2, 1), (2, 4), (4, 2), (8, 1)):
                yield self._folds(radix, folds)
        if self.vectors and self.rotates:
            for k, sums in ((1, 1), (3, 1), (7, 1), (3, 4)):
                yield self._baby_steps(k, sums)

    def _products(self, k: int, *, rescaled: bool) -> tuple[Parts, TapeWriter, list[int]]:
        """k products, each rescaled, or one sum of k products."""
        writer = self._writer()
        if rescaled:
            outputs = [writer.rescale(writer.dot([i], [str(i)])) for i in range(k)]
            return {"program_run": 1, "program_multiply": k, "program_rescale": k}, writer, outputs
        return {"program_run": 1, "program_multiply": k}, writer, [writer.dot(range(k), list(map(str, range(k))))]

    def _giant_steps(self, k: int) -> tuple[Parts, TapeWriter, list[int]]:
        """The sum of k values, each rotated by a step of its own."""
        writer = self._writer()
        rotated = [writer.rotate(i, [i + 1])[0] for i in range(k)]
        return _parts(k, k, 2), writer, [writer.add(rotated) if k > 1 else rotated[0]]

    def _folds(self, radix: int, folds: int) -> tuple[Parts, TapeWriter, list[int]]:
        """A value added to rotations of itself, several times over. The steps do not matter."""
        writer, value, more = self._writer(), 0, radix - 1
        for i in range(folds):
            steps = [(i * more + j) % len(self.ciphertexts) + 1 for j in range(more)]
            value = writer.add([value, *writer.rotate(value, steps)])
        return _parts(folds, folds * more, folds + 1), writer, [value]

    def _baby_steps(self, k: int, sums: int) -> tuple[Parts, TapeWriter, list[int]]:
        """Sums of products with a value and k rotations of it."""
        writer, names = self._writer(), list(map(str, range(k + 1)))
        babies = [0, *writer.rotate(0, range(1, k + 1))]
        parts = _parts(1, k, 2 * sums) | {"program_multiply_rotated": sums * (k + 1)}
        return parts, writer, [writer.dot(babies, names[i:] + names[:i]) for i in range(sums)]

    def _of_numbers(self) -> Iterator[tuple[Parts, TapeWriter, list[int]]]:
        if self.vectors:
            for k, sums in ((1, 1), (8, 1), (8, 4)):
                writer = self._writer()
                parts: Parts = {"program_run_numbers": 1, "program_multiply_number": k * sums}
                yield parts, writer, [writer.dot_numbers(range(k)) for _ in range(sums)]

    def call(self, tape: Tape, *, trace: Trace | None = None) -> Callable[[], object]:
        """Prepare a program; the result runs it."""
        executable = self.server.encoder.prepare(tape)
        weights = executable.load(
            {name: self._plaintexts[name] for name, each in tape.constants.items() if not each.numbers},
            {name: np.linspace(-1, 1, 8) for name, each in tape.constants.items() if each.numbers},
        )
        runs = [ProgramRun(self.server.evaluator.unmetered, weights, self.ciphertexts)]
        return lambda: executable.run(runs, trace=trace)

    @cached_property
    def _plaintexts(self) -> dict[str, Plaintext]:
        level, encode = self._place.level, self.server.encoder.encode
        return {
            str(i): encode(vector, level=level, scale_bits=self.scale_bits) for i, vector in enumerate(self.vectors)
        }


def _parts(decompositions: int, rotations: int, divisions: int) -> Parts:
    return {
        "program_run": 1,
        "program_decompose": decompositions,
        "program_rotate": rotations,
        "program_divide": divisions,
    }
