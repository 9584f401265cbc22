"""A program's launches, recorded once for each number of runs (on a card as a CUDA graph) and replayed.

A recording reads its addresses from a table of its own on the device. It is one thread's at a time: a thread that finds
none free records another.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from helora_cupy.running import Recording, Running

MOST_KEPT = 16
"""Recordings of a program that are kept; of those that nobody uses, the ones used longest ago go."""


class Launches(Protocol):
    """A lowered program as launches."""

    def launch(self, tables: Any, runs: int) -> None:
        """Ask for all of them.

        Args:
            tables: Addresses on the device, (runs, slots).
            runs: How many.
        """
        ...


class _Recorded(NamedTuple):
    table: Any
    recording: Recording


class Graphs:
    """The recordings of one program. Thread-safe."""

    def __init__(self, device: Running, program: Launches, slots: int) -> None:
        self._device, self._program, self._slots = device, program, slots
        self._lock = threading.Lock()
        self._free: OrderedDict[int, tuple[int, _Recorded]] = OrderedDict()
        self._next = 0
        self.recorded = 0

    def run(self, table: NDArray[np.uint64]) -> None:
        """Run the program with a table of addresses, (runs, slots), in this thread's stream; until that is done,
        nobody else gets the recording.
        """
        runs = len(table)
        found = self._taken(runs) or self._made(runs)
        try:
            self._device.write(found.table, table)
            found.recording.replay()
            self._device.finish()
        finally:
            self._put_back(runs, found)

    def _taken(self, runs: int) -> _Recorded | None:
        with self._lock:
            for number, (count, found) in reversed(self._free.items()):
                if count == runs:
                    del self._free[number]
                    return found
        return None

    def _made(self, runs: int) -> _Recorded:
        table = self._device.empty((runs, self._slots), np.uint64)
        with self._lock:
            self.recorded += 1
        return _Recorded(table, self._device.recorded(lambda: self._program.launch(table, runs)))

    def _put_back(self, runs: int, found: _Recorded) -> None:
        with self._lock:
            self._free[self._next] = runs, found
            self._next += 1
            while len(self._free) > MOST_KEPT:
                self._free.popitem(last=False)
