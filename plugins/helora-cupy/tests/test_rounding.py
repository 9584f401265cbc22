"""Low bits are rounded off on a device as on the host, and its compiler takes the kernel."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helora_core.backend.primes import distinct_ntt_primes
from helora_cupy import building
from helora_cupy.batches import ROUNDING
from helora_cupy.running import KernelsOf, RunningShim
from helora_rns.host import OnHost

N = 1024
PRIMES = distinct_ntt_primes((50, 41, 30), N)
KERNELS = KernelsOf(RunningShim())(N, PRIMES)


@settings(deadline=None)  # the first example compiles
@given(prime=st.sampled_from(PRIMES), bits=st.integers(0, 29), seed=st.integers(0, 2**32))
def test_quotients_are_those_of_the_host(prime: int, bits: int, seed: int) -> None:
    values = np.random.default_rng(seed).integers(0, prime, N, dtype=np.uint64)
    values[:256] = prime - 1 - np.arange(256, dtype=np.uint64)  # where a quotient's multiple may exceed the prime
    values[256:512] = np.arange(256, dtype=np.uint64) << np.uint64(max(bits - 2, 0))  # ties
    values[256:512] %= np.uint64(prime)
    there = KERNELS.to_device(values)
    KERNELS.round_off(there, bits, prime)
    OnHost.round_off(values, bits, prime)
    np.testing.assert_array_equal(KERNELS.to_host(there), values)


@pytest.mark.parametrize("arch", ["sm_80", "sm_90", "sm_100"])
def test_nvrtc_compiles_it_without_a_warning(arch: str) -> None:
    path = building.find_nvrtc()
    if path is None and not os.environ.get("HELORA_REQUIRE_NVRTC"):
        pytest.skip("nvidia-cuda-nvrtc is not installed")
    assert path is not None
    cubin, log = building.Nvrtc(path).compile(ROUNDING, arch)
    assert cubin[:4] == b"\x7fELF"
    assert "warning" not in log
