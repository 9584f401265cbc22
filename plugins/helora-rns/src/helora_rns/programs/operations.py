"""Tapes with products with numbers, run operation by operation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from helora_core.backend.tape import Instruction, InstructionKind, Numbers, Tape, TapeRun, Trace
from helora_rns import threads
from helora_rns.programs.lowering import counted
from helora_rns.scheme.ciphertexts import Ciphertext, Plaintext
from helora_rns.scheme.context import Context
from helora_rns.scheme.evaluation import Evaluator


class Constants(NamedTuple):
    """A module's constants by name: plaintexts, and of each number in a vector its residues."""

    plaintexts: dict[str, Plaintext]
    numbers: dict[str, list[list[int]]]


class OperationsExecutable:
    """A tape by the evaluator's operations, without their checks."""

    exact = True

    def __init__(self, ring: Context, tape: Tape) -> None:
        self._ring, self._tape = ring, tape
        self._counts = counted(tape)

    def load(self, plaintexts: Mapping[str, Plaintext], numbers: Numbers) -> Constants:
        found = {}
        for name, vector in numbers.items():
            spec = self._tape.constants[name]
            primes = self._ring.data_primes[: spec.level + 1]
            integers = [round(float(number) * spec.scale) for number in vector]
            found[name] = [[integer % prime for prime in primes] for integer in integers]
        return Constants(dict(plaintexts), found)

    def run(self, runs: Sequence[TapeRun], *, trace: Trace | None = None) -> list[list[Ciphertext]]:
        outputs: list[list[Ciphertext]] = [[] for _ in runs]
        threads.each(lambda i: outputs[i].extend(self._run(runs[i])), range(len(runs)))
        if trace is not None:
            for name, count in self._counts.items():
                trace(name, count * len(runs))
        return outputs

    def _run(self, run: TapeRun) -> list[Ciphertext]:
        live = dict(enumerate(run.inputs))
        for instruction in self._tape.instructions:
            operands = [live[arg] for arg in instruction.args]
            live |= enumerate(self._made(run, instruction, operands), start=instruction.result)
            for value in instruction.freed:
                del live[value]
        return [live[output] for output in self._tape.outputs]

    def _made(self, run: TapeRun, instruction: Instruction, operands: list[Ciphertext]) -> list[Ciphertext]:
        evaluator: Evaluator = run.evaluator
        weights: Constants = run.weights
        kind = instruction.kind
        if kind is InstructionKind.ROTATE:
            return evaluator.rotate_many(operands[0], instruction.steps)
        if kind is InstructionKind.RESCALE:
            return [evaluator.rescale(operands[0])]
        if kind is InstructionKind.ADD:
            total = operands[0]
            for operand in operands[1:]:
                total = evaluator.add(total, operand)
            return [total]
        if kind is InstructionKind.DOT_SCALARS:
            (name,) = instruction.constants
            return [self._of_numbers(instruction, operands, weights.numbers[name])]
        return [evaluator.dot_plain(operands, [weights.plaintexts[name] for name in instruction.constants])]

    def _of_numbers(
        self, instruction: Instruction, operands: Sequence[Ciphertext], numbers: Sequence[Sequence[int]]
    ) -> Ciphertext:
        kernels, basis = self._ring.kernels, self._ring.basis(instruction.level)
        total = None
        for operand, position in zip(operands, instruction.positions, strict=True):
            product = kernels.times(operand.values, numbers[position], basis)
            total = product if total is None else kernels.add(total, product, basis, out=total)
        assert total is not None
        return Ciphertext(total, instruction.level, instruction.scale)
