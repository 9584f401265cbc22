"""What travels: public keys, uploads and results, each a header (``scheme.fields``) and numbers packed to their bits.

========  ==================================================================================================
key       a digest of the nonces (32 bytes); b: words, then residues of each prime
upload    the seed of all a (32 bytes); of each ciphertext b, as of a key
results   bits of the first polynomial, of the second, and 1 if exact (a byte each); of each result the first
          polynomial and the second, in so many bits; if exact, then both modulo the first prime
========  ==================================================================================================

Lengths are checked before anything is read, and every residue against its prime.
"""

from __future__ import annotations

import io
from collections.abc import Iterable

import numpy as np

from helora_core.backend.correlations import Switching
from helora_core.errors import CorruptPayload
from helora_rns.arrays import residues
from helora_rns.correlations.kernels import Bytes, Results, Words, packed_bytes
from helora_rns.correlations.ring import WORD_BYTES, WordRing
from helora_rns.correlations.streams import SEED_BYTES, nonces_digest
from helora_rns.modular import Residues
from helora_rns.scheme.fields import HEADER_BYTES, Kind, check_header, corrupt, header


def polynomial_bytes(ring: WordRing) -> int:
    """Bytes of one polynomial modulo q."""
    return WORD_BYTES * ring.ring_degree + sum(
        packed_bytes(ring.ring_degree, ring.primes[i].bit_length()) for i in ring.limbs
    )


class _Writer:
    """A payload of a size that is known, filled in place: what a caller gets is not copied once more."""

    def __init__(self, ring: WordRing, kind: Kind, told: bytes, size: int) -> None:
        self.ring, self._file = ring, io.BytesIO()
        self._file.write(header(kind, ring.context) + told)
        self.start = self._file.tell()
        self._file.seek(self.start + size - 1)
        self._file.write(b"\0")
        self._view: memoryview | None = self._file.getbuffer()
        self._bytes = np.frombuffer(self._view, dtype=np.uint8)

    def part(self, row: int, size: int) -> Bytes:
        """Where a row of so many bytes is to be written."""
        start = self.start + row * size
        return self._bytes[start : start + size]

    def payload(self) -> bytes:
        """All of it; nothing is written from then on."""
        del self._bytes
        self._view = None
        return self._file.getvalue()


def _body(ring: WordRing, kind: Kind, payload: bytes, size: int) -> memoryview:
    check_header(kind, ring.context, payload)
    if len(payload) != HEADER_BYTES + size:
        raise corrupt(f"{len(payload)} bytes are not the {HEADER_BYTES + size} of a {kind.name.lower()}")
    return memoryview(payload)[HEADER_BYTES:]


class KeyWriter(_Writer):
    """A public key: the polynomial that is not expanded from the nonces."""

    def __init__(self, ring: WordRing, nonces: bytes) -> None:
        self.size = polynomial_bytes(ring)
        super().__init__(ring, Kind.BATCH_KEY, nonces_digest(nonces), self.size)


def key_part(ring: WordRing, payload: bytes, nonces: bytes) -> memoryview:
    """The polynomial of a public key, packed.

    Raises:
        CorruptPayload: The key is of other nonces, or no key; and what ``check_header`` raises.
    """
    told = nonces_digest(nonces)
    body = _body(ring, Kind.BATCH_KEY, payload, len(told) + polynomial_bytes(ring))
    if body[: len(told)] != told:
        raise corrupt("this public key is of other nonces")
    return body[len(told) :]


class UploadWriter(_Writer):
    """Ciphertexts whose second polynomials are of a seed."""

    def __init__(self, ring: WordRing, seed: bytes, count: int) -> None:
        self.size = polynomial_bytes(ring)
        super().__init__(ring, Kind.BATCH_UPLOAD, seed, count * self.size)


class Upload:
    """A payload of ``UploadWriter`` that has the right length.

    Attributes:
        seed: Of all second polynomials.
        count: Of ciphertexts.
    """

    def __init__(self, ring: WordRing, payload: bytes, count: int) -> None:
        """Raises what ``check_header`` does, and CorruptPayload."""
        self._ring, self._size, self.count = ring, polynomial_bytes(ring), count
        body = _body(ring, Kind.BATCH_UPLOAD, payload, SEED_BYTES + count * self._size)
        self.seed, self._rows = bytes(body[:SEED_BYTES]), body[SEED_BYTES:]

    def part(self, row: int) -> memoryview:
        """The first polynomial of a ciphertext, packed."""
        return self.rows(row, 1)

    def rows(self, start: int, count: int) -> memoryview:
        """Those of several."""
        return self._rows[start * self._size : (start + count) * self._size]


def beyond() -> CorruptPayload:
    """A refusal of residues."""
    return corrupt("a residue is not below its prime")


def _told(how: Switching) -> bytes:
    return bytes([how.top_bits, how.key_bits, how.exact])


def result_bytes(ring: WordRing, how: Switching) -> int:
    """Bytes of one result."""
    bits = [how.top_bits, how.key_bits] + [ring.primes[0].bit_length()] * (2 if how.exact else 0)
    return sum(packed_bytes(ring.ring_degree, each) for each in bits)


class ResultsWriter(_Writer):
    """Results as two rows of N words, and if exact two of residues modulo the first prime."""

    def __init__(self, ring: WordRing, how: Switching, count: int) -> None:
        self.size = result_bytes(ring, how)
        super().__init__(ring, Kind.BATCH_RESULTS, _told(how), count * self.size)


def pack_rows(ring: WordRing, part: Bytes, rows: Iterable[tuple[Words, int]]) -> None:
    """Rows, each in so many bits, into the bytes that they take."""
    at = 0
    for row, bits in rows:
        end = at + packed_bytes(ring.ring_degree, bits)
        ring.kernels.pack_into(part[at:end], row, bits)
        at = end


def read_results(ring: WordRing, payload: bytes, count: int, how: Switching) -> Results:
    """The body of a payload of ``ResultsWriter``.

    Raises:
        CorruptPayload: These are no results of this form; and what ``check_header`` raises.
    """
    size, told = result_bytes(ring, how), _told(how)
    body = _body(ring, Kind.BATCH_RESULTS, payload, len(told) + count * size)
    if body[: len(told)] != told:
        raise corrupt("these results have other bits than were agreed on")
    return Results(body[len(told) :], count, size)


def rest_of(ring: WordRing, results: Results, row: int) -> Residues:
    """What an exact result is modulo the first prime, (2, N).

    Raises:
        CorruptPayload: A residue is not below the prime.
    """
    n, prime = ring.ring_degree, ring.primes[0]
    size, out = packed_bytes(n, prime.bit_length()), residues((2, n))
    at = (row + 1) * results.stride - 2 * size
    for each in out:
        ring.kernels.unpack(results.payload[at : at + size], n, prime.bit_length(), out=each)
        at += size
    if int(out.max()) >= prime:
        raise beyond()
    return out
