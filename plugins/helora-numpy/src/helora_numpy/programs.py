"""Whole programs on the emulation, as an example of ``SupportsPrograms``: arrays with an axis of runs.

Runs with the same evaluator and module are stacked, so that each instruction is one NumPy call for all of them. The
results are those of the evaluator's operations, including noise, which is drawn separately for each run.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from helora_core.backend.capabilities import Encoding
from helora_core.backend.tape import (
    Instruction,
    InstructionKind,
    Numbers,
    Tape,
    TapeRun,
    Trace,
    interpreted,
    operations,
)
from helora_numpy import polynomials

if TYPE_CHECKING:
    from helora_numpy.backend import EmulatedCiphertext, EmulatedEncoder, EmulatedEvaluator, EmulatedPlaintext


class Weights(NamedTuple):
    """A module's constants by name."""

    plaintexts: dict[str, EmulatedPlaintext]
    numbers: Numbers


class EmulatedExecutable:
    """A tape, interpreted."""

    exact = False  # noise is drawn at each operation: no two results are equal

    def __init__(self, encoder: EmulatedEncoder, tape: Tape) -> None:
        self._encoder = encoder
        self._tape = tape

    def load(self, plaintexts: Mapping[str, EmulatedPlaintext], numbers: Numbers) -> Weights:
        return Weights(dict(plaintexts), numbers)

    def run(self, runs: Sequence[TapeRun], *, trace: Trace | None = None) -> list[list[EmulatedCiphertext]]:
        alike: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
        for i, run in enumerate(runs):
            alike[id(run.evaluator), id(run.weights)].append(i)
        outputs: dict[int, list[EmulatedCiphertext]] = {}
        for group in alike.values():
            made = self._run(runs[group[0]], [runs[i].inputs for i in group])
            outputs |= zip(group, map(list, zip(*made, strict=True)), strict=True)
        if trace is not None:
            for name, count in operations(self._tape).items():
                trace(name, count * len(runs))
        return [outputs[i] for i in range(len(runs))]

    def _run(self, run: TapeRun, inputs: Sequence[Sequence[EmulatedCiphertext]]) -> list[list[EmulatedCiphertext]]:
        """Each output of all runs."""
        stacked = [_stacked(each) for each in zip(*inputs, strict=True)]
        outputs = interpreted(self._tape, stacked, functools.partial(self._made, run))
        return [_unstacked(output, len(inputs)) for output in outputs]

    def _made(
        self, run: TapeRun, instruction: Instruction, operands: list[EmulatedCiphertext]
    ) -> list[EmulatedCiphertext]:
        evaluator: EmulatedEvaluator = run.evaluator
        weights: Weights = run.weights
        kind = instruction.kind
        if kind is InstructionKind.ROTATE:
            return evaluator.rotate_many(operands[0], instruction.steps)
        if kind is InstructionKind.RESCALE:
            return [evaluator.rescale(operands[0])]
        if kind is InstructionKind.ADD:
            return [functools.reduce(evaluator.add, operands)]
        if kind is InstructionKind.DOT_SCALARS:
            (name,) = instruction.constants
            spec, encoder = self._tape.constants[name], self._encoder
            plain = [
                encoder.encode(vector, level=spec.level, scale=spec.scale, encoding=Encoding.SCALAR)
                for vector in (weights.numbers[name][at : at + 1] for at in instruction.positions)
            ]
        else:
            plain = [weights.plaintexts[name] for name in instruction.constants]
        total = evaluator.multiply_plain(operands[0], plain[0])
        for operand, plaintext in zip(operands[1:], plain[1:], strict=True):
            total = evaluator.add(total, evaluator.multiply_plain(operand, plaintext))
        return [total]


def _stacked(ciphertexts: Sequence[EmulatedCiphertext]) -> EmulatedCiphertext:
    """Stack the same value of all runs along an axis of runs."""
    return replace(ciphertexts[0], values=polynomials.stacked([each.values for each in ciphertexts]))


def _unstacked(ciphertext: EmulatedCiphertext, runs: int) -> list[EmulatedCiphertext]:
    return [replace(ciphertext, values=values) for values in polynomials.unstacked(ciphertext.values, runs)]
