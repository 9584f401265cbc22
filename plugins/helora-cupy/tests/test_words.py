"""Words beside primes on a device: helora-rns's tests of its kernels for them, against its reference, bit for bit."""

from __future__ import annotations

import functools

from device_laws import of_kernel_sets

from helora_cupy.device import Shim
from helora_cupy.kernels import DeviceKernels
from helora_cupy.words import DeviceWords
from helora_rns.correlations.ring import WordRing

SHIM = Shim()


@functools.cache
def on_the_shim(name: str, n: int, primes: tuple[int, ...]) -> DeviceKernels:
    return DeviceKernels(SHIM, n, primes)


@functools.cache
def words_on_the_shim(ring: WordRing, kernels: DeviceKernels) -> DeviceWords:
    return DeviceWords(ring, kernels)


_words = of_kernel_sets("test_words", "scalar", CompiledKernels=on_the_shim, CompiledWords=words_on_the_shim)

pair = _words.pair
TestWords = _words.TestCompiled
