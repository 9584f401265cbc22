"""Kernels on a device against the reference of helora-rns, bit for bit: its own tests, with a device's kernels in the
place of compiled ones. The CPU stands in for the card.
"""

from __future__ import annotations

import functools

from device_laws import of_kernel_sets

from helora_cupy.device import Shim
from helora_cupy.kernels import DeviceKernels

SHIM = Shim()


@functools.cache
def on_the_shim(name: str, n: int, primes: tuple[int, ...]) -> DeviceKernels:
    return DeviceKernels(SHIM, n, primes)


_kernels = of_kernel_sets("test_kernels", CompiledKernels=on_the_shim)
_products = of_kernel_sets("test_gemm", CompiledKernels=on_the_shim)

pair = _kernels.pair
TestKernels = _kernels.TestCompiled
TestProducts = _products.TestCompiled
_samples = of_kernel_sets("test_sanitizing", CompiledKernels=on_the_shim)
TestSamples = _samples.TestSamples
