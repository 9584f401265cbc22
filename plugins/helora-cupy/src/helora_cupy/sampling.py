"""Random words and what is drawn from them, on a device, with the bits that ``helora_rns`` draws on the CPU."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from helora_cupy.building import SAMPLING
from helora_cupy.device import Array, Device

SEED_BYTES, NONCE_BYTES = 32, 12
NO_NONCE = bytes(NONCE_BYTES)
BLOCK = 1024
SCAN_BYTES = 4 * (BLOCK + 33 + 1) + 8
STATE_WORDS = (SEED_BYTES + NONCE_BYTES) // 4


def states(keys: Sequence[tuple[bytes, bytes]]) -> NDArray[np.uint32]:
    """Seeds and nonces as kernels of streams read them: (streams, 11)."""
    if any((len(seed), len(nonce)) != (SEED_BYTES, NONCE_BYTES) for seed, nonce in keys):
        raise ValueError(f"a seed has {SEED_BYTES} bytes and a nonce {NONCE_BYTES}")
    return np.frombuffer(b"".join(seed + nonce for seed, nonce in keys), "<u4").reshape(-1, STATE_WORDS)


class Sampling:
    """What is drawn, on one device."""

    def __init__(self, device: Device) -> None:
        self._device = device

    def words(self, seed: bytes, nonce: bytes, start: int, count: int) -> Array:
        """Words ``start`` to ``start + count`` of the stream of a seed and a nonce: ChaCha20, RFC 8439."""
        out, state = self._device.empty((count,)), states([(seed, nonce)])[0].astype(np.uint64)
        pairs = [np.uint64(state[i] | state[i + 1] << np.uint64(32)) for i in range(0, 10, 2)]
        blocks = -(-(start + count) // 8) - start // 8
        arguments = [out, *pairs, np.uint64(state[10]), np.uint64(start), np.uint64(count)]
        if count:
            self._device.launch(SAMPLING, "stream_words", (-(-blocks // 256),), 256, arguments)
        return out

    def uniform(self, prime: int, words: Array, out: Array) -> tuple[int, int]:
        """As ``Kernels.uniform``; waits for the device."""
        told = self._device.empty((2,))
        mask = np.uint64((1 << prime.bit_length()) - 1)
        arguments = [out, np.uint64(out.size), words, np.uint64(words.size), mask, np.uint64(prime), told]
        self._device.launch(SAMPLING, "uniform", (1,), BLOCK, arguments, SCAN_BYTES)
        found, used = self._device.get(told)
        return int(found), int(used)

    def ternary(self, words: Array, out: Array) -> int:
        """As ``Kernels.ternary``; waits for the device."""
        told = self._device.empty((1,))
        arguments = [out, np.uint64(out.size), words, np.uint64(words.size), told]
        self._device.launch(SAMPLING, "ternary", (1,), BLOCK, arguments, SCAN_BYTES)
        return int(self._device.get(told)[0])

    def uniform_polynomials(
        self, keys: Sequence[tuple[bytes, bytes]], primes: Sequence[int], degree: int, out: Array
    ) -> None:
        """Polynomials modulo the same primes, each of a stream: (streams, limbs, N), without waiting.

        As ``helora_rns.scheme.sampling.uniform`` draws them, a row after the other.
        """
        bounds = np.array([((1 << q.bit_length()) - 1, q - 1) for q in primes], np.uint64)
        self.streams(keys, bounds, (out, len(primes)), degree, each=1, count=len(keys))

    def streams(
        self,
        keys: Sequence[tuple[bytes, bytes]],
        bounds: NDArray[np.uint64],
        first: tuple[Array, int],
        degree: int,
        *,
        each: int,
        count: int,
        second: Array | None = None,
        apart: tuple[int, int] | None = None,
        budget: int = 0,
    ) -> None:
        """Uniform polynomials, ``each`` of one stream; see ``uniform_streams`` in ``native/sampling.cu``.

        Args:
            keys: Seeds and nonces of the streams.
            bounds: For each row a mask and the largest number.
            first: Where rows go, and how many of each polynomial; the rest go to ``second``.
            degree: N.
            each: Polynomials of a stream.
            count: Polynomials in all.
            second: For the rows beyond.
            apart: Words from polynomial to polynomial in both, if more lies between them.
            budget: Words that are drawn for each polynomial at once, if what is left of them is not used.
        """
        split, rows = first[1], len(bounds)
        strides = apart or (split * degree, (rows - split) * degree)
        arguments = [
            first[0], np.uint64(strides[0]), second, np.uint64(strides[1]), split, self._device.put(states(keys)),
            self._device.put(bounds), rows, each, count, np.uint64(budget), degree.bit_length() - 1,
        ]  # fmt: skip
        self._device.launch(SAMPLING, "uniform_streams", (len(keys),), BLOCK, arguments, SCAN_BYTES)

    def ternary_polynomials(self, keys: Sequence[tuple[bytes, bytes]], degree: int, each: int, count: int) -> Array:
        """Polynomials of −1, 0 and 1, ``each`` of one stream: (count, N), without waiting.

        As ``helora_rns.scheme.sampling.ternary_of`` draws them.
        """
        out = self._device.empty((count, degree), np.float64)
        arguments = [out, self._device.put(states(keys)), each, count, degree.bit_length() - 1]
        self._device.launch(SAMPLING, "ternary_streams", (len(keys),), BLOCK, arguments, SCAN_BYTES)
        return out

    def binomial(self, words: Array) -> Array:
        """As ``Kernels.binomial``."""
        return self._each("binomial", words)

    def random_bits(self, words: Array, bits: int) -> Array:
        """As ``Kernels.random_bits``."""
        return self._each("random_bits", words, bits)

    def _each(self, name: str, words: Array, *more: int) -> Array:
        out = self._device.empty(words.shape, np.float64)
        arguments = [out, words, np.uint64(words.size), *more]
        self._device.launch(SAMPLING, name, (-(-words.size // 256),), 256, arguments)
        return out

    def normal(self, words: Array) -> Array:
        """As ``Kernels.normal``."""
        out, half = self._device.empty(words.shape, np.float64), words.size // 2
        self._device.launch(SAMPLING, "normal", (-(-half // 256),), 256, [out, words, np.uint64(half)])
        return out


class DeviceStream:
    """The words that a seed and a nonce expand to, from the first on."""

    def __init__(self, sampling: Sampling, seed: bytes, nonce: bytes = NO_NONCE) -> None:
        self._sampling, self._seed, self._nonce, self._at = sampling, seed, nonce, 0

    def words(self, count: int) -> Array:
        """The next ``count`` words."""
        found = self._sampling.words(self._seed, self._nonce, self._at, count)
        self._at += count
        return found
