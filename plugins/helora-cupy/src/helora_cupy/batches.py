"""Kernels as the scheme takes them: many rows a call, with at most one wait for the device in each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from helora_cupy.building import Unit
from helora_cupy.device import Array
from helora_cupy.kernels import DeviceKernels
from helora_cupy.sampling import NO_NONCE
from helora_rns.kernels import Basis

ROUNDING = Unit("rounding.cu")


class BatchKernels(DeviceKernels):
    """``helora_rns.kernels.Kernels``, whole."""

    def uniform_polynomials(self, seeds: Sequence[bytes], basis: Basis, each: int = 1) -> Array:
        count = len(seeds) * each
        out = self.empty((count, len(basis), self.ring_degree))
        primes = [self.primes[i] for i in basis]
        bounds = np.array([((1 << q.bit_length()) - 1, q - 1) for q in primes], dtype=np.uint64)
        keys = [(seed, NO_NONCE) for seed in seeds]
        self._sampling.streams(keys, bounds, (out, len(basis)), self.ring_degree, each=each, count=count)
        return out

    def streams_of(
        self, keys: Sequence[tuple[bytes, bytes]], bounds: Any, first: tuple[Array, int], **options: Any
    ) -> None:
        """Uniform polynomials of streams, as ``Sampling.streams`` draws them."""
        self._sampling.streams(keys, bounds, first, self.ring_degree, **options)

    def ternary_of_streams(self, keys: Sequence[tuple[bytes, bytes]], each: int, count: int) -> Array:
        """Polynomials of −1, 0 and 1, ``each`` of one stream: (count, N)."""
        return self._sampling.ternary_polynomials(keys, self.ring_degree, each, count)

    def packed(self, rows: Array, bits: Sequence[int]) -> bytes:
        sizes = self._sizes(bits)
        out = self.empty((sum(sizes),), np.uint8)
        at = 0
        for row, length, size in zip(rows, bits, sizes, strict=True):
            self.pack_into(out[at : at + size], row, length)
            at += size
        return bytes(self.to_host(out).tobytes())

    def unpacked(self, payload: Any, bits: Sequence[int], most: Sequence[int], out: Array) -> bool:
        sent, at = self.to_device(np.frombuffer(payload, dtype=np.uint8)), 0
        for row, length, size in zip(out, bits, self._sizes(bits), strict=True):
            self.unpack(sent[at : at + size], self.ring_degree, length, out=row)
            at += size
        found = self.to_device(np.zeros(1, dtype=np.uint64))
        self.count_beyond(found, out, self._numbers(tuple(each + 1 for each in most)), len(most))
        return not int(self.to_host(found)[0])

    def _sizes(self, bits: Sequence[int]) -> list[int]:
        return [-(-self.ring_degree * length // 8) for length in bits]

    def wipe(self, *arrays: Array) -> None:
        device: Any = self.device
        if device.settled():
            for array in arrays:
                array.fill(0)
            device.settled()  # before the memory is given out again

    def round_off(self, coefficients: Array, bits: int, prime: int) -> None:
        if bits:
            count, most = coefficients.size, np.uint64(prime - 1 >> bits)
            arguments = [coefficients, np.uint64(count), bits, most]
            self.device.launch(ROUNDING, "round_off", (-(-count // 256),), 256, arguments)

    def of_doubles(self, values: Array, basis: Basis) -> Array:
        """Also of several polynomials, (count, N): (count, limbs, N)."""
        if values.ndim == 1:
            return super().of_doubles(values, basis)
        out = self.empty((len(values), len(basis), self.ring_degree))
        for one, polynomial in zip(out, values, strict=True):
            self._of_doubles(one, polynomial, None, basis)
        return out
