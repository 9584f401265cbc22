"""The protocol of plans that run ahead of time as a textbook has it: Python's integers, a small ring, real ciphertexts.

The ring is far too small to be secure. The sizes of everything else are those of the real protocol: t = 2^64, q = t·q₁,
errors, ternary keys, the bits of results. A polynomial is an array of Python's integers, shape (N,).
"""

from __future__ import annotations

import hashlib
import math
import secrets
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from helora_core.backend.correlations import Switching
from helora_core.backend.primes import distinct_ntt_primes

T = 1 << 64
DEGREE = 64
PRIMES = distinct_ntt_primes((42, 42), DEGREE)
Q1 = math.prod(PRIMES)
Q = T * Q1
TRIM = Switching(top_bits=24, key_bits=36)
EXACT = Switching(top_bits=64, key_bits=64, exact=True)
F = 64 - TRIM.top_bits
"""Bits of a result that are dropped in trim mode."""

Polynomial = Any
Rows = Any
"""Polynomials, shape (rows, N); or a matrix of Python's integers."""


class Refused(Exception):
    """A server does not do that."""


def drawn(*context: object) -> np.random.Generator:
    """What a PRF gives for a context, as a generator."""
    return np.random.default_rng(int.from_bytes(hashlib.sha256(repr(context).encode()).digest(), "little"))


def uniform(rng: np.random.Generator, bound: int = Q, count: int = DEGREE) -> Polynomial:
    """Uniform coefficients, to within 2^-64."""
    return np.array([int.from_bytes(rng.bytes(32), "little") % bound for _ in range(count)], dtype=object)


def ternary(rng: np.random.Generator) -> Polynomial:
    """A key, or the multiplier of an encryption under a public key."""
    return rng.integers(-1, 2, DEGREE).astype(object)


def errors(rng: np.random.Generator) -> Polynomial:
    """Ones among 21 bits less those among 21 others."""
    ones = rng.binomial(21, 0.5, (2, DEGREE))
    return (ones[0] - ones[1]).astype(object)


def times(left: Polynomial, right: Polynomial) -> Polynomial:
    """The product modulo x^N + 1 and q."""
    product = np.convolve(left, right)
    product = np.concatenate([product, np.zeros(2 * DEGREE - len(product), dtype=object)])
    return (product[:DEGREE] - product[DEGREE:]) % Q


def _times_small(left: Polynomial, key: Polynomial) -> Polynomial:
    """The product modulo x^N + 1, as integers."""
    return centred(times(left, key), Q)


def centred(numbers: Any, modulus: int = T) -> Any:
    """The residues closest to zero."""
    return (numbers + modulus // 2) % modulus - modulus // 2


class PublicKey(NamedTuple):
    """(b, a), b = −a·s + e. The uniform part a comes from nonces of both parties."""

    b: Polynomial
    a: Polynomial


class Upload(NamedTuple):
    """b = −a·s + q₁·r + e of each feature, and the seed of all a."""

    seed: bytes
    b: Rows

    @property
    def a(self) -> Rows:
        return np.array([uniform(drawn("a", self.seed, row)) for row in range(len(self.b))])

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.seed + repr(self.b.tolist()).encode()).hexdigest()


class Result(NamedTuple):
    """The top bits of H − mask and of G, shifted down, one row an output; and in exact mode the top of what is left."""

    h: Rows
    g: Rows
    left: tuple[Rows, Rows] | None = None


@dataclass
class Key:
    """A client's key pair."""

    s: Polynomial = field(default_factory=lambda: ternary(np.random.default_rng()))

    def public(self) -> PublicKey:
        a = uniform(drawn("nonces", secrets.token_bytes(32)))
        return PublicKey((errors(np.random.default_rng()) - times(a, self.s)) % Q, a)

    def encrypt(self, r: Rows, seed: bytes | None = None) -> Upload:
        """Ciphertexts of numbers modulo t. A seed that is given is for attacks: each upload has one of its own."""
        return self.encrypt_phases(Q1 * r, seed)

    def encrypt_phases(self, phases: Rows, seed: bytes | None = None) -> Upload:
        """The same of any numbers modulo q, which nobody keeps a client from sending."""
        blank = Upload(seed or secrets.token_bytes(32), phases)
        rows = zip(blank.a, phases, strict=True)
        b = [(phase + errors(np.random.default_rng()) - times(a, self.s)) % Q for a, phase in rows]
        return Upload(blank.seed, np.array(b))

    def decrypt(self, result: Result, how: Switching = TRIM) -> Rows:
        """c = ⌊(W·r − mask)/2^f⌋, give or take one; in exact mode, W·r − mask."""
        if result.left:
            rows = zip(result.h, result.g, *result.left, strict=True)
            parts = [(h + times(g, self.s), h_left + _times_small(g_left, self.s)) for h, g, h_left, g_left in rows]
            return np.array([(part + (2 * left + PRIMES[0]) // (2 * PRIMES[0])) % T for part, left in parts])
        lost = 64 - how.key_bits
        whole = [times((g << lost) + (1 << lost >> 1), self.s) for g in result.g]
        f = 64 - how.top_bits
        return (result.h + np.array([((row % T) + (1 << f >> 1)) >> f for row in whole])) % (1 << how.top_bits)


@dataclass(frozen=True)
class Rules:
    """The steps that protect. Each that is False is left out."""

    index_once: bool = True
    """A server answers one y for an index."""
    mask_by_upload: bool = True
    """The digest of the upload is in what masks are derived from."""
    mask_by_module: bool = True
    """So are module, expert and adapter."""
    zero_by_upload: bool = True
    """The digest of the upload is in what encryptions of zero are derived from."""
    re_randomised: bool = True
    """An encryption of zero is added to each result."""


ALL = Rules()


@dataclass
class Server:
    """Modules W = up·down, of integers, and a secret that all masks come from."""

    modules: list[tuple[Rows, Rows]]
    rules: Rules = ALL
    how: Switching = TRIM
    key: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    uploads: dict[int, str] = field(default_factory=dict)
    answered: dict[tuple[int, int, int], Any] = field(default_factory=dict)

    def results(self, batch: int, public: PublicKey, upload: Upload, module: int = 0) -> Result:
        """What leaves the server ahead of time."""
        self.uploads[batch] = upload.digest
        down, up = self.modules[module]
        c0, c1 = (up @ (down @ rows) % Q for rows in (upload.b, upload.a))
        if self.rules.re_randomised:
            zeros = [self.zero(batch, public, module, row) for row in range(len(up))]
            c0, c1 = ((c + np.array(zero)) % Q for c, zero in zip((c0, c1), zip(*zeros, strict=True), strict=True))
        if self.how.exact:
            c0 = np.array([(row + uniform(np.random.default_rng(), Q1 // 2) - Q1 // 4) % Q for row in c0])
        tokens = range(DEGREE)
        masks = np.array([[self.mask(batch, module, row, token) for token in tokens] for row in range(len(up))], object)
        h, g = (c0 // Q1 - masks) % T, c1 // Q1
        if self.how.exact:
            return Result(h, g, (c0 % Q1 // PRIMES[1], c1 % Q1 // PRIMES[1]))
        return Result(h >> 64 - self.how.top_bits, g >> 64 - self.how.key_bits)

    def zero(self, batch: int, public: PublicKey, module: int, row: int) -> tuple[Polynomial, Polynomial]:
        """A fresh encryption of zero: (b·u + e₀, a·u + e₁)."""
        rng = self.zeros_of(batch, module, row)
        u, e0, e1 = ternary(rng), errors(rng), errors(rng)
        return (times(public.b, u) + e0) % Q, (times(public.a, u) + e1) % Q

    def zeros_of(self, batch: int, module: int, row: int) -> np.random.Generator:
        """The randomness of a result."""
        return drawn(self.key, "zero", batch, module, row, self.uploads[batch] if self.rules.zero_by_upload else None)

    def mask(self, batch: int, module: int, row: int, token: int) -> int:
        """A uniform number modulo t."""
        upload = self.uploads[batch] if self.rules.mask_by_upload else None
        context = (batch, upload, module if self.rules.mask_by_module else None, row, token)
        return int.from_bytes(drawn(self.key, "mask", *context).bytes(8), "little")

    def answer(self, batch: int, token: int, y: Any, module: int = 0) -> Any:
        """v, the top bits of W·y + mask."""
        if self.rules.index_once and list(self.answered.setdefault((batch, token, module), y)) != list(y):
            raise Refused(f"index {token} of batch {batch} was used with another y")
        down, up = self.modules[module]
        masks = np.array([self.mask(batch, module, row, token) for row in range(len(up))], object)
        return ((up @ (down @ y) + masks) % T) >> 64 - self.how.top_bits


def delta(v: Any, c: Any, how: Switching = TRIM) -> Any:
    """W·x to within 2^f, from an answer and its correlation."""
    return centred(v + c + 1, 1 << how.top_bits) << 64 - how.top_bits


def weights(rng: np.random.Generator, d_out: int, d_in: int, rank: int = 2, bits: int = 8) -> tuple[Rows, Rows]:
    """``down`` and ``up`` of integers below 2^bits in size."""
    bound = (1 << bits) - 1
    down, up = (rng.integers(-bound, bound + 1, shape).astype(object) for shape in ((rank, d_in), (d_out, rank)))
    return down, up


def whole(module: tuple[Rows, Rows]) -> Rows:
    """W = up·down."""
    down, up = module
    return up @ down


def columns_in_tokens(d_in: int, scale: int) -> Rows:
    """Numbers to encrypt, shape (d_in, N): token j has ``scale`` at feature j, and tokens from d_in on have nothing."""
    r = np.zeros((d_in, DEGREE), dtype=object)
    r[np.arange(d_in), np.arange(d_in)] = scale
    return r
