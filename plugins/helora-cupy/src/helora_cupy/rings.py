"""What the kernels read of a ring: its primes' rows, twiddles and constants, on a device."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from helora_cupy.device import Array, Device
from helora_cupy.tables import WORD, bits_of, centred, table_order
from helora_rns.primes import root_powers

NARROW_BITS = 50
"""Up to so many bits doubles multiply residues; beyond, up to ``MOST_BITS``, integers with Shoup's quotients."""

MOST_BITS = 60
MOD_WORDS = 16
WHOLE_LOG = 14
"""The longest transforms that one block does."""


def is_long(prime: int) -> bool:
    """Whether integers multiply its residues."""
    return prime.bit_length() > NARROW_BITS


def prepared(values: Sequence[int], prime: int) -> NDArray[np.uint64]:
    """Numbers to multiply by, as the prime's policy has them: centred doubles, or with quotients, [len, 2]."""
    if is_long(prime):
        return np.array([(w, (w << 64) // prime) for w in values], dtype=np.uint64)
    return np.array([float(centred(w, prime)) for w in values]).view(np.uint64)


class Ring:
    """Tables of a ring.

    Attributes:
        wide: Whether there are primes beyond ``NARROW_BITS``.
        mods: [primes, 16], as ``native/arith.cuh`` says.
        lifted: [from, to]: the least multiple of the second prime less the first one that is not negative.
        inverses: [from, to]: the first prime's inverse modulo the second.
    """

    def __init__(self, device: Device, ring_degree: int, primes: tuple[int, ...]) -> None:
        if max(primes).bit_length() > MOST_BITS:
            raise ValueError(f"kernels take primes of up to {MOST_BITS} bits")
        self.device, self.degree, self.log_n, self.primes = device, ring_degree, ring_degree.bit_length() - 1, primes
        self.wide = any(map(is_long, primes))
        self._starts = np.cumsum([0, *(ring_degree * (1 + is_long(q)) for q in primes)])
        self.mods = device.put(np.stack([self._row(i) for i in range(len(primes))]))
        self.lifted = device.put(np.array([[-p % q for q in primes] for p in primes], np.uint64))
        inverses = [[pow(p, -1, q) if p != q else 0 for q in primes] for p in primes]
        self.inverses = device.put(np.array(inverses, np.uint64))

    def _row(self, i: int) -> NDArray[np.uint64]:
        q = self.primes[i]
        scale = prepared([pow(self.degree, -1, q)], q).ravel()
        two = [int(scale[0]), int(scale[1]) if is_long(q) else 0]
        row = [q, WORD // q, -pow(q, -1, WORD) % WORD, *two, bits_of(float(q)), bits_of(1.0 / q), WORD * WORD % q]
        return np.array([*row, int(self._starts[i]), q.bit_length(), *[0] * (MOD_WORDS - 10)], np.uint64)

    def _twiddles(self, *, inverse: bool, halves: bool) -> Array:
        n, log_e = self.degree, 3 if self.log_n == 10 else 4
        if halves:
            log_e = 2 if self.log_n < 12 else 3
        order, whole = table_order(self.log_n, log_e, halves), np.empty(int(self._starts[-1]), np.uint64)
        for i, q in enumerate(self.primes):
            powers = root_powers(n, q).copy()
            if inverse:  # minus the power of the mirrored block of the same stage
                index = np.arange(1, n)
                group = 1 << np.frompyfunc(lambda k: int(k).bit_length() - 1, 1, 1)(index).astype(np.int64)
                powers[1:] = np.uint64(q) - root_powers(n, q)[3 * group - 1 - index]
                powers[1] = int(powers[1]) * pow(n, -1, q) % q  # the last stage scales, too
            if is_long(q):
                found = prepared([int(w) for w in powers[order]], q).ravel()
            else:
                signed = powers.astype(np.int64)
                found = np.where(signed > q // 2, signed - q, signed)[order].astype(np.float64).view(np.uint64)
            whole[self._starts[i] : self._starts[i + 1]] = found
        table = self.device.put(whole)
        self.device.finish()
        return table

    @cached_property
    def forward_whole(self) -> Array:
        return self._twiddles(inverse=False, halves=False)

    @cached_property
    def inverse_whole(self) -> Array:
        return self._twiddles(inverse=True, halves=False)

    @cached_property
    def forward_halves(self) -> Array:
        return self._twiddles(inverse=False, halves=True)

    @cached_property
    def inverse_halves(self) -> Array:
        return self._twiddles(inverse=True, halves=True)

    def constants(self, values: Sequence[int], primes: Sequence[int]) -> Array:
        """[len, 2]: numbers to multiply by, each modulo its prime."""
        rows: NDArray[Any] = np.zeros((len(values), 2), np.uint64)
        for row, value, i in zip(rows, values, primes, strict=True):
            found = prepared([value % self.primes[i]], self.primes[i]).ravel()
            row[: found.size] = found
        return self.device.put(rows)
