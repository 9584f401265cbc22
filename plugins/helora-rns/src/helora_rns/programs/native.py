"""A lowered program as the compiled kernels read it."""

from __future__ import annotations

import ctypes

import numpy as np
from numpy.typing import NDArray

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

    def run(self, tables: NDArray[np.uint64]) -> None:
        """Run it, with the addresses of each run's buffers: (runs, slots)."""
        self._kernels.run(ctypes.addressof(self._program), tables)
