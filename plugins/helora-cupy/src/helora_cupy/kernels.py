"""``helora_rns.kernels.Kernels`` on a device: arrays are CuPy's on a card, and NumPy's where the CPU stands in for one.

Tables of a ring are put there once. Nothing waits for the device but what has to return numbers to Python: ``uniform``,
``ternary``, ``pack`` and ``to_host``.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from helora_cupy import building
from helora_cupy.device import Array, Device
from helora_cupy.embedding import Embedding
from helora_cupy.products import Products
from helora_cupy.rings import Ring
from helora_cupy.sampling import NO_NONCE, DeviceStream, Sampling
from helora_cupy.transforms import Job, LiftJob, Place, Row, Transforms, packed_jobs, packed_lifts
from helora_rns.kernels import Basis

_ADD, _SUB, _NEGATE, _MULTIPLY, _MULTIPLY_ADD, _TIMES = range(6)
MOST_KEPT = 512
"""Small tables that are kept on the device, of each kind."""


class DeviceKernels:
    """One ring with its primes, of up to 60 bits: below 2^50 doubles multiply, beyond integers."""

    def __init__(self, device: Device, ring_degree: int, primes: tuple[int, ...]) -> None:
        self.name = device.name
        self.ring_degree = ring_degree
        self.primes = primes
        self.device = device
        self.ring = Ring(device, ring_degree, primes)
        self.transforms = Transforms(self.ring)
        self._rows = building.rows(wide=self.ring.wide)
        self._sampling, self._embedding = Sampling(device), Embedding(device, ring_degree)
        self._products = Products(self.ring)

        def cached(make: Callable[..., Any]) -> Callable[..., Any]:
            def made(*key: Any) -> Any:
                found = make(*key)
                device.finish()  # before other threads, with streams of their own, are given it
                return found

            return functools.lru_cache(maxsize=MOST_KEPT)(made)

        self._basis = cached(lambda basis: device.put(np.array(basis, np.int32)))
        self._numbers = cached(lambda numbers: device.put(np.array(numbers, np.uint64)))
        self._plain, self._digits = cached(self._plain_jobs), cached(self._digit_jobs)
        self._divided = cached(self._divide_jobs)
        self._indices: dict[int, tuple[NDArray[np.uint32], Array]] = {}

    # Arrays.

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike = np.uint64) -> Array:
        """An array of the device's, not set."""
        return self.device.empty(shape, dtype)

    def to_device(self, array: Any) -> Array:
        """A copy on the device."""
        return self.device.put(array)

    def to_host(self, array: Array) -> Any:
        """An array of the host's with the same values."""
        return self.device.get(array)

    def private(self, array: Array) -> Array:
        """A copy, of an array that is then wiped."""
        copy = self.empty(array.shape, array.dtype)
        copy[...] = array
        array.fill(0)
        return copy

    def finish(self) -> None:
        """Wait for all that this thread has launched."""
        self.device.finish()

    def stream(self, seed: bytes, nonce: bytes = NO_NONCE) -> DeviceStream:
        """The words of a seed of 32 bytes and a nonce of 12."""
        return DeviceStream(self._sampling, seed, nonce)

    def words(self, seed: bytes, nonce: bytes, start: int, count: int) -> Array:
        """Words ``start`` to ``start + count`` of the same."""
        return self._sampling.words(seed, nonce, start, count)

    def uniform_streams(
        self,
        keys: Sequence[tuple[bytes, bytes]],
        bounds: NDArray[np.uint64],
        out: tuple[Array, Array],
        each: int,
        count: int,
        budget: int,
    ) -> None:
        """Uniform words and residues, ``each`` polynomials of a stream, without waiting; see ``Sampling.streams``.

        ``out``: (count, N) words and (count, limbs, N) residues, parts of longer arrays if need be.
        """
        words, values = out
        apart = words.strides[0] // 8, values.strides[0] // 8
        self._sampling.streams(
            keys, bounds, (words, 1), self.ring_degree, each=each, count=count, second=values, apart=apart,
            budget=budget,
        )  # fmt: skip

    def ternary_streams(self, keys: Sequence[tuple[bytes, bytes]], each: int, count: int) -> Array:
        """Polynomials of −1, 0 and 1, ``each`` of one stream, without waiting: (count, N)."""
        return self._sampling.ternary_polynomials(keys, self.ring_degree, each, count)

    # Transforms.

    def _plain_jobs(self, basis: Basis) -> Array:
        return self.device.put(packed_jobs([Job(Row(0, i), Row(0, i), prime) for i, prime in enumerate(basis)]))

    def _in_place(self, x: Array, basis: Basis) -> Place:
        each = len(basis) * self.ring_degree
        return Place(x.size // each, None, 0, (x,), (each,))

    def forward(self, x: Array, basis: Basis) -> None:
        self.transforms.forward(self._in_place(x, basis), self._plain(basis))

    def inverse(self, x: Array, basis: Basis) -> None:
        self.transforms.inverse(self._in_place(x, basis), self._plain(basis))

    def _digit_jobs(self, basis: Basis, special: int) -> tuple[Array, Array]:
        limbs, width = len(basis) - special, len(basis)
        back = [Job(Row(0, i), Row(2, i), basis[i]) for i in range(limbs)]
        there = [
            Job(Row(0 if i == j else 2, i), Row(1, i * width + j), basis[j], i == j, -1 if i == j else basis[i])
            for i in range(limbs)
            for j in range(width)
        ]
        return self.device.put(packed_jobs(back)), self.device.put(packed_jobs(there))

    def decompose(self, a: Array, basis: Basis, special: int) -> Array:
        limbs = len(basis) - special
        out, coefficients = self.empty((limbs, len(basis), self.ring_degree)), self.empty((limbs, self.ring_degree))
        back, there = self._digits(basis, special)
        place = Place(1, None, 0, (a, out, coefficients), (0, 0, 0))
        self.transforms.inverse(place, back)
        self.transforms.forward(place, there)
        return out

    def _divide_jobs(self, basis: Basis, dropped: int) -> tuple[Array, Array | None, Array, Array]:
        kept, gone = basis[:-dropped], basis[-dropped:]
        back = [Job(Row(0, len(kept) + k), Row(2, k), prime) for k, prime in enumerate(gone)]
        there, lifts = [], []
        for j, prime in enumerate(kept):
            one = dropped == 1
            read = Row(2, 0) if one else Row(1, j)
            there.append(Job(read, Row(1, j), prime, False, gone[0] if one else -1, Row(0, j), j))
            lifts.append(LiftJob(Row(2, 0), Row(1, j), prime, gone))
        inverses = [pow(self.product(gone), -1, self.primes[j]) for j in kept]
        return (
            self.device.put(packed_jobs(back)),
            None if dropped == 1 else self.device.put(packed_lifts(lifts)),
            self.device.put(packed_jobs(there)),
            self.ring.constants(inverses, kept),
        )

    def product(self, basis: Basis) -> int:
        """The product of primes."""
        return functools.reduce(lambda a, b: a * b, (self.primes[i] for i in basis), 1)

    def mod_down(self, a: Array, basis: Basis, dropped: int) -> Array:
        n, kept = self.ring_degree, len(basis) - dropped
        count = a.size // (n * len(basis))
        out, scratch = self.empty((count, kept, n)), self.empty((count, dropped, n))
        place = Place(count, None, 0, (a, out, scratch), (len(basis) * n, kept * n, dropped * n))
        back, lifts, there, constants = self._divided(basis, dropped)
        self.transforms.inverse(place, back)
        if lifts is not None:
            self.transforms.lift(place, lifts)
        self.transforms.forward(place, there, constants)
        return out

    # Place by place.

    def _launch(self, name: str, rows: int, *arguments: Any) -> None:
        self.device.launch(self._rows, name, (self.ring_degree // 256, rows), 256, arguments)

    def _pointwise(
        self, operation: int, basis: Basis, out: Array | None, a: Array, b: Array | None = None, c: Array | None = None
    ) -> Array:
        out = self.empty(a.shape) if out is None else out
        rows = a.size // self.ring_degree
        b_rows = rows if b is None or operation == _TIMES else b.size // self.ring_degree
        self._launch(
            "pointwise", rows, operation, out, a, b, c, self._basis(basis), len(basis), b_rows, self.ring.log_n,
            self.ring.mods,
        )  # fmt: skip
        return out

    def add(self, a: Array, b: Array, basis: Basis, out: Array | None = None) -> Array:
        return self._pointwise(_ADD, basis, out, a, b)

    def sub(self, a: Array, b: Array, basis: Basis, out: Array | None = None) -> Array:
        return self._pointwise(_SUB, basis, out, a, b)

    def negate(self, a: Array, basis: Basis, out: Array | None = None) -> Array:
        return self._pointwise(_NEGATE, basis, out, a)

    def multiply(self, a: Array, b: Array, basis: Basis, out: Array | None = None) -> Array:
        return self._pointwise(_MULTIPLY, basis, out, a, b)

    def multiply_add(self, a: Array, b: Array, c: Array, basis: Basis, out: Array | None = None) -> Array:
        return self._pointwise(_MULTIPLY_ADD, basis, out, a, b, c)

    def times(self, a: Array, constants: Sequence[int], basis: Basis, out: Array | None = None) -> Array:
        return self._pointwise(_TIMES, basis, out, a, self._numbers(tuple(map(int, constants))))

    def _addresses(self, arrays: Sequence[Array]) -> Array:
        return self.device.put(np.array([self.device.address(each) for each in arrays], np.uint64))

    def dot(self, a: Sequence[Array], b: Sequence[Array], basis: Basis) -> Array:
        out = self.empty(a[0].shape)
        left, right = self._addresses(a), self._addresses(b)
        self._launch(
            "dot", out.size // self.ring_degree, out, left, right, len(a), self._basis(basis), len(basis),
            self.ring.log_n, self.ring.mods,
        )  # fmt: skip
        return out

    def gemm(
        self,
        weights: Sequence[Any],
        a: Sequence[Array],
        basis: Basis,
        out: Sequence[Array] | None = None,
        *,
        add: bool = False,
    ) -> list[Array]:
        results = [self.empty(a[0].shape) for _ in range(len(weights[0]))] if out is None else list(out)
        self._products.launch(weights, a, basis, results, add=add)
        return results

    def index(self, index: Any) -> Array:
        """An index of ``helora_rns.primes.automorphism`` on the device: of the host's, once for each."""
        if not isinstance(index, np.ndarray):
            return index
        found = self._indices.get(id(index))
        if found is None:
            there = self.device.put(index)
            self.device.finish()
            found = self._indices.setdefault(id(index), (index, there))  # so that its id stays its own
        return found[1]

    def permute(self, a: Array, index: Any) -> Array:
        out = self.empty(a.shape)
        self._launch("permute", a.size // self.ring_degree, out, a, self.index(index), self.ring.log_n)
        return out

    def rotated(self, digits: Array, key: Array, added: Array, indices: tuple[Any, Any], basis: Basis) -> Array:
        out = self.empty((2, len(basis), self.ring_degree))
        self._launch(
            "rotated", len(basis), out, digits, key, added, self.index(indices[0]), self._basis(basis), len(digits),
            len(basis), key.shape[2], self.ring.log_n, self.ring.mods,
        )  # fmt: skip
        return out

    def by_row(self, grid: tuple[int, int, int], arguments: Sequence[Any]) -> None:
        """Steps of a program that work row by row; for ``launches``."""
        self.device.launch(self._rows, "by_row", grid, 256, arguments)

    # Doubles.

    def of_doubles(self, values: Array, basis: Basis) -> Array:
        out = self.empty((len(basis), self.ring_degree))
        self._of_doubles(out, values, None, basis)
        return out

    def _of_doubles(self, out: Array, values: Array, factors: Array | None, basis: Basis) -> None:
        self._launch(
            "of_doubles", len(basis), out, values, factors, self._basis(basis), self.ring.mods, self.ring.log_n
        )

    def values_of_doubles(self, values: Array, basis: Basis) -> Array:
        out = self.of_doubles(values, basis)
        self.forward(out, basis)
        return out

    def of_parts(self, parts: Sequence[Array], shifts: Sequence[int], basis: Basis) -> Array:
        out = self.of_doubles(parts[0], basis)
        for part, (high, low) in zip(parts[1:], itertools.pairwise(shifts), strict=True):
            factors = self._numbers(tuple(pow(2, high - low, self.primes[i]) for i in basis))
            self._of_doubles(out, part, factors, basis)
        return out

    def to_doubles(self, a: Array, basis: Basis) -> Array:
        out, digits = self.empty((self.ring_degree,), np.float64), self.empty(a.shape)
        digits[...] = a
        ring = self.ring
        self._launch(
            "to_doubles", 1, out, digits, self._basis(basis), len(basis), ring.mods, ring.inverses, len(self.primes),
            ring.log_n,
        )  # fmt: skip
        return out

    # What does not depend on the ring's primes, or on one of them.

    def uniform(self, prime: int, words: Array, out: Array) -> tuple[int, int]:
        return self._sampling.uniform(self.primes[prime], words, out)

    def binomial(self, words: Array) -> Array:
        return self._sampling.binomial(words)

    def ternary(self, words: Array, out: Array) -> int:
        return self._sampling.ternary(words, out)

    def normal(self, words: Array) -> Array:
        return self._sampling.normal(words)

    def random_bits(self, words: Array, bits: int) -> Array:
        return self._sampling.random_bits(words, bits)

    def pack(self, a: Array, bits: int) -> bytes:
        return self._embedding.pack(a, bits)

    def pack_into(self, out: Array, a: Array, bits: int) -> None:
        self._embedding.pack_into(out, a, bits)

    def unpack(self, payload: Any, count: int, bits: int, out: Array | None = None) -> Array:
        return self._embedding.unpack(payload, count, bits, out)

    def pack_rows(self, out: Array, a: Array, bits: int, rows: int, stride: int) -> None:
        """``pack_into`` of as many rows, each to bytes ``stride`` after the last one's."""
        self._embedding.pack_into(out, a, bits, rows, stride)

    def unpack_rows(self, payload: Array, count: int, bits: int, rows: int, stride: int) -> Array:
        """Undo it: (rows, count)."""
        return self._embedding.unpack_rows(payload, count, bits, rows, stride)

    def count_beyond(self, found: Array, values: Array, primes: Array, limbs: int) -> None:
        """Add to ``found`` how many of the values are not below their row's prime."""
        self._embedding.count_beyond(found, values, primes, limbs)

    def slots_to_coefficients(self, slots: Array, factor: float) -> Array:
        return self._embedding.slots_to_coefficients(slots, factor)

    def coefficients_to_slots(self, coefficients: Array, factor: float) -> Array:
        return self._embedding.coefficients_to_slots(coefficients, factor)
