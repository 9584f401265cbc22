"""The client's side of a batch: its key pair, encryption, and decryption of results."""

from __future__ import annotations

import numpy as np

from helora_core.backend.correlations import Switching
from helora_core.errors import InvalidParameters
from helora_rns import modular
from helora_rns.arrays import aligned_copy, private, residues
from helora_rns.correlations import streams, wire
from helora_rns.correlations.choice import word_kernels
from helora_rns.correlations.kernels import Results, Secret, Words
from helora_rns.correlations.ring import WRAP, WRAP_BITS, WordRing
from helora_rns.correlations.streams import Purpose
from helora_rns.modular import Residues
from helora_rns.scheme.sampling import Stream


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
        secret = streams.ternary_of(ring.context, Stream(streams.fresh_seed()))
        values = kernels.values_of_doubles(secret, ring.context.whole)
        own = Secret(private(kernels.negate(values, ring.context.whole)), int(np.count_nonzero(secret)))
        self._own: Secret | None = own
        secret.fill(0.0)
        values.fill(0)
        a = residues((n,)), residues((len(ring.limbs), n))
        streams.uniform(ring, streams.row_stream(streams.nonces_seed(nonces), Purpose.UNIFORM, 0), *a)
        nothing = residues((n,))
        nothing.fill(0)
        random = Stream(streams.fresh_seed()).words(n)
        key = wire.KeyWriter(ring, nonces)
        self._words.encrypted(a, random, nothing, own, key.part(0, key.size))
        self._public_key = key.payload()
        random.fill(0)
        # (1 + x + … + x^(N−1))·s: what half a unit of each number comes to.
        ones = memoryview(np.repeat(np.array([0, 1], dtype="<u8"), n).tobytes())
        whole = Results(ones, 1, len(ones))
        self._ones = private(self._words.opened(whole, own, nothing, WRAP_BITS, WRAP_BITS)[0])
        self._words.forget()

    def __repr__(self) -> str:
        return "RNSBatchKey()"

    @property
    def public_key(self) -> bytes:
        return self._public_key

    def _secret(self) -> Secret:
        if self._own is None:
            raise ValueError("this batch's secret key was erased")
        return self._own

    def erase(self) -> None:
        if self._own is not None:
            self._own.minus.fill(0)
            self._ones.fill(0)
            self._own = None

    def encrypt(self, numbers: Words) -> bytes:
        secret, seed, ring = self._secret(), streams.fresh_seed(), self._ring
        public = streams.RowStreams(seed, Purpose.UNIFORM)
        hidden = streams.RowStreams(streams.fresh_seed(), Purpose.ERRORS)
        a = residues((ring.ring_degree,)), residues((len(ring.limbs), ring.ring_degree))
        upload = wire.UploadWriter(ring, seed, len(numbers))
        try:
            for row, message in enumerate(np.ascontiguousarray(numbers)):
                streams.uniform(ring, public.next(), *a)
                random = hidden.next().words(ring.ring_degree)
                self._words.encrypted(a, random, message, secret, upload.part(row, upload.size))
                random.fill(0)
        finally:
            self._words.forget()
        return upload.payload()

    def decrypt(self, payload: bytes, count: int, how: Switching) -> Words:
        check_exact(self._ring, how)
        secret, results = self._secret(), wire.read_results(self._ring, payload, count, how)
        middle = np.zeros_like(self._ones)
        if how.key_bits < WRAP_BITS:  # of the bits that a result's second polynomial lacks, times s
            np.left_shift(self._ones, np.uint64(WRAP_BITS - how.key_bits - 1), out=middle)
        try:
            out = self._words.opened(results, secret, middle, how.top_bits, how.key_bits)
            if how.exact:
                for row, phase in enumerate(out):
                    self._round(phase, wire.rest_of(self._ring, results, row), secret.minus)
        finally:
            middle.fill(0)
            self._words.forget()
        return out

    def _round(self, phase: Words, rest: Residues, minus: Residues) -> None:
        """Divide a phase modulo 2^64·p, p the first prime, by p, and round to the nearest.

        Args:
            phase: Modulo 2^64, (N,); overwritten by the result.
            rest: Both polynomials modulo p, (2, N).
            minus: −s as values.
        """
        kernels, first = self._ring.kernels, self._ring.limbs[:1]
        prime = np.array(self._ring.primes[0], dtype=np.uint64)
        second = aligned_copy(rest[1:])
        kernels.forward(second, first)
        kernels.multiply(second, minus[:1], first, out=second)
        kernels.inverse(second, first)
        phase -= modular.centred(modular.sub(rest[0], second[0], prime), prime).view(np.uint64)
        second.fill(0)
        phase *= np.uint64(pow(int(prime), -1, WRAP))
