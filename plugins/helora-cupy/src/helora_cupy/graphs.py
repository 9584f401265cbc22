"""A program's launches, recorded once for each number of runs (on a card as a CUDA graph) and replayed.

A recording reads its addresses from a table of its own on the device. It is one thread's at a time: a thread that finds
none free records another.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from helora_cupy.device import Array
from helora_cupy.launches import Launches
from helora_cupy.running import Recording, Running

MOST_KEPT = 16
"""Recordings of a program that are kept while nobody uses them; the ones used longest ago go."""


class _Recorded(NamedTuple):
    table: Array
    recording: Recording


class Graphs:
    """The recordings of one program. Thread-safe.

    Attributes:
        made: How many were recorded.
    """

    def __init__(self, device: Running, program: Launches) -> None:
        self._device, self._program = device, program
        self._lock = threading.Lock()
        self._free: OrderedDict[int, _Recorded] = OrderedDict()
        self._uses = 0
        self.made = 0

    def run(self, table: NDArray[np.uint64]) -> None:
        """Run the program with a table of addresses, (runs, slots), to its end."""
        found = self._taken(len(table)) or self._recorded(table)
        try:
            self._device.write(found.table, table)
            found.recording.replay()
        finally:
            self._device.finish()  # whoever gets the recording next overwrites its table
        self._put_back(found)

    def _taken(self, runs: int) -> _Recorded | None:
        with self._lock:
            for use, found in reversed(self._free.items()):
                if len(found.table) == runs:
                    return self._free.pop(use)
        return None

    def _recorded(self, like: NDArray[np.uint64]) -> _Recorded:
        table = self._device.put(like)
        recording = self._device.recorded(lambda: self._program.enqueue(table))
        with self._lock:
            self.made += 1
        return _Recorded(table, recording)

    def _put_back(self, found: _Recorded) -> None:
        with self._lock:
            self._free[self._uses] = found
            self._uses += 1
            while len(self._free) > MOST_KEPT:
                self._free.popitem(last=False)
