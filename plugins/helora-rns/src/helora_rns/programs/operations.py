"""Tapes with products with numbers, run operation by operation; sums of the same ciphertexts are made together."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

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
from helora_rns import gemm, threads
from helora_rns.scheme.ciphertexts import Ciphertext, Plaintext
from helora_rns.scheme.context import Context
from helora_rns.scheme.evaluation import Evaluator


class Constants(NamedTuple):
    """A module's constants: plaintexts by name, and a matrix for each instruction that begins a group of sums."""

    plaintexts: dict[str, Plaintext]
    matrices: dict[int, gemm.Weights]


class OperationsExecutable:
    """A tape by the evaluator's operations, without their checks."""

    exact = True

    def __init__(self, ring: Context, tape: Tape) -> None:
        self._ring, self._tape = ring, tape
        self._counts = operations(tape)
        self._groups = grouped(tape)

    def load(self, plaintexts: Mapping[str, Plaintext], numbers: Numbers) -> Constants:
        matrices = {}
        for first, group in self._groups.items():
            matrix = np.stack([self._row(each, numbers) for each in group])
            matrices[first] = gemm.load(matrix, self._ring.kernels, self._ring.basis(group[0].level))
        return Constants(dict(plaintexts), matrices)

    def _row(self, instruction: Instruction, numbers: Numbers) -> NDArray[np.float64]:
        (name,) = instruction.constants
        vector = np.asarray(numbers[name], dtype=np.float64)[list(instruction.positions)]
        return np.rint(vector * self._tape.constants[name].scale)

    def run(self, runs: Sequence[TapeRun], *, trace: Trace | None = None) -> list[list[Ciphertext]]:
        outputs: list[list[Ciphertext]] = [[] for _ in runs]
        threads.each(lambda i: outputs[i].extend(self._run(runs[i])), range(len(runs)))
        if trace is not None:
            for name, count in self._counts.items():
                trace(name, count * len(runs))
        return outputs

    def _run(self, run: TapeRun) -> list[Ciphertext]:
        evaluator: Evaluator = run.evaluator
        weights: Constants = run.weights
        sums: dict[int, Ciphertext] = {}

        def made(instruction: Instruction, operands: list[Ciphertext]) -> list[Ciphertext]:
            kind = instruction.kind
            if kind is InstructionKind.ROTATE:
                return evaluator.rotate_many(operands[0], instruction.steps)
            if kind is InstructionKind.RESCALE:
                return [evaluator.rescale(operands[0])]
            if kind is InstructionKind.ADD:
                return [functools.reduce(evaluator.add, operands)]
            if kind is not InstructionKind.DOT_SCALARS:
                return [evaluator.dot_plain(operands, [weights.plaintexts[name] for name in instruction.constants])]
            if group := self._groups.get(instruction.result):
                sums.update(self._sums(weights, group, operands))
            return [sums.pop(instruction.result)]

        return interpreted(self._tape, run.inputs, made)

    def _sums(
        self, weights: Constants, group: Sequence[Instruction], operands: Sequence[Ciphertext]
    ) -> dict[int, Ciphertext]:
        matrix = weights.matrices[group[0].result]
        rows = gemm.gemm(self._ring.kernels, matrix, [operand.values for operand in operands])
        return {each.result: Ciphertext(row, each.level, each.scale) for each, row in zip(group, rows, strict=True)}


def grouped(tape: Tape) -> dict[int, list[Instruction]]:
    """Sums of products with numbers that read the same values, by the first one's result: they are one matrix product.

    All of a group are made when its first is: nothing that they read can have been dropped by then.
    """
    groups: dict[tuple[int, ...], list[Instruction]] = {}
    for each in tape.instructions:
        if each.kind is InstructionKind.DOT_SCALARS:
            groups.setdefault(each.args, []).append(each)
    return {group[0].result: group for group in groups.values()}
