"""Tapes prepared for the device: helora-rns's lowered programs, many runs in each launch.

What a run reads and writes is a row of addresses: inputs, outputs, weights, keys, and the program's own buffers, which
lie in one planned block. Launches read the rows of all their runs from a table on the device, so that a recorded
program serves any keys, weights and inputs: only the table is written anew.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from helora_core.backend.tape import InstructionKind, Numbers, Tape, TapeRun, Trace
from helora_cupy.graphs import Graphs
from helora_cupy.kernels import DeviceKernels
from helora_cupy.launches import Launches
from helora_cupy.running import Running
from helora_rns.embedding import galois_element
from helora_rns.modular import Residues
from helora_rns.programs.executable import levels_and_scales
from helora_rns.programs.lowering import lower
from helora_rns.programs.operations import OperationsExecutable
from helora_rns.scheme.ciphertexts import Ciphertext, Plaintext
from helora_rns.scheme.context import Context

MOST_TOGETHER = 256
"""Runs in one launch."""

MOST_BYTES = 4 << 30
"""Bytes that the buffers of one launch take at most, or a quarter of the device's limit if that is less."""

Addresses = NDArray[np.uint64]


def prepared(ring: Context, device: Running, tape: Tape) -> DeviceExecutable | OperationsExecutable:
    """A tape, ready to be run."""
    if any(each.kind is InstructionKind.DOT_SCALARS for each in tape.instructions):
        return DeviceOperations(ring, device, tape)
    return DeviceExecutable(ring, device, tape)


class DeviceOperations(OperationsExecutable):
    """A tape by the evaluator's operations and products of matrices, in this thread's stream."""

    def __init__(self, ring: Context, device: Running, tape: Tape) -> None:
        super().__init__(ring, tape)
        self._device = device

    def _run(self, run: TapeRun) -> list[Ciphertext]:
        with self._device.working():
            outputs = super()._run(run)
            self._device.finish()  # inputs and keys may be let go of by others when this returns
        return outputs


class Weights(NamedTuple):
    """A module's plaintexts on the device, in the order of the program's slots, and where they begin."""

    values: tuple[Residues, ...]
    addresses: Addresses


class DeviceExecutable:
    """A tape of rotations, products with plaintexts, sums and rescales."""

    def __init__(self, ring: Context, device: Running, tape: Tape) -> None:
        self._ring, self._device, self._tape = ring, device, tape
        self._lowered = lowered = lower(tape, ring.specials)
        self.exact = lowered.exact
        self._made = levels_and_scales(tape)
        assert isinstance(ring.kernels, DeviceKernels)
        self._launches = Launches(ring.kernels, lowered, len(ring.data_primes), ring.specials)
        n, steps = ring.ring_degree, lowered.slots.steps
        self._rows = max(self._launches.buffers.rows, 1)
        self._output_rows = [2 * sum(lowered.slots.outputs[:i]) for i in range(len(lowered.slots.outputs) + 1)]
        self._outputs: Addresses = 8 * n * np.array(self._output_rows[:-1], dtype=np.uint64)
        elements = [galois_element(step, n) for step in steps]
        self._indices = [(ring.index(each), ring.index(pow(each, -1, 2 * n))) for each in elements]
        self._keys: weakref.WeakKeyDictionary[Any, Addresses] = weakref.WeakKeyDictionary()
        self.graphs = Graphs(device, self._launches)
        most = min(MOST_BYTES, (device.limit or 4 * MOST_BYTES) // 4)
        self._together = max(1, min(MOST_TOGETHER, most // (8 * n * (self._rows + self._output_rows[-1]))))

    def load(self, plaintexts: Mapping[str, Plaintext], numbers: Numbers) -> Weights:
        values = tuple(plaintexts[name].values for name in self._lowered.slots.plaintexts)
        return Weights(values, np.array([self._device.address(each) for each in values], dtype=np.uint64))

    def run(self, runs: Sequence[TapeRun], *, trace: Trace | None = None) -> list[list[Ciphertext]]:
        outputs: list[list[Ciphertext]] = []
        with self._device.working():
            for part in _parts(runs, self._together):
                outputs += self._run(part)
        if trace is not None:
            for name, count in self._lowered.counts.items():
                if count:
                    trace(name, count * len(runs))
        return outputs

    def _run(self, runs: Sequence[TapeRun]) -> list[list[Ciphertext]]:
        n, address, empty = self._ring.ring_degree, self._device.address, self._device.empty
        outputs = empty((len(runs), max(self._output_rows[-1], 1), n))
        memory = empty((len(runs), self._rows, n))
        fixed = np.empty((len(runs), self._launches.fixed), dtype=np.uint64)
        first, each = address(outputs), 8 * n * outputs.shape[1]
        for i, (row, run) in enumerate(zip(fixed, runs, strict=True)):
            inputs = np.array([address(each.values) for each in run.inputs], dtype=np.uint64)
            own = self._outputs + np.uint64(first + each * i)
            np.concatenate([inputs, own, run.weights.addresses, self._of_keys(run.evaluator)], out=row)
        # Inputs and keys may be let go of by others when this returns, so it waits for what reads them.
        self.graphs.run(self._launches.tables(fixed, address(memory)))
        return [self._returned(run, made) for run, made in zip(runs, outputs, strict=True)]

    def _of_keys(self, evaluator: Any) -> Addresses:
        """Addresses of the keys of the program's rotations, each with its indices."""
        found = self._keys.get(evaluator)
        if found is None:
            address = self._device.address
            addresses = [
                (address(evaluator.keys[step]), *map(address, indices))
                for step, indices in zip(self._lowered.slots.steps, self._indices, strict=True)
            ]
            found = self._keys[evaluator] = np.array(addresses, dtype=np.uint64).reshape(-1)
        return found

    def _returned(self, run: TapeRun, made: Residues) -> list[Ciphertext]:
        ciphertexts, ends = [], self._output_rows
        for output, place in zip(self._tape.outputs, self._lowered.returned, strict=True):
            if place < 0:
                ciphertexts.append(run.inputs[-1 - place])
                continue
            values = made[ends[place] : ends[place + 1]].reshape(2, -1, self._ring.ring_degree)
            ciphertexts.append(Ciphertext(values, *self._made[output]))
        return ciphertexts


def _parts(runs: Sequence[TapeRun], most: int) -> Iterator[Sequence[TapeRun]]:
    """Runs in as few parts as there can be, of nearly equal sizes: equal ones share a recording."""
    size = max(1, math.ceil(len(runs) / max(1, math.ceil(len(runs) / most))))
    for start in range(0, len(runs), size):
        yield runs[start : start + size]
