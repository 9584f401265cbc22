"""A lowered program as the compiled kernels read it."""

from __future__ import annotations

import ctypes

import numpy as np
from numpy.typing import NDArray

from helora_rns import threads
from helora_rns.arrays import address
from helora_rns.compiled import CompiledKernels
from helora_rns.programs.steps import Lowered, Ref
from helora_rns.scheme.context import Context


class _Program(ctypes.Structure):
    """``HrProgram``."""

    _fields_ = [
        ("data", ctypes.c_uint64),
        ("special", ctypes.c_uint64),
        ("slots", ctypes.c_uint64),
        ("count", ctypes.c_uint64),
        ("steps", ctypes.c_void_p),
        ("refs", ctypes.c_void_p),
    ]


class _Team(ctypes.Structure):
    """``HrTeam``."""

    _fields_ = [
        ("next", ctypes.c_uint64),
        ("beside", ctypes.c_uint64 * 7),
        ("done", ctypes.c_uint64),
        ("workers", ctypes.c_uint64),
        ("give_way", ctypes.c_void_p),
    ]


class Team:
    """Threads that run a program together; for one run of it."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._team = _Team(workers=workers, give_way=threads.give_way())

    @property
    def address(self) -> int:
        """Where the structure is."""
        return ctypes.addressof(self._team)


class NativeProgram:
    """A program for ``hr_run``; read-only, so that threads may share it."""

    def __init__(self, kernels: CompiledKernels, lowered: Lowered, ring: Context) -> None:
        steps: list[tuple[int, ...]] = []
        refs: list[Ref] = []
        for step in lowered.steps:
            steps.append((step.kind, step.limbs, step.rows, step.terms, len(refs), step.accumulate))
            refs += step.refs
        # What the structure points to is kept with it.
        self._steps = np.array(steps, dtype=np.uint32).reshape(-1, 6)
        self._refs = np.array(refs, dtype=np.uint32).reshape(-1, 4)
        self._program = _Program(
            len(ring.data_primes),
            ring.specials,
            lowered.slots.total,
            len(steps),
            address(self._steps),
            address(self._refs),
        )
        self._kernels = kernels

    def run(self, tables: NDArray[np.uint64], team: Team | None = None) -> None:
        """Run it, with the addresses of each run's buffers: (runs, slots). All threads of a team do this."""
        self._kernels.run(ctypes.addressof(self._program), tables, team.address if team else None)
