"""The ring of a scheme: its primes, the bases of its levels, and constants modulo them. It has no key."""

from __future__ import annotations

import functools
import hashlib
import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from helora_rns import choice
from helora_rns.kernels import Array, Basis, Doubles, Index, Kernels, copied
from helora_rns.modular import Residues
from helora_rns.primes import automorphism

MakeKernels: TypeAlias = Callable[[int, tuple[int, ...]], Kernels]
"""Kernels for a ring degree and its primes."""

DIGEST_BYTES = 16


@dataclass(frozen=True)
class Parameters:
    """What ciphertexts and keys depend on.

    Attributes:
        ring_degree: N.
        data_primes: The base prime, which no rescale removes, and one prime a level.
        special_primes: Those that key switches divide by; empty where no key is ever switched.
    """

    ring_degree: int
    data_primes: tuple[int, ...]
    special_primes: tuple[int, ...] = ()

    @property
    def digest(self) -> bytes:
        """16 bytes that differ for other parameters; serialised forms carry them."""
        primes = self.data_primes + self.special_primes
        counts = struct.pack("<III", self.ring_degree, len(self.data_primes), len(self.special_primes))
        return hashlib.sha256(counts + struct.pack(f"<{len(primes)}Q", *primes)).digest()[:DIGEST_BYTES]


class Context:
    """Parameters with the kernels of their ring. Levels count rescales that are left: level 0 has the base prime.

    Args:
        parameters: The parameters.
        kernels: What makes the kernels, and so decides where all arrays live.
    """

    def __init__(self, parameters: Parameters, kernels: MakeKernels = choice.kernels) -> None:
        self.parameters = parameters
        self.ring_degree = parameters.ring_degree
        self.data_primes = parameters.data_primes
        self.primes = parameters.data_primes + parameters.special_primes
        self.specials = len(parameters.special_primes)
        self.max_level = len(self.data_primes) - 1
        self.digest = parameters.digest
        self.kernels: Kernels = kernels(self.ring_degree, self.primes)
        special_basis = tuple(range(len(self.data_primes), len(self.primes)))
        self.whole: Basis = tuple(range(len(self.primes)))
        self._bases: tuple[Basis, ...] = tuple(tuple(range(i + 1)) for i in range(self.max_level + 1))
        self._extended: tuple[Basis, ...] = tuple(basis + special_basis for basis in self._bases)
        self._indices: dict[int, Index] = {}
        self.special_product = math.prod(parameters.special_primes)

    def basis(self, level: int) -> Basis:
        """The primes of ciphertexts at a level."""
        return self._bases[level]

    def extended(self, level: int) -> Basis:
        """The same and the special primes behind them."""
        return self._extended[level]

    def index(self, element: int) -> Index:
        """How the automorphism x to x^element permutes values, for ``Kernels.permute``."""
        found = self._indices.get(element)
        if found is None:
            there = self.kernels.to_device(automorphism(self.ring_degree, element))
            self.kernels.finish()
            found = self._indices.setdefault(element, there)
        return found

    def residues(self, shape: tuple[int, ...]) -> Residues:
        """Rows of residues where the kernels compute, not set."""
        return self.kernels.empty(shape)

    def doubles(self, shape: tuple[int, ...]) -> Doubles:
        """Doubles there, not set."""
        return self.kernels.empty(shape, np.float64)

    def copied(self, array: Array) -> Array:
        """A copy, in one piece, of an array that is there."""
        return copied(self.kernels, array)


@functools.lru_cache(maxsize=64)
def context(parameters: Parameters, kernels: MakeKernels = choice.kernels) -> Context:
    """The context of parameters: one for all that ask, since it has tables of every prime."""
    return Context(parameters, kernels)
