"""The kernels in NumPy: the reference that compiled ones are held to, and what runs where nothing was compiled."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from helora_rns import embedding, modular, normals, primes
from helora_rns.arrays import aligned_copy, doubles, residues
from helora_rns.host import OnHost
from helora_rns.kernels import Basis, Doubles, Index, of_interleaved
from helora_rns.modular import Moduli, Residues


class NumPyKernels(OnHost):
    """``helora_rns.kernels.Kernels``, exact and slow."""

    name = "numpy"

    def __init__(self, ring_degree: int, ring_primes: tuple[int, ...]) -> None:
        self.ring_degree = ring_degree
        self.primes = ring_primes
        self._powers = np.stack([primes.root_powers(ring_degree, prime) for prime in ring_primes])

    def _moduli(self, basis: Basis) -> Moduli:
        return np.array([self.primes[i] for i in basis], dtype=np.uint64)[:, np.newaxis]

    def forward(self, x: Residues, basis: Basis) -> None:
        n, q, powers = self.ring_degree, self._moduli(basis)[..., np.newaxis], self._powers[list(basis)]
        groups = 1
        while groups < n:
            blocks = x.reshape(*x.shape[:-1], groups, 2, n // groups // 2)
            low, high = blocks[..., 0, :], blocks[..., 1, :]
            turned = modular.multiply(high, powers[:, groups : 2 * groups, np.newaxis], q)
            difference = modular.sub(low, turned, q)
            blocks[..., 0, :] = modular.add(low, turned, q)
            blocks[..., 1, :] = difference
            groups *= 2

    def inverse(self, x: Residues, basis: Basis) -> None:
        n, q, powers = self.ring_degree, self._moduli(basis)[..., np.newaxis], self._powers[list(basis)]
        groups = n // 2
        while groups:
            blocks = x.reshape(*x.shape[:-1], groups, 2, n // groups // 2)
            low, high = blocks[..., 0, :], blocks[..., 1, :]
            # The inverse power of block i is minus the power of block G - 1 - i.
            mirrored = powers[:, 2 * groups - 1 : groups - 1 : -1, np.newaxis]
            turned = modular.multiply(modular.sub(high, low, q), mirrored, q)
            blocks[..., 0, :] = modular.add(low, high, q)
            blocks[..., 1, :] = turned
            groups //= 2
        self.times(x, [pow(n, -1, self.primes[i]) for i in basis], basis, out=x)

    def add(self, a: Residues, b: Residues, basis: Basis, out: Residues | None = None) -> Residues:
        return _given(modular.add(a, b, self._moduli(basis)), out)

    def sub(self, a: Residues, b: Residues, basis: Basis, out: Residues | None = None) -> Residues:
        return _given(modular.sub(a, b, self._moduli(basis)), out)

    def negate(self, a: Residues, basis: Basis, out: Residues | None = None) -> Residues:
        return _given(modular.negate(a, self._moduli(basis)), out)

    def multiply(self, a: Residues, b: Residues, basis: Basis, out: Residues | None = None) -> Residues:
        return _given(modular.multiply(a, b, self._moduli(basis)), out)

    def multiply_add(
        self, a: Residues, b: Residues, c: Residues, basis: Basis, out: Residues | None = None
    ) -> Residues:
        q = self._moduli(basis)
        return _given(modular.add(modular.multiply(a, b, q), c, q), out)

    def times(self, a: Residues, constants: Sequence[int], basis: Basis, out: Residues | None = None) -> Residues:
        factors = np.array(constants, dtype=np.uint64)[:, np.newaxis]
        return _given(modular.multiply(a, factors, self._moduli(basis)), out)

    def dot(self, a: Sequence[Residues], b: Sequence[Residues], basis: Basis) -> Residues:
        total = self.multiply(a[0], b[0], basis)
        for left, right in zip(a[1:], b[1:], strict=True):
            total = self.multiply_add(left, right, total, basis)
        return aligned_copy(total)

    def gemm(
        self,
        weights: Sequence[NDArray[np.int64]],
        a: Sequence[Residues],
        basis: Basis,
        out: Sequence[Residues] | None = None,
        *,
        add: bool = False,
    ) -> list[Residues]:
        results = [aligned_copy(np.zeros_like(a[0])) for _ in range(len(weights[0]))] if out is None else list(out)
        for j, i in enumerate(basis):
            rows = np.stack([each.reshape(-1, len(basis), self.ring_degree)[:, j].ravel() for each in a])
            products = modular.matrix_product(weights[j], rows, self.primes[i])
            q = np.array(self.primes[i], dtype=np.uint64)
            for result, product in zip(results, products, strict=True):
                limb = result.reshape(-1, len(basis), self.ring_degree)[:, j]
                found = product.reshape(-1, self.ring_degree)
                limb[...] = modular.add(limb, found, q) if add else found
        return results

    def permute(self, a: Residues, index: Index) -> Residues:
        return aligned_copy(a[..., index])

    def of_doubles(self, values: Doubles, basis: Basis) -> Residues:
        q = self._moduli(basis)
        # Both parts are exact: a double has 53 bits.
        upper = np.trunc(values * 2.0**-50)
        lower = values - upper * 2.0**50
        two50 = np.uint64(1 << 50) % q
        top = modular.multiply(modular.of_integers(upper.astype(np.int64), q), two50, q)
        return aligned_copy(modular.add(top, modular.of_integers(lower.astype(np.int64), q), q))

    def values_of_doubles(self, values: Doubles, basis: Basis) -> Residues:
        x = self.of_doubles(values, basis)
        self.forward(x, basis)
        return x

    def to_doubles(self, a: Residues, basis: Basis) -> Doubles:
        digits: list[NDArray[np.int64]] = []
        for row, i in zip(a, basis, strict=True):
            prime = self.primes[i]
            q = np.array(prime, dtype=np.uint64)
            rest = row
            for digit, k in zip(digits, basis, strict=False):
                factor = np.array(pow(self.primes[k], -1, prime), dtype=np.uint64)
                rest = modular.multiply(modular.sub(rest, modular.of_integers(digit, q), q), factor, q)
            digits.append(modular.centred(rest, q))
        total = doubles((self.ring_degree,))
        total[:] = 0.0
        for digit, i in zip(digits[::-1], basis[::-1], strict=True):
            total[:] = total * float(self.primes[i]) + digit
        return total

    def mod_down(self, a: Residues, basis: Basis, dropped: int) -> Residues:
        kept, gone = basis[:-dropped], basis[-dropped:]
        rows = aligned_copy(a[:, -dropped:])
        self.inverse(rows, gone)
        lifted = self._lifted(rows, gone, kept)
        self.forward(lifted, kept)
        inverses = [
            modular.product([pow(self.primes[g], -1, self.primes[k]) for g in gone], self.primes[k]) for k in kept
        ]
        return aligned_copy(self.times(self.sub(a[:, :-dropped], lifted, kept), inverses, kept))

    def _lifted(self, rows: Residues, gone: Basis, kept: Basis) -> Residues:
        """The integers of least size that are ``rows`` modulo the primes ``gone``, modulo the others."""
        q = self._moduli(kept)
        if len(gone) == 1:
            return modular.of_integers(modular.centred(rows, self._moduli(gone)), q)
        # Digits of least size in mixed radix (Garner): they make a number of least size.
        digits: list[NDArray[np.int64]] = []
        for j, own in enumerate(gone):
            prime = np.array(self.primes[own], dtype=np.uint64)
            rest = rows[:, j]
            for i, digit in enumerate(digits):
                inverse = np.array(pow(self.primes[gone[i]], -1, self.primes[own]), dtype=np.uint64)
                rest = modular.multiply(modular.sub(rest, modular.of_integers(digit, prime), prime), inverse, prime)
            digits.append(modular.centred(rest, prime))
        total = modular.of_integers(digits[-1][:, np.newaxis], q)
        for digit, lower in zip(digits[-2::-1], gone[-2::-1], strict=True):
            factor = np.array([self.primes[lower] % self.primes[k] for k in kept], dtype=np.uint64)[:, np.newaxis]
            total = modular.add(modular.multiply(total, factor, q), modular.of_integers(digit[:, np.newaxis], q), q)
        return total

    def decompose(self, a: Residues, basis: Basis, special: int) -> Residues:
        limbs = len(basis) - special
        coefficients = aligned_copy(a)
        self.inverse(coefficients, basis[:limbs])
        whole = modular.centred(coefficients, self._moduli(basis[:limbs]))
        digits = modular.of_integers(whole[:, np.newaxis, :], self._moduli(basis))
        self.forward(digits, basis)
        return aligned_copy(digits)

    def rotated(
        self, digits: Residues, key: Residues, added: Residues, indices: tuple[Index, Index], basis: Basis
    ) -> Residues:
        whole, limbs = of_interleaved(key)[: len(digits), :, list(basis)], len(digits)
        total = self.dot(list(whole), list(digits), basis)
        total[0, :limbs] = self.add(total[0, :limbs], added, basis[:limbs])
        return self.permute(total, indices[0])

    def uniform(self, prime: int, words: Residues, out: Residues) -> tuple[int, int]:
        q = self.primes[prime]
        candidates = words & np.uint64((1 << q.bit_length()) - 1)
        places = np.flatnonzero(candidates < np.uint64(q))[: out.size]
        out[: places.size] = candidates[places]
        return places.size, int(places[-1]) + 1 if places.size == out.size else words.size

    def binomial(self, words: Residues) -> Doubles:
        coins = np.unpackbits(words.astype("<u8").view(np.uint8).reshape(-1, 8), axis=1, bitorder="little")
        errors: Doubles = coins[:, :21].sum(axis=1, dtype=np.float64) - coins[:, 21:42].sum(axis=1, dtype=np.float64)
        return errors

    def ternary(self, words: Residues, out: Doubles) -> int:
        pairs = (words[:, np.newaxis] >> np.arange(0, 64, 2, dtype=np.uint64)).ravel() & np.uint64(3)
        found = pairs[pairs < 3][: out.size]
        out[: found.size] = found.astype(np.float64) - 1.0
        return int(found.size)

    def normal(self, words: Residues) -> Doubles:
        return aligned_copy(normals.of_words(words))

    def random_bits(self, words: Residues, bits: int) -> Doubles:
        return aligned_copy((words >> np.uint64(64 - bits)).astype(np.float64))

    def of_parts(self, parts: Sequence[Doubles], shifts: Sequence[int], basis: Basis) -> Residues:
        total = residues((len(basis), self.ring_degree))
        total[...] = 0
        for part, shift in zip(parts, shifts, strict=True):
            factors = [pow(2, shift, self.primes[i]) for i in basis]
            self.add(total, self.times(self.of_doubles(part, basis), factors, basis), basis, out=total)
        return total

    def pack(self, a: Residues, bits: int) -> bytes:
        each = np.unpackbits(a.astype("<u8").view(np.uint8).reshape(-1, 8), axis=1, bitorder="little")[:, :bits]
        return np.packbits(each.ravel(), bitorder="little").tobytes()

    def pack_into(self, out: NDArray[np.uint8], a: Residues, bits: int) -> None:
        out[...] = np.frombuffer(self.pack(a, bits), dtype=np.uint8)

    def unpack(self, payload: bytes | memoryview, count: int, bits: int, out: Residues | None = None) -> Residues:
        out = residues((count,)) if out is None else out
        each = np.unpackbits(np.frombuffer(payload, dtype=np.uint8), bitorder="little")[: count * bits]
        padded = np.zeros((count, 64), dtype=np.uint8)
        padded[:, :bits] = each.reshape(count, bits)
        out[...] = np.packbits(padded, axis=1, bitorder="little").view("<u8").ravel()
        return out

    def slots_to_coefficients(self, slots: NDArray[np.generic], factor: float) -> Doubles:
        out = doubles((2, self.ring_degree // 2))
        out[...] = 0.0
        places = embedding.slot_places(self.ring_degree)[: slots.size]
        out[0, places], out[1, places] = slots.real, slots.imag
        self._unembed(*out)
        out *= factor
        # Zeros lose their sign.
        coefficients: Doubles = np.add(np.rint(out, out=out), 0.0, out=out).reshape(-1)
        return coefficients

    def coefficients_to_slots(self, coefficients: Doubles, factor: float) -> NDArray[np.complex128]:
        real, imaginary = coefficients.reshape(2, -1)
        self._embed(real, imaginary)
        slots, places = np.empty(real.size, dtype=np.complex128), embedding.slot_places(self.ring_degree)
        slots.real, slots.imag = real[places] * factor, imaginary[places] * factor
        return slots

    def _embed(self, real: Doubles, imaginary: Doubles) -> None:
        """In place, N/2 complex coefficients m_k + i·m_(k + N/2) to values."""
        cosines, sines = embedding.powers(self.ring_degree)
        groups = 1
        while groups < real.size:
            re, im = (part.reshape(groups, 2, -1) for part in (real, imaginary))
            c, s = cosines[groups : 2 * groups, np.newaxis], sines[groups : 2 * groups, np.newaxis]
            turned = re[:, 1] * c - im[:, 1] * s, re[:, 1] * s + im[:, 1] * c
            for part, t in zip((re, im), turned, strict=True):
                part[:, 1] = part[:, 0] - t
                part[:, 0] += t
            groups *= 2

    def _unembed(self, real: Doubles, imaginary: Doubles) -> None:
        """In place, values to coefficients times N/2."""
        cosines, sines = embedding.powers(self.ring_degree)
        groups = real.size // 2
        while groups:
            re, im = (part.reshape(groups, 2, -1) for part in (real, imaginary))
            c, s = cosines[groups : 2 * groups, np.newaxis], sines[groups : 2 * groups, np.newaxis]
            dr, di = re[:, 0] - re[:, 1], im[:, 0] - im[:, 1]
            re[:, 0] += re[:, 1]
            im[:, 0] += im[:, 1]
            re[:, 1], im[:, 1] = dr * c + di * s, di * c - dr * s
            groups //= 2


def _given(result: Residues, out: Residues | None) -> Residues:
    if out is None:
        return aligned_copy(result)
    out[...] = result
    return out
