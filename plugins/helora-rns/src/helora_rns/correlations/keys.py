"""The client's side of a batch: its key pair, encryption, and decryption of results."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from helora_core.backend.correlations import Switching
from helora_core.errors import InvalidParameters
from helora_rns import modular
from helora_rns.arrays import aligned_copy, private, residues
from helora_rns.correlations import streams, wire
from helora_rns.correlations.choice import word_kernels
from helora_rns.correlations.kernels import Words
from helora_rns.correlations.ring import WRAP, WRAP_BITS, WordRing
from helora_rns.correlations.streams import Purpose
from helora_rns.modular import Residues


def check_exact(ring: WordRing, how: Switching) -> None:
    """Refuse exact mode where one prime is all there is: nothing is left to round by.

    Raises:
        InvalidParameters: That.
    """
    if how.exact and len(ring.limbs) != 2:
        raise InvalidParameters(
            "helora-rns: exact results need two data primes beside the wrap limb.",
            hint="Use N=8192 with two primes of 42 bits, or results that are trimmed.",
        )


class RNSBatchKey:
    """``helora_core.backend.correlations.BatchKey``. The secret is kept as values, and cleared when it is erased."""

    def __init__(self, ring: WordRing, nonces: bytes) -> None:
        self._ring, self._words = ring, word_kernels(ring)
        n, kernels = ring.ring_degree, ring.kernels
        secret = streams.ternary_of(ring.context, streams.Stream(streams.fresh_seed()))
        values = kernels.values_of_doubles(secret, ring.context.whole)
        self._minus: Residues | None = private(kernels.negate(values, ring.context.whole))
        secret.fill(0.0)
        values.fill(0)
        a = residues((n,)), residues((len(ring.limbs), n))
        streams.uniform(ring, streams.nonces_seed(nonces), 0, *a)
        nothing = residues((n,))
        nothing.fill(0)
        error = streams.errors(ring, streams.Stream(streams.fresh_seed()), 1)[0]
        self._public_key = wire.write_key(ring, self._words.encrypted(a, error, nothing, self._minus))
        error.fill(0.0)
        # What the middle of the bits that a result's second polynomial lacks comes to: (1 + x + … + x^(N−1))·s.
        ones = np.ones_like(nothing)
        self._ones = private(self._words.short_times_secret(ones, self._minus))

    def __repr__(self) -> str:
        return "RNSBatchKey()"

    @property
    def public_key(self) -> bytes:
        return self._public_key

    def _secret(self) -> Residues:
        if self._minus is None:
            raise ValueError("this batch's secret key was erased")
        return self._minus

    def erase(self) -> None:
        if self._minus is not None:
            self._minus.fill(0)
            self._ones.fill(0)
            self._minus = None

    def encrypt(self, numbers: Words) -> bytes:
        minus, seed, hidden = self._secret(), streams.fresh_seed(), streams.fresh_seed()
        ring, n = self._ring, self._ring.ring_degree

        def polynomials() -> Iterator[tuple[Words, Residues]]:
            a = residues((n,)), residues((len(ring.limbs), n))
            for row, message in enumerate(numbers):
                streams.uniform(ring, seed, row, *a)
                error = streams.errors(ring, streams.row_stream(hidden, Purpose.ERRORS, row), 1)[0]
                yield self._words.encrypted(a, error, np.ascontiguousarray(message), minus)
                error.fill(0.0)

        return wire.write_upload(ring, seed, polynomials())

    def decrypt(self, payload: bytes, count: int, how: Switching) -> Words:
        check_exact(self._ring, how)
        minus, out = self._secret(), np.empty((count, self._ring.ring_degree), dtype=np.uint64)
        for row, (words, rest) in zip(out, wire.read_results(self._ring, payload, count, how), strict=True):
            row[...] = self._trimmed(words, minus, how) if rest is None else self._exact(words, rest, minus)
        return out

    def _trimmed(self, words: Words, minus: Residues, how: Switching) -> Words:
        """h·2^f plus the second polynomial times s, rounded to the bits of h."""
        lost, missing = np.uint64(WRAP_BITS - how.top_bits), np.uint64(WRAP_BITS - how.key_bits)
        # Integers of least size modulo 2^key_bits.
        second = ((words[1] << missing).view(np.int64) >> missing.view(np.int64)).view(np.uint64)
        limit = self._ring.primes[self._ring.auxiliary[0]] // 2
        is_short = self._ring.ring_degree << how.key_bits - 1 <= limit
        times = self._words.short_times_secret if is_short else self._words.times_secret
        product = times(second, minus) << missing
        if missing:
            product += self._ones << missing - np.uint64(1)
        if lost:
            product += np.uint64(1) << lost - np.uint64(1)
        product += words[0] << lost
        product >>= lost
        return product

    def _exact(self, words: Words, rest: Residues, minus: Residues) -> Words:
        """Of both polynomials modulo 2^64·p, p the first prime: the phase over p, rounded to the nearest."""
        kernels, first = self._ring.kernels, self._ring.limbs[:1]
        prime = np.array(self._ring.primes[0], dtype=np.uint64)
        second = aligned_copy(rest[1:])
        kernels.forward(second, first)
        kernels.multiply(second, minus[:1], first, out=second)
        kernels.inverse(second, first)
        remainder = modular.centred(modular.sub(rest[0], second[0], prime), prime).view(np.uint64)
        phase = words[0] + self._words.times_secret(words[1], minus)
        rounded: Words = (phase - remainder) * np.uint64(pow(int(prime), -1, WRAP))
        return rounded
