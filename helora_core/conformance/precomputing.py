"""A backend that runs plans ahead of time, under test: a client's batch, a server's sums, and what bytes look like."""

from __future__ import annotations

import math
import secrets
from typing import cast

import numpy as np
from numpy.typing import NDArray

from helora_core.backend.correlations import (
    NONCE_BYTES,
    SEED_BYTES,
    WRAP_BITS,
    BatchSums,
    Integers,
    SupportsCorrelations,
    Switching,
    Words,
)
from helora_core.conformance.bench import Bench
from helora_core.params.ckks import CKKSParams

SMALL = CKKSParams(ring_degree=4096, data_bits=(41,), special_bits=(), scale_bits=20, wrap_bits=WRAP_BITS)
LARGE = CKKSParams(ring_degree=8192, data_bits=(42, 42), special_bits=(), scale_bits=20, wrap_bits=WRAP_BITS)
"""The two chains that plans have, at 128 bits of security and beyond."""

TRIM = Switching(top_bits=24, key_bits=40)
EXACT = Switching(top_bits=WRAP_BITS, key_bits=WRAP_BITS, exact=True)

D_IN, RANK, D_OUT = 6, 3, 4

HEADER_BYTES = 128
"""Bytes that a message may have beyond its numbers' bits."""

_BLOCK = 256
"""Bytes whose bits are counted together."""

_RANDOM = np.random.default_rng(1717)


def words(*shape: int) -> Words:
    """Uniform numbers modulo 2^64."""
    return _RANDOM.integers(0, 1 << WRAP_BITS, shape, dtype=np.uint64)


def integers(bits: int, *shape: int) -> Integers:
    """Integers below 2^bits in size."""
    return _RANDOM.integers(-(1 << bits) + 1, 1 << bits, shape)


def seed() -> bytes:
    """For one call of ``results``."""
    return secrets.token_bytes(SEED_BYTES)


class Batch:
    """A client's key of one batch."""

    def __init__(self, bench: Bench, params: CKKSParams = SMALL, nonces: bytes | None = None) -> None:
        self.library = cast(SupportsCorrelations, bench.library)
        self.params = bench.backend.resolve(params)
        self.nonces = nonces or secrets.token_bytes(2 * NONCE_BYTES)
        self.key = self.library.batch_key(self.params, self.nonces)

    @property
    def places(self) -> int:
        """Numbers in a polynomial."""
        return self.params.ring_degree

    def sums(self, rows: int = RANK) -> BatchSums:
        """The server's sums, all zero."""
        return self.library.batch_sums(self.params, self.key.public_key, self.nonces, rows)

    def masked(self, down: Integers, up: Integers, how: Switching) -> tuple[Words, Words]:
        """c of one batch of uniform numbers, and W·m − mask modulo 2^64."""
        numbers, masks = words(down.shape[1], self.places), words(len(up), self.places)
        sums = self.sums(len(down))
        sums.add(self.key.encrypt(numbers), down)
        found = self.key.decrypt(sums.results(up, masks, seed(), how), len(up), how)
        return found, product(up, product(down, numbers)) - masks


def product(matrix: Integers, numbers: Words) -> Words:
    """Modulo 2^64."""
    return matrix.astype(np.uint64) @ numbers


def off(found: Words, expected: Words, how: Switching) -> NDArray[np.float64]:
    """By how much results are off, in their units: found − expected/2^f, modulo 2^top_bits."""
    f = WRAP_BITS - how.top_bits
    errors: NDArray[np.float64] = ((found << np.uint64(f)) - expected).astype(np.int64) / 2.0**f
    return errors


def unequal(first: bytes, second: bytes) -> tuple[float, float]:
    """The least and the largest share of bits that differ, over stretches of 256 bytes after the header."""
    left, right = (np.frombuffer(each, dtype=np.uint8, offset=HEADER_BYTES) for each in (first, second))
    blocks = left.size // _BLOCK
    bits = np.unpackbits((left ^ right)[: blocks * _BLOCK]).reshape(blocks, -1)
    shares = bits.mean(axis=1)
    return float(shares.min()), float(shares.max())


def assert_unrelated(first: bytes, second: bytes) -> None:
    """Assert that every stretch differs in about half of its bits."""
    assert len(first) == len(second)
    least, largest = unequal(first, second)
    bound = 7 * 0.5 / math.sqrt(8 * _BLOCK)
    assert 0.5 - bound < least, f"some stretch of bytes differs in only {least:.2f} of its bits"
    assert largest < 0.5 + bound, f"some stretch of bytes differs in {largest:.2f} of its bits"


def assert_no_echo(message: bytes) -> None:
    """Assert that no part of a message is like another part: the top bits of its bytes do not correlate, at any lag."""
    signs = 2.0 * (np.frombuffer(message, dtype=np.uint8) >> 7) - 1
    spectrum = np.fft.rfft(signs, 1 << (2 * signs.size).bit_length())
    echoes = np.abs(np.fft.irfft(np.abs(spectrum) ** 2)[1 : signs.size]) / signs.size
    bound = 8 / math.sqrt(signs.size)
    lag = int(np.argmax(echoes)) + 1
    assert echoes[lag - 1] < bound, f"bytes correlate by {echoes[lag - 1]:.2f} with those {lag} later"


def assert_uniform(message: bytes) -> None:
    """Assert that all bytes are equally likely (chi-square)."""
    counts = np.bincount(np.frombuffer(message, dtype=np.uint8), minlength=256)
    expected = len(message) / 256
    statistic = float(np.sum((counts - expected) ** 2) / expected)
    assert statistic < 255 + 7 * math.sqrt(2 * 255), f"bytes are not equally likely: chi-square {statistic:.0f} for 255"
