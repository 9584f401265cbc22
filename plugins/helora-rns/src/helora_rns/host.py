"""What kernels of the CPU have in common: arrays in the memory that NumPy's are in, so that nothing is ever copied, and
one row at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from helora_rns import arrays
from helora_rns.chacha20 import NO_NONCE, Stream
from helora_rns.kernels import Array, Basis, Kernels
from helora_rns.modular import Residues


class OnHost:
    """Part of ``helora_rns.kernels.Kernels``."""

    empty = staticmethod(arrays.empty)
    private = staticmethod(arrays.private)

    @staticmethod
    def to_device(array: Array) -> Array:
        return array

    @staticmethod
    def to_host(array: Array) -> Array:
        return array

    @staticmethod
    def wipe(*arrays: NDArray[Any]) -> None:
        for array in arrays:
            array.fill(0)

    @staticmethod
    def finish() -> None:
        return None

    @staticmethod
    def stream(seed: bytes, nonce: bytes = NO_NONCE) -> Stream:
        return Stream(seed, nonce)

    def uniform_polynomials(self: Kernels, seeds: Sequence[bytes], basis: Basis, each: int = 1) -> Residues:
        out = arrays.residues((len(seeds) * each, len(basis), self.ring_degree))
        for i, seed in enumerate(seeds):
            polynomials = out[i * each : (i + 1) * each]
            fill_uniform(self, seed, [pair for rows in polynomials for pair in zip(rows, basis, strict=True)])
        return out

    def packed(self: Kernels, rows: Residues, bits: Sequence[int]) -> bytes:
        return b"".join(self.pack(row, length) for row, length in zip(rows, bits, strict=True))

    def unpacked(
        self: Kernels, payload: bytes | memoryview, bits: Sequence[int], most: Sequence[int], out: Residues
    ) -> bool:
        at, whole, n = 0, memoryview(payload), self.ring_degree
        for row, length, largest in zip(out, bits, most, strict=True):
            size = -(-n * length // 8)
            self.unpack(whole[at : at + size], n, length, out=row)
            if int(row.max()) > largest:
                return False
            at += size
        return True

    @staticmethod
    def round_off(coefficients: Residues, bits: int, prime: int) -> None:
        if not bits:
            return
        shift, most = np.uint64(bits), prime - 1 >> bits
        odd = coefficients >> shift
        odd &= np.uint64(1)
        coefficients += odd
        coefficients += np.uint64((1 << bits - 1) - 1)
        coefficients >>= shift
        if int(coefficients.max()) > most:  # once in many results, of the few coefficients next to the prime
            coefficients[coefficients > np.uint64(most)] = 0


def fill_uniform(kernels: Kernels, seed: bytes, rows: Sequence[tuple[Residues, int]]) -> None:
    """Fill rows, each modulo its prime, from one seed's stream: in order, as many words as each takes."""
    stream, left, n = Stream(seed), len(rows), kernels.ring_degree
    # Few are left out of a prime just below a power of two; what is missing is drawn when it is missed.
    words = stream.words(n * left + n // 8)
    for missing, prime in rows:
        while missing.size:
            found, used = kernels.uniform(prime, words, missing)
            missing, words = missing[found:], words[used:]
            if missing.size:
                words = stream.words(n * left)
        left -= 1
