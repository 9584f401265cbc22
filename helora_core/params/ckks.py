"""CKKS parameters: the ring and the chain of moduli, as data.

``data_bits[0]`` is the base prime, which no rescale removes; the others are dropped from the end, one per level.
``special_bits`` are the primes that only key switching uses; they count for security (log2 QP), not for precision.

Plans that run ahead of time add a *wrap limb*: the modulus is 2^64 times the data primes, and arithmetic modulo 2^64 is
that of machine words (``helora_core.backend.correlations``).
"""

from __future__ import annotations

import math
from enum import Enum

import msgspec

from helora_core.errors import InvalidParameters

MIN_RING_DEGREE = 1024
MAX_RING_DEGREE = 131072
MAX_PRIME_BITS = 60
WRAP_BITS = 64
"""Bits of a wrap limb: a machine word."""


class SecretDistribution(str, Enum):
    """How the secret key's coefficients are drawn. The security tables hold for the ternary one only."""

    TERNARY = "ternary"


class CKKSParams(msgspec.Struct, frozen=True, kw_only=True):
    """One CKKS parameter set.

    Attributes:
        ring_degree: N, a power of two from 1024 to 131072. There are N/2 slots.
        data_bits: Bit lengths of the data primes, base prime first. ``len(data_bits) - 1`` rescales are possible.
        special_bits: Bit lengths of the special primes for key switching.
        scale_bits: log2 of the scale at which values are encoded when a plan does not say otherwise.
        secret: Distribution of the secret key.
        data_primes: The primes a library really uses, filled in by ``Backend.resolve``; empty while only planned.
        special_primes: Likewise for the special primes.
        wrap_bits: Bits of the wrap limb, 64; 0 for none.

    Raises:
        InvalidParameters: A field is out of range, or primes and bit lengths disagree.
    """

    ring_degree: int
    data_bits: tuple[int, ...]
    special_bits: tuple[int, ...]
    scale_bits: int
    secret: SecretDistribution = SecretDistribution.TERNARY
    data_primes: tuple[int, ...] = ()
    special_primes: tuple[int, ...] = ()
    wrap_bits: int = 0

    def __post_init__(self) -> None:
        n = self.ring_degree
        if n & (n - 1) or not MIN_RING_DEGREE <= n <= MAX_RING_DEGREE:
            raise InvalidParameters(
                f"CKKSParams: ring degree {n} is not a power of two from {MIN_RING_DEGREE} to {MAX_RING_DEGREE}.",
                hint="Use 4096, 8192 or 16384, or leave the choice to choose_params.",
            )
        if self.wrap_bits not in (0, WRAP_BITS):
            raise InvalidParameters(
                f"CKKSParams: a wrap limb of {self.wrap_bits} bits; it is a machine word of {WRAP_BITS}, or none.",
                hint=f"Set wrap_bits to {WRAP_BITS} for plans that run ahead of time, and to 0 for others.",
            )
        if not self.data_bits:
            raise InvalidParameters(
                "CKKSParams: there is no data prime.", hint="Give one base prime and one prime per level."
            )
        for bits in (*self.data_bits, *self.special_bits):
            if not math.log2(2 * n) < bits <= MAX_PRIME_BITS:
                raise InvalidParameters(
                    f"CKKSParams: no prime of {bits} bits is 1 mod 2N for N={n} and fits a machine word.",
                    hint=f"Use primes of {int(math.log2(2 * n)) + 1} to {MAX_PRIME_BITS} bits.",
                )
        if not 0 < self.scale_bits < self.data_modulus_bits:
            raise InvalidParameters(
                f"CKKSParams: a scale of 2^{self.scale_bits} does not fit a data modulus of "
                f"{self.data_modulus_bits} bits.",
                hint="Lower scale_bits or add data primes.",
            )
        self._check_primes("data", self.data_bits, self.data_primes)
        self._check_primes("special", self.special_bits, self.special_primes)

    def _check_primes(self, kind: str, bits: tuple[int, ...], primes: tuple[int, ...]) -> None:
        if primes and tuple(p.bit_length() for p in primes) != bits:
            raise InvalidParameters(
                f"CKKSParams: the {kind} primes {primes} do not have the stated bit lengths {bits}.",
                hint="resolve() must state the bit lengths of the primes the library really uses.",
            )

    @property
    def slots(self) -> int:
        """How many complex values a ciphertext holds: N/2."""
        return self.ring_degree // 2

    @property
    def max_level(self) -> int:
        """Level of a fresh ciphertext: the number of rescales possible."""
        return len(self.data_bits) - 1

    @property
    def data_modulus_bits(self) -> int:
        """log2 of the data modulus Q of a fresh ciphertext, with the wrap limb, rounded up."""
        return self.wrap_bits + self._modulus_bits(self.data_bits, self.data_primes)

    @property
    def modulus_bits(self) -> int:
        """log2(QP), with special primes and wrap limb, rounded up: the figure that the security tables limit."""
        return self.wrap_bits + self._modulus_bits(
            self.data_bits + self.special_bits, self.data_primes + self.special_primes
        )

    @staticmethod
    def _modulus_bits(bits: tuple[int, ...], primes: tuple[int, ...]) -> int:
        return math.prod(primes).bit_length() if len(primes) == len(bits) else sum(bits)

    def modulus_bits_at(self, level: int) -> int:
        """log2 of the modulus of a ciphertext at ``level``: the bit lengths of primes and wrap limb added up."""
        return self.wrap_bits + sum(self.data_bits[: level + 1])

    @property
    def digested(self) -> msgspec.Raw:
        """The parameters as JSON, for digests: without a wrap limb they are as they were before there were any."""
        encoded = msgspec.json.encode(self, order="deterministic")
        return msgspec.Raw(encoded if self.wrap_bits else encoded.replace(b',"wrap_bits":0', b""))
