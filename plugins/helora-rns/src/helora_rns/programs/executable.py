"""Tapes prepared for the engine, and their runs."""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from helora_core.backend.tape import InstructionKind, LevelAndScale, Numbers, Tape, TapeRun, Trace
from helora_rns import threads
from helora_rns.arrays import address, residues
from helora_rns.compiled import CompiledKernels
from helora_rns.embedding import galois_element
from helora_rns.modular import Residues
from helora_rns.programs.buffers import local_rows, placed, planned
from helora_rns.programs.interpreter import interpret
from helora_rns.programs.lowering import lower
from helora_rns.programs.native import NativeProgram, Team
from helora_rns.programs.operations import OperationsExecutable
from helora_rns.scheme.ciphertexts import Ciphertext, Plaintext
from helora_rns.scheme.context import Context

if TYPE_CHECKING:
    from helora_rns.backend import RNSEvaluator


def prepared(ring: Context, tape: Tape) -> RNSExecutable | OperationsExecutable:
    """A tape, ready to be run."""
    if any(each.kind is InstructionKind.DOT_SCALARS for each in tape.instructions):
        return OperationsExecutable(ring, tape)
    return RNSExecutable(ring, tape)


TOGETHER = 4
"""Runs whose keys are read together: more would leave the cache no room for what they make."""


WORTH_SHARING = 64
"""Transforms from which on threads share one program: half a millisecond, some ten times what it takes to wake one."""


class Weights(NamedTuple):
    """A module's plaintexts, in the order of the program's slots."""

    values: tuple[Residues, ...]
    addresses: tuple[int, ...]


class _Work:
    """Runs that are made together, by one thread or a team, whose buffers are those of the first that asks."""

    def __init__(self, runs: Sequence[TapeRun], outputs: Sequence[Sequence[Residues]], *, shared: bool) -> None:
        self.runs, self.outputs, self.team = runs, outputs, Team(threads.count()) if shared else None
        self._lock = threading.Lock()
        self._memory: Residues | None = None

    def memory(self, rows: int, n: int) -> Residues:
        """Buffers that all share: (runs, rows, N)."""
        with self._lock:
            if self._memory is None:
                self._memory = residues((len(self.runs), max(rows, 1), n))
            return self._memory


class RNSExecutable:
    """A tape of rotations, products with plaintexts, sums and rescales."""

    def __init__(self, ring: Context, tape: Tape) -> None:
        self._ring, self._tape = ring, tape
        self._lowered = lowered = lower(tape, ring.specials)
        self.exact = lowered.exact
        self._arena = planned(lowered)
        self._local = local_rows(lowered, self._arena)
        n = ring.ring_degree
        elements = [galois_element(step, n) for step in lowered.slots.steps]
        self._indices = [(ring.index(each), ring.index(pow(each, -1, 2 * n))) for each in elements]
        self._made = levels_and_scales(tape)
        kernels = ring.kernels
        self._native = NativeProgram(kernels, lowered, ring) if isinstance(kernels, CompiledKernels) else None

    def load(self, plaintexts: Mapping[str, Plaintext], numbers: Numbers) -> Weights:
        values = tuple(plaintexts[name].values for name in self._lowered.slots.plaintexts)
        return Weights(values, tuple(map(address, values)))

    def run(self, runs: Sequence[TapeRun], *, trace: Trace | None = None) -> list[list[Ciphertext]]:
        outputs = [self._outputs() for _ in runs]
        # Neighbours in this order have the same keys.
        order = sorted(range(len(runs)), key=lambda i: id(runs[i].evaluator))
        parts = [order[at : at + TOGETHER] for at in range(0, len(order), TOGETHER)]
        shared = self._are_shared(len(parts))
        work = [_Work([runs[i] for i in part], [outputs[i] for i in part], shared=shared) for part in parts]
        if shared:
            for each in work:
                threads.together(functools.partial(self._run, each), threads.count())
        else:
            threads.each(self._run, work)
        if trace is not None:
            for name, count in self._lowered.counts.items():
                if count:
                    trace(name, count * len(runs))
        return [self._returned(run, made) for run, made in zip(runs, outputs, strict=True)]

    def _outputs(self) -> list[Residues]:
        return [residues((2, limbs, self._ring.ring_degree)) for limbs in self._lowered.slots.outputs]

    def _are_shared(self, parts: int) -> bool:
        """Whether all threads share each of so many parts: there are more than parts, and the program is worth it."""
        worth = self._native is not None and self._lowered.counts.get("transforms", 0) >= WORTH_SHARING
        return worth and threads.count() > parts

    def _run(self, work: _Work) -> None:
        """Run a part, or what other threads have left of it."""
        n, memory = self._ring.ring_degree, work.memory(self._arena.rows, self._ring.ring_degree)
        if self._native is None:
            for run, made, own in zip(work.runs, work.outputs, memory, strict=True):
                table = self._arrays(run, made, own)
                specials = self._ring.specials
                interpret(self._ring.kernels, self._lowered.steps, table, len(self._ring.data_primes), specials)
            return
        runs = zip(work.runs, work.outputs, memory, strict=True)
        tables = np.array([self._addresses(run, made, address(own)) for run, made, own in runs], dtype=np.uint64)
        if work.team and self._local.rows:
            first = self._lowered.slots.total - len(self._lowered.slots.scratch)
            alone = residues((len(tables), self._local.rows, n))
            for table, own in zip(tables, alone, strict=True):
                base = address(own)
                for slot, row in self._local.starts.items():
                    table[first + slot] = base + 8 * n * row
        self._native.run(tables, work.team)

    def _addresses(self, run: TapeRun, outputs: Sequence[Residues], base: int) -> list[int]:
        evaluator: RNSEvaluator = run.evaluator
        found = [address(each.values) for each in run.inputs]
        found += map(address, outputs)
        found += run.weights.addresses
        for step, indices in zip(self._lowered.slots.steps, self._indices, strict=True):
            found.append(evaluator.key_addresses[step])
            found += map(address, indices)
        return found + placed(self._arena.starts, base, 8 * self._ring.ring_degree)

    def _arrays(self, run: TapeRun, outputs: Sequence[Residues], memory: Residues) -> list[NDArray[np.generic]]:
        n, evaluator = self._ring.ring_degree, run.evaluator
        found: list[NDArray[np.generic]] = [each.values.reshape(-1, n) for each in run.inputs]
        found += [each.reshape(-1, n) for each in outputs]
        found += run.weights.values
        for step, indices in zip(self._lowered.slots.steps, self._indices, strict=True):
            found += [evaluator.keys[step], *indices]
        sizes = self._lowered.slots.scratch
        return found + [memory[at : at + size] for at, size in zip(self._arena.starts, sizes, strict=True)]

    def _returned(self, run: TapeRun, made: Sequence[Residues]) -> list[Ciphertext]:
        ciphertexts = []
        for output, place in zip(self._tape.outputs, self._lowered.returned, strict=True):
            if place < 0:
                ciphertexts.append(run.inputs[-1 - place])
                continue
            ciphertexts.append(Ciphertext(made[place], *self._made[output]))
        return ciphertexts


def levels_and_scales(tape: Tape) -> dict[int, LevelAndScale]:
    """Level and scale of every value that an instruction makes."""
    return {
        value: LevelAndScale(each.level, each.scale)
        for each in tape.instructions
        for value in range(each.result, each.result + max(1, len(each.steps)))
    }
