"""Programs as launches: any tape has the bits of the CPU's one call, for any number of runs."""

from __future__ import annotations

from typing import Any

import numpy as np
from device_laws import of_kernel_sets
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from helora_core.backend.tape import Tape
from helora_cupy.device import Shim
from helora_cupy.kernels import DeviceKernels
from helora_cupy.launches import Launches
from helora_rns.programs.executable import RNSExecutable
from helora_rns.programs.lowering import lower

programs = of_kernel_sets("test_programs")


class Launched:
    """In the place of the compiled program, whose addresses are the shim's, too. Its own buffers begin with rubbish."""

    def __init__(self, executable: RNSExecutable, tape: Tape, shim: Shim) -> None:
        ring = executable._ring
        self._kernels = DeviceKernels(shim, ring.ring_degree, ring.primes)
        self._launches = Launches(self._kernels, lower(tape, ring.specials), len(ring.data_primes), ring.specials)

    def run(self, tables: NDArray[np.uint64], team: object = None) -> None:
        assert team is None
        launches, n = self._launches, self._kernels.ring_degree
        memory = np.full((len(tables), max(1, launches.buffers.rows), n), 0xA5A5_A5A5_A5A5, np.uint64)
        launches.enqueue(launches.tables(tables[:, : launches.fixed], memory.ctypes.data))


def the_same_bits(tape: Tape, chain: str, runs: int, shim: Shim) -> None:
    ring = programs.service(chain).ring
    whole = programs.run(RNSExecutable(ring, tape), tape, range(runs), chain)
    executable: Any = RNSExecutable(ring, tape)
    executable._native, executable._are_shared = Launched(executable, tape, shim), lambda parts: False
    assert all(map(np.array_equal, whole, programs.run(executable, tape, range(runs), chain)))


SHIM = Shim()


@settings(max_examples=40, deadline=None)
@given(programs.tapes(), st.sampled_from(sorted(programs.CHAINS)), st.integers(1, 4))
def test_a_program_has_the_bits_of_one_call(tape: Tape, chain: str, runs: int) -> None:
    the_same_bits(tape, chain, runs, SHIM)
