"""``helora_rns.correlations.kernels.WordKernels`` on a device, where a launch is for many polynomials.

Results are made without errors where these cannot matter, as on the CPU: a coefficient that is 21 or less from a
multiple of q₁ has its row made again with them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from helora_cupy import building
from helora_cupy.building import WORDS
from helora_cupy.device import Array
from helora_cupy.kernels import DeviceKernels
from helora_cupy.products import COLUMNS, FEW_ROWS, tile_bytes
from helora_rns.correlations.kernels import PublicValues, Results, Secret, packed_bytes
from helora_rns.correlations.ring import WRAP, WRAP_BITS, WordRing


class DeviceWords:
    """Those of one ring, on its kernels."""

    def __init__(self, ring: WordRing, kernels: DeviceKernels) -> None:
        self._ring, self._kernels, self._device = ring, kernels, kernels.device
        self._n, self._limbs = ring.ring_degree, len(ring.limbs)
        first, second = ring.primes[:2]
        self._inverse = np.uint64(pow(first, -1, second))
        self._q1, self._inverse_of_q1 = np.uint64(ring.q1 % WRAP), np.uint64(pow(ring.q1, -1, WRAP))
        self._bits = [WRAP_BITS, *(ring.primes[i].bit_length() for i in ring.limbs)]
        self._bases = {basis: self._device.put(np.array(basis, np.int32)) for basis in (ring.pair, ring.limbs)}
        self._primes = self._device.put(np.array([ring.primes[i] for i in ring.limbs], np.uint64))
        self._products = building.products(wide=False)

    def forget(self) -> None:
        """Nothing is kept."""

    def _launch(self, name: str, rows: int, *arguments: Any) -> None:
        self._device.launch(WORDS, name, (self._n // 256, rows), 256, arguments)

    def gemm(self, weights: Any, a: Array, out: Array, *, add: bool) -> None:
        """weights · a modulo 2^64; weights are the host's or the device's, of any int64."""
        matrix = self._device.put(weights) if isinstance(weights, np.ndarray) else weights
        (rows, terms), columns = weights.shape, a.shape[1]
        size = FEW_ROWS if rows <= FEW_ROWS else 64
        grid, threads = (-(-rows // size), -(-columns // COLUMNS)), 128 if size == FEW_ROWS else 256
        arguments = [matrix, a, out, rows, terms, np.uint64(columns), int(add)]
        self._device.launch(self._products, f"words_{size}", grid, threads, arguments, tile_bytes(size))

    def values_of_words(self, words: Array, bits: int = WRAP_BITS) -> Array:
        """Words of so many bits, as integers of least size, modulo the pair of primes, as values: (count, 2, N)."""
        pair, count = self._ring.pair, words.size // self._n
        out = self._kernels.empty((count, 2, self._n))
        self._launch(
            "of_words", 2 * count, out, words, self._bases[pair], 2, bits, self._kernels.ring.log_n,
            self._kernels.ring.mods,
        )  # fmt: skip
        self._kernels.forward(out, pair)
        return out

    def _small(self, values: Array, basis: tuple[int, ...], out: Array | None = None) -> Array:
        """Small integers modulo primes, (count, primes, N); added to what is there if ``out`` is given."""
        count, found = values.size // self._n, out
        if found is None:
            found = self._kernels.empty((count, len(basis), self._n))
        self._launch(
            "of_small", count * len(basis), found, values, self._bases[basis], len(basis), int(out is not None),
            self._kernels.ring.log_n, self._kernels.ring.mods,
        )  # fmt: skip
        return found

    def _joined(
        self, rows: Array, added: Array | None = None, errors: Array | None = None, numbers: Array | None = None
    ) -> Array:
        """Values modulo the pair, which are overwritten, as words, with what is added to them: (count, N)."""
        kernels, count = self._kernels, rows.size // (2 * self._n)
        kernels.inverse(rows, self._ring.pair)
        out = kernels.empty((count, self._n))
        self._launch(
            "joined", count, out, rows, added, errors, numbers, self._q1, self._inverse, kernels.ring.log_n,
            kernels.ring.mods,
        )  # fmt: skip
        return out

    def public(self, words: Array, residues: Array) -> PublicValues:
        """A public key, (2, N) words and (2, limbs, N) values, ready for use."""
        return PublicValues(self.values_of_words(words), residues)

    def encrypted(
        self, uniform: tuple[Array, Array], random: Array, numbers: Array, secret: Secret, out: Array
    ) -> None:
        """b = −a·s + q₁·m + e, packed, of as many polynomials as there are: ``out`` is (count, bytes)."""
        kernels, ring, limbs = self._kernels, self._ring, self._ring.limbs
        errors, count = kernels.binomial(random), random.size // self._n
        product = kernels.multiply(self.values_of_words(uniform[0]), secret.minus[:2], ring.pair)
        words = self._joined(product, None, errors, numbers)
        values = self._small(errors, limbs)
        kernels.forward(values, limbs)
        values = kernels.multiply_add(uniform[1], secret.minus[: self._limbs], values, limbs, out=values)
        self._packed(out.reshape(count, -1), words, values.reshape(count, self._limbs, self._n))

    def _packed(self, out: Array, words: Array, values: Array) -> None:
        """Row by row of every polynomial."""
        at, stride, flat = 0, out.shape[1], out.reshape(-1)
        for i, bits in enumerate(self._bits):
            rows = words if i == 0 else values[:, i - 1].copy()
            self._kernels.pack_rows(flat[at:], rows, bits, len(out), stride)
            at += packed_bytes(self._n, bits)

    def unpacked(self, part: Any, words: Array, values: Array) -> bool:
        """Bytes of one polynomial; waits for the device."""
        return self.unpacked_many(part, words.reshape(1, -1), values.reshape(1, self._limbs, -1), 0)

    def unpacked_many(self, payload: Any, words: Array, values: Array, stride: int) -> bool:
        """Bytes of several, ``stride`` apart, into (count, N) words and (count, limbs, N) values.

        Returns:
            Whether these are below their primes. Waits for the device.
        """
        kernels, count, at = self._kernels, len(words), 0
        if not hasattr(payload, "dtype"):
            payload = self._device.put(np.frombuffer(payload, np.uint8))
        for i, bits in enumerate(self._bits):
            rows = kernels.unpack_rows(payload[at:], self._n, bits, count, stride)
            (words if i == 0 else values[:, i - 1])[...] = rows
            at += packed_bytes(self._n, bits)
        beyond = self._device.put(np.zeros(1, np.uint64))
        kernels.count_beyond(beyond, values, self._primes, self._limbs)
        return int(self._device.get(beyond)[0]) == 0

    def randomised(
        self, sums: tuple[Array, Array], key: PublicValues, u: Array, random: Array | None
    ) -> tuple[Array, Array]:
        """As the protocol says, of one sum or many: (count, 2, N) words, (count, 2, limbs, N) values, u (count, N)."""
        kernels, ring, limbs, n = self._kernels, self._ring, self._ring.limbs, self._n
        count = u.size // n
        errors = None if random is None else kernels.binomial(random)
        values = self._small(u, ring.pair)
        kernels.forward(values, ring.pair)
        own = values[:, : self._limbs].copy()
        words, rows = kernels.empty((2, count, n)), kernels.empty((count, 2, self._limbs, n))
        for i in range(2):
            part = kernels.multiply_add(own, key.residues[i].copy(), sums[1].reshape(rows.shape)[:, i].copy(), limbs)
            rows[:, i] = part
            words[i] = self._joined(kernels.multiply(values, key.words[i].copy(), ring.pair))
        kernels.inverse(rows, limbs)
        words = words.transpose(1, 0, 2).reshape(2 * count, n) + sums[0].reshape(-1, n)
        if errors is not None:
            self._small(errors, limbs, rows)
            words += errors.reshape(-1, n).astype(np.int64).view(np.uint64)
        return words.reshape(sums[0].shape), rows.reshape(sums[1].shape)

    def quotient(self, words: Array, rows: Array, mask: Array | None, bits: int) -> Array:
        """As the protocol says, of one polynomial."""
        return self._quotients(words, rows, mask, (bits, bits), 1, None).reshape(-1)

    def _quotients(
        self, words: Array, rows: Array, masks: Array | None, bits: tuple[int, int], masked: int, close: Array | None
    ) -> Array:
        count = words.size // self._n
        out, (lost, missing) = self._kernels.empty((count, self._n)), (WRAP_BITS - each for each in bits)
        self._launch(
            "quotients", count, out, words, rows, masks, self._limbs, masked, lost, missing, self._inverse_of_q1,
            self._inverse, close, self._kernels.ring.log_n, self._kernels.ring.mods,
        )  # fmt: skip
        return out

    def trimmed(
        self, sums: tuple[Array, Array], key: PublicValues, u: Array, mask: Array, bits: tuple[int, int], out: Array
    ) -> bool:
        """As the protocol says, of one sum; waits for the device."""
        return not self.results(sums, key, u, mask, bits, out.reshape(1, -1), None)

    def results(
        self,
        sums: tuple[Array, Array],
        key: PublicValues,
        u: Array,
        masks: Array,
        bits: tuple[int, int],
        out: Array,
        random: Array | None,
    ) -> list[int]:
        """Sums re-randomised, divided, masked and packed, many at once; waits for the device.

        Args:
            sums: (count, 2, N) words and (count, 2, limbs, N) values.
            key: The public key.
            u: (count, N).
            masks: (count, N).
            bits: Of each polynomial.
            out: (count, bytes); what follows the two polynomials is left alone.
            random: (count, 2·N), of which errors are made; or None for none.

        Returns:
            Without errors, the rows in which they could matter.
        """
        words, rows = self.randomised(sums, key, u, random)
        count = words.size // (2 * self._n)
        close = self._device.put(np.zeros(2 * count, np.uint64))
        quotients = self._quotients(words, rows, masks, bits, 2, close).reshape(count, 2, self._n)
        flat, middle = out.reshape(-1), packed_bytes(self._n, bits[0])
        for i, at in enumerate((0, middle)):
            self._kernels.pack_rows(flat[at:], quotients[:, i].copy(), bits[i], count, out.shape[1])
        if random is not None:
            return []
        return [int(i) for i in np.flatnonzero(self._device.get(close).reshape(count, 2).any(axis=1))]

    def opened(self, results: Results, secret: Secret, added: Array, top_bits: int, key_bits: int) -> Array:
        """As the protocol says."""
        kernels, n, count = self._kernels, self._n, results.count
        payload, middle = results.payload, packed_bytes(n, top_bits)
        if not hasattr(payload, "dtype"):
            payload = self._device.put(np.frombuffer(payload, np.uint8))
        top = kernels.unpack_rows(payload, n, top_bits, count, results.stride)
        second = kernels.unpack_rows(payload[middle:], n, key_bits, count, results.stride)
        values = self.values_of_words(second, key_bits)
        product = self._joined(kernels.multiply(values, secret.minus[:2], self._ring.pair, out=values))
        out = kernels.empty((count, n))
        self._launch(
            "opened", count, out, top, product, added, WRAP_BITS - top_bits, WRAP_BITS - key_bits, kernels.ring.log_n
        )
        return out
