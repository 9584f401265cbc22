"""The compiled kernels, by ctypes: ``native/helora_rns.h`` is their interface."""

from __future__ import annotations

import ctypes
import functools
import itertools
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from helora_rns import embedding, primes
from helora_rns.arrays import address, aligned_copy, doubles, residues
from helora_rns.host import OnHost
from helora_rns.kernels import Basis, Doubles, Index
from helora_rns.modular import Residues
from helora_rns.signatures import RETURNING, SIGNATURES

SETS = ("scalar", "avx2", "avx512ifma")
"""By their numbers in the C interface, the fastest last."""

ABI = 5


def library_path() -> Path:
    """Where the build puts the library."""
    file = {"win32": "helora_rns.dll", "darwin": "libhelora_rns.dylib"}.get(sys.platform, "libhelora_rns.so")
    return Path(__file__).parent / "_library" / file


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled kernels, or None if there are none or they are of another version."""
    try:
        loaded = ctypes.CDLL(str(library_path()))
        if loaded.hr_abi() != ABI:
            return None
    except (OSError, AttributeError):
        return None
    for name, arguments in SIGNATURES.items():
        getattr(loaded, name).argtypes, getattr(loaded, name).restype = arguments, None
    for name, (result, arguments) in RETURNING.items():
        getattr(loaded, name).argtypes, getattr(loaded, name).restype = arguments, result
    return loaded


def supported() -> tuple[str, ...]:
    """The compiled sets that this CPU runs, the slowest first."""
    loaded = library()
    found = loaded.hr_supported() if loaded else 0
    return tuple(name for i, name in enumerate(SETS) if found >> i & 1)


class CompiledKernels(OnHost):
    """``helora_rns.kernels.Kernels`` by one of the compiled sets."""

    def __init__(self, name: str, ring_degree: int, ring_primes: tuple[int, ...]) -> None:
        loaded = library()
        if loaded is None or name not in supported():
            raise ValueError(f"no compiled kernels {name} here")
        self.name = name
        self.ring_degree = ring_degree
        self.primes = ring_primes
        self._c = loaded
        self._isa = SETS.index(name)
        size = loaded.hr_ring_bytes(ring_degree, len(ring_primes), self._isa)
        self._memory = residues((size // 8,))
        powers = np.stack([primes.root_powers(ring_degree, prime) for prime in ring_primes])
        moduli = np.array(ring_primes, dtype=np.uint64)
        self._ring = address(self._memory)
        loaded.hr_ring_make(self._ring, ring_degree, len(ring_primes), address(moduli), address(powers), self._isa)
        self._bases: dict[Basis, NDArray[np.uint32]] = {}
        self._shifts: dict[tuple[tuple[int, ...], Basis], Residues] = {}
        self._embedding = embedding.powers(ring_degree), embedding.slot_places(ring_degree)
        self._powers, self._places = (address(table) for table in self._embedding)
        self._local = threading.local()

    @property
    def handle(self) -> tuple[ctypes.CDLL, int]:
        """The library and the ring's address, for calls that are not here."""
        return self._c, self._ring

    def _scratch(self) -> int:
        """Rows of this thread's own, as many as any call wants."""
        rows = getattr(self._local, "rows", None)
        if rows is None:
            rows = self._local.rows = residues((2 + len(self.primes), self.ring_degree))
        return address(rows)

    def _basis(self, basis: Basis) -> int:
        array = self._bases.get(basis)
        if array is None:
            array = self._bases.setdefault(basis, np.array(basis, dtype=np.uint32))
        return address(array)

    def _count(self, a: Residues, basis: Basis) -> int:
        return a.size // (self.ring_degree * len(basis))

    def forward(self, x: Residues, basis: Basis) -> None:
        self._c.hr_forward(self._ring, self._basis(basis), len(basis), self._count(x, basis), address(x))

    def inverse(self, x: Residues, basis: Basis) -> None:
        self._c.hr_inverse(self._ring, self._basis(basis), len(basis), self._count(x, basis), address(x))

    def add(self, a: Residues, b: Residues, basis: Basis, out: Residues | None = None) -> Residues:
        out = residues(a.shape) if out is None else out
        count = self._count(a, basis)
        self._c.hr_add(self._ring, self._basis(basis), len(basis), count, address(out), address(a), address(b))
        return out

    def sub(self, a: Residues, b: Residues, basis: Basis, out: Residues | None = None) -> Residues:
        out = residues(a.shape) if out is None else out
        count = self._count(a, basis)
        self._c.hr_sub(self._ring, self._basis(basis), len(basis), count, address(out), address(a), address(b))
        return out

    def negate(self, a: Residues, basis: Basis, out: Residues | None = None) -> Residues:
        out = residues(a.shape) if out is None else out
        self._c.hr_negate(self._ring, self._basis(basis), len(basis), self._count(a, basis), address(out), address(a))
        return out

    def multiply(self, a: Residues, b: Residues, basis: Basis, out: Residues | None = None) -> Residues:
        out = residues(a.shape) if out is None else out
        counts = self._count(a, basis), self._count(b, basis)
        self._c.hr_multiply(self._ring, self._basis(basis), len(basis), *counts, address(out), address(a), address(b))
        return out

    def multiply_add(
        self, a: Residues, b: Residues, c: Residues, basis: Basis, out: Residues | None = None
    ) -> Residues:
        out = residues(a.shape) if out is None else out
        counts = self._count(a, basis), self._count(b, basis)
        self._c.hr_multiply_add(
            self._ring, self._basis(basis), len(basis), *counts, address(out), address(a), address(b), address(c)
        )
        return out

    def times(self, a: Residues, constants: Sequence[int], basis: Basis, out: Residues | None = None) -> Residues:
        out = residues(a.shape) if out is None else out
        factors = np.array(constants, dtype=np.uint64)
        count = self._count(a, basis)
        self._c.hr_times(self._ring, self._basis(basis), len(basis), count, address(out), address(a), address(factors))
        return out

    def dot(self, a: Sequence[Residues], b: Sequence[Residues], basis: Basis) -> Residues:
        out = residues(a[0].shape)
        left, right = (np.array([address(each) for each in many], dtype=np.uint64) for many in (a, b))
        count = self._count(out, basis)
        self._c.hr_dot(
            self._ring, self._basis(basis), len(basis), count, address(out), address(left), address(right), len(a)
        )
        return out

    def gemm(
        self,
        weights: Sequence[NDArray[np.int64]],
        a: Sequence[Residues],
        basis: Basis,
        out: Sequence[Residues] | None = None,
        *,
        add: bool = False,
    ) -> list[Residues]:
        rows, terms = weights[0].shape
        results = [residues(a[0].shape) for _ in range(rows)] if out is None else list(out)
        scratch = residues((self._c.hr_gemm_words(rows, terms),))
        pointers = [np.array([address(each) for each in many], dtype=np.uint64) for many in (results, a, weights)]
        self._c.hr_gemm(
            self._ring, self._basis(basis), len(basis), self._count(results[0], basis), *map(address, pointers),
            rows, terms, add, address(scratch),
        )  # fmt: skip
        return results

    def permute(self, a: Residues, index: Index) -> Residues:
        out = residues(a.shape)
        self._c.hr_permute(self._ring, a.size // self.ring_degree, address(out), address(a), address(index))
        return out

    def of_doubles(self, values: Doubles, basis: Basis) -> Residues:
        out = residues((len(basis), self.ring_degree))
        self._c.hr_of_doubles(self._ring, self._basis(basis), len(basis), address(out), address(values))
        return out

    def values_of_doubles(self, values: Doubles, basis: Basis) -> Residues:
        out = residues((len(basis), self.ring_degree))
        self._c.hr_values_of_doubles(self._ring, self._basis(basis), len(basis), address(out), address(values))
        return out

    def to_doubles(self, a: Residues, basis: Basis) -> Doubles:
        out, digits = doubles((self.ring_degree,)), aligned_copy(a)
        self._c.hr_to_doubles(
            self._ring, self._basis(basis), len(basis), address(out), address(digits), self._scratch()
        )
        return out

    def mod_down(self, a: Residues, basis: Basis, dropped: int) -> Residues:
        kept, count = len(basis) - dropped, self._count(a, basis)
        out = residues((count, kept, self.ring_degree))
        self._c.hr_mod_down(
            self._ring, self._basis(basis), kept, dropped, count, address(out), address(a), self._scratch()
        )
        return out

    def decompose(self, a: Residues, basis: Basis, special: int) -> Residues:
        limbs = len(basis) - special
        out = residues((limbs, len(basis), self.ring_degree))
        self._c.hr_decompose(self._ring, self._basis(basis), limbs, special, address(out), address(a), self._scratch())
        return out

    def rotated(
        self, digits: Residues, key: Residues, added: Residues, indices: tuple[Index, Index], basis: Basis
    ) -> Residues:
        limbs, key_digits = len(digits), key.shape[2]
        out = residues((2, len(basis), self.ring_degree))
        sizes = limbs, len(basis) - limbs, key_digits
        arrays = [address(each) for each in (out, digits, key, added)] + [address(each) for each in indices]
        self._c.hr_rotate(self._ring, self._basis(basis), *sizes, *arrays)
        return out

    def run(self, program: int, tables: NDArray[np.uint64], team: int | None = None) -> None:
        """Run the program at this address, a ``HrProgram``, with a table of buffers for each run: (runs, slots).

        ``team``: A ``HrTeam``, if other threads make the same call.
        """
        self._c.hr_run(self._ring, program, len(tables), address(tables), self._scratch(), team)

    def uniform(self, prime: int, words: Residues, out: Residues) -> tuple[int, int]:
        used = ctypes.c_uint64()
        found = self._c.hr_uniform(
            self._ring, prime, address(out), out.size, address(words), words.size, ctypes.addressof(used)
        )
        return found, used.value

    def binomial(self, words: Residues) -> Doubles:
        out = doubles(words.shape)
        self._c.hr_binomial(self._ring, address(out), address(words), words.size)
        return out

    def normal(self, words: Residues) -> Doubles:
        out = doubles(words.shape)
        self._c.hr_normal(self._ring, address(out), address(words), words.size)
        return out

    def random_bits(self, words: Residues, bits: int) -> Doubles:
        out = doubles(words.shape)
        self._c.hr_random_bits(address(out), address(words), words.size, bits)
        return out

    def ternary(self, words: Residues, out: Doubles) -> int:
        return int(self._c.hr_ternary(address(out), out.size, address(words), words.size))

    def of_parts(self, parts: Sequence[Doubles], shifts: Sequence[int], basis: Basis) -> Residues:
        out = residues((len(basis), self.ring_degree))
        factors = self._factors(tuple(shifts), basis)
        pointers = np.array([address(part) for part in parts], dtype=np.uint64)
        self._c.hr_of_parts(
            self._ring, self._basis(basis), len(basis), address(out), address(pointers), address(factors), len(parts)
        )
        return out

    def _factors(self, shifts: tuple[int, ...], basis: Basis) -> Residues:
        """By how much each part, but the last, is shifted against the next, modulo each prime."""
        found = self._shifts.get((shifts, basis))
        if found is None:
            steps = [high - low for high, low in itertools.pairwise(shifts)]
            rows = [[pow(2, step, self.primes[i]) for i in basis] for step in steps] or [[0]]
            found = self._shifts.setdefault((shifts, basis), np.array(rows, dtype=np.uint64))
        return found

    def pack(self, a: Residues, bits: int) -> bytes:
        out = np.empty((a.size * bits + 7) // 8, dtype=np.uint8)
        self.pack_into(out, a, bits)
        return out.tobytes()

    def pack_into(self, out: NDArray[np.uint8], a: Residues, bits: int) -> None:
        self._c.hr_pack(address(out), address(a), a.size, bits)

    def unpack(self, payload: bytes | memoryview, count: int, bits: int, out: Residues | None = None) -> Residues:
        out = residues((count,)) if out is None else out
        packed = payload if isinstance(payload, bytes) else address(np.frombuffer(payload, dtype=np.uint8))
        self._c.hr_unpack(address(out), packed, count, bits)
        return out

    def slots_to_coefficients(self, slots: NDArray[np.generic], factor: float) -> Doubles:
        out, parts = doubles((self.ring_degree,)), 2 if np.iscomplexobj(slots) else 1
        self._c.hr_slots_to_coefficients(
            self._ring, address(out), address(slots), slots.size, parts, self._places, self._powers, factor
        )
        return out

    def coefficients_to_slots(self, coefficients: Doubles, factor: float) -> NDArray[np.complex128]:
        out = np.empty(self.ring_degree // 2, dtype=np.complex128)
        self._c.hr_coefficients_to_slots(
            self._ring, address(out), address(coefficients), self._places, self._powers, factor
        )
        return out
