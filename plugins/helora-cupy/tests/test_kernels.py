"""Kernels on a device against the reference of helora-rns, bit for bit: its own tests, with a device's kernels in the
place of compiled ones. The CPU stands in for the card.
"""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path

from helora_cupy.device import Shim
from helora_cupy.kernels import DeviceKernels

_spec = importlib.util.spec_from_file_location("helora_cupy_laws", Path(__file__).with_name("laws.py"))
assert _spec is not None
assert _spec.loader is not None
laws = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(laws)

SHIM = Shim()


@functools.cache
def on_the_shim(name: str, n: int, primes: tuple[int, ...]) -> DeviceKernels:
    return DeviceKernels(SHIM, n, primes)


_kernels = laws.of_kernel_sets("test_kernels", CompiledKernels=on_the_shim)
_products = laws.of_kernel_sets("test_gemm", CompiledKernels=on_the_shim)

pair = _kernels.pair
TestKernels = _kernels.TestCompiled
TestProducts = _products.TestCompiled
