"""What travels: public keys, uploads and results, each a header (``scheme.fields``) and numbers packed to their bits.

========  ==================================================================================================
key       b: words, then residues of each prime
upload    the seed of all a (32 bytes); of each ciphertext b, as of a key
results   bits of the first polynomial, of the second, and 1 if exact (a byte each); of each result the first
          polynomial and the second, in so many bits; if exact, then both modulo the first prime
========  ==================================================================================================

Lengths are checked before anything is read, and every residue against its prime.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from helora_core.backend.correlations import Switching
from helora_rns.arrays import residues
from helora_rns.correlations.kernels import Words
from helora_rns.correlations.ring import WORD_BYTES, WordRing
from helora_rns.correlations.streams import SEED_BYTES
from helora_rns.modular import Residues
from helora_rns.scheme.fields import HEADER_BYTES, Kind, check_header, corrupt, header


def polynomial_bytes(ring: WordRing) -> int:
    """Bytes of one polynomial modulo q."""
    return WORD_BYTES * ring.ring_degree + sum(_row_bytes(ring, ring.primes[i].bit_length()) for i in ring.limbs)


def _row_bytes(ring: WordRing, bits: int) -> int:
    return -(-ring.ring_degree * bits // 8)


def _written(ring: WordRing, polynomial: tuple[Words, Residues]) -> list[bytes | memoryview]:
    words, values = polynomial
    rows = [ring.kernels.pack(row, ring.primes[i].bit_length()) for i, row in zip(ring.limbs, values, strict=True)]
    return [words.astype("<u8", copy=False).data.cast("B"), *rows]


def _read(ring: WordRing, part: memoryview, words: Words, values: Residues) -> None:
    """One polynomial, into words and values.

    Raises:
        CorruptPayload: A residue is not below its prime.
    """
    at = WORD_BYTES * ring.ring_degree
    words[...] = np.frombuffer(part[:at], dtype="<u8")
    for i, row in zip(ring.limbs, values, strict=True):
        at = _read_residues(ring, part, at, i, row)


def _read_residues(ring: WordRing, part: memoryview, at: int, i: int, row: Residues) -> int:
    prime = ring.primes[i]
    end = at + _row_bytes(ring, prime.bit_length())
    ring.kernels.unpack(part[at:end], ring.ring_degree, prime.bit_length(), out=row)
    if int(row.max()) >= prime:
        raise corrupt("a residue is not below its prime")
    return end


def _body(ring: WordRing, kind: Kind, payload: bytes, size: int) -> memoryview:
    check_header(kind, ring.context, payload)
    if len(payload) != HEADER_BYTES + size:
        raise corrupt(f"{len(payload)} bytes are not the {HEADER_BYTES + size} of a {kind.name.lower()}")
    return memoryview(payload)[HEADER_BYTES:]


def write_key(ring: WordRing, polynomial: tuple[Words, Residues]) -> bytes:
    """A public key: the polynomial that is not expanded from the nonces."""
    return b"".join([header(Kind.BATCH_KEY, ring.context), *_written(ring, polynomial)])


def read_key(ring: WordRing, payload: bytes, words: Words, values: Residues) -> None:
    """Undo ``write_key``, into words and values; raises what ``check_header`` does, and CorruptPayload."""
    _read(ring, _body(ring, Kind.BATCH_KEY, payload, polynomial_bytes(ring)), words, values)


def write_upload(ring: WordRing, seed: bytes, polynomials: Iterable[tuple[Words, Residues]]) -> bytes:
    """Ciphertexts whose second polynomials are of a seed."""
    parts: list[bytes | memoryview] = [header(Kind.BATCH_UPLOAD, ring.context), seed]
    for polynomial in polynomials:
        parts += _written(ring, polynomial)
    return b"".join(parts)


class Upload:
    """A payload of ``write_upload`` that has the right length.

    Attributes:
        seed: Of all second polynomials.
        count: Of ciphertexts.
    """

    def __init__(self, ring: WordRing, payload: bytes, count: int) -> None:
        """Raises what ``check_header`` does, and CorruptPayload."""
        self._ring, self._size, self.count = ring, polynomial_bytes(ring), count
        body = _body(ring, Kind.BATCH_UPLOAD, payload, SEED_BYTES + count * self._size)
        self.seed, self._rows = bytes(body[:SEED_BYTES]), body[SEED_BYTES:]

    def read(self, row: int, words: Words, values: Residues) -> None:
        """The first polynomial of a ciphertext.

        Raises:
            CorruptPayload: A residue is not below its prime.
        """
        _read(self._ring, self._rows[row * self._size : (row + 1) * self._size], words, values)


def _told(how: Switching) -> bytes:
    return bytes([how.top_bits, how.key_bits, how.exact])


def _result_bytes(ring: WordRing, how: Switching) -> int:
    size = _row_bytes(ring, how.top_bits) + _row_bytes(ring, how.key_bits)
    return size + (2 * _row_bytes(ring, ring.primes[0].bit_length()) if how.exact else 0)


def write_results(ring: WordRing, how: Switching, results: Iterable[tuple[Words, Residues | None]]) -> bytes:
    """Results as (2, N) words, and if exact (2, N) residues modulo the first prime."""
    pack = ring.kernels.pack
    parts = [header(Kind.BATCH_RESULTS, ring.context), _told(how)]
    for words, rest in results:
        parts += [pack(words[0], how.top_bits), pack(words[1], how.key_bits)]
        if rest is not None:
            parts += [pack(row, ring.primes[0].bit_length()) for row in rest]
    return b"".join(parts)


def read_results(ring: WordRing, payload: bytes, count: int, how: Switching) -> Iterator[tuple[Words, Residues | None]]:
    """Undo ``write_results``, one by one; the arrays are overwritten by the next.

    Raises:
        CorruptPayload: These are no results of this form; and what ``check_header`` raises.
    """
    size, told = _result_bytes(ring, how), _told(how)
    body = _body(ring, Kind.BATCH_RESULTS, payload, len(told) + count * size)
    if body[: len(told)] != told:
        raise corrupt("these results have other bits than were agreed on")
    n, unpack = ring.ring_degree, ring.kernels.unpack
    words, rest = residues((2, n)), residues((2, n))
    for start in range(len(told), len(body), size):
        part, at = body[start : start + size], 0
        for row, bits in zip(words, (how.top_bits, how.key_bits), strict=True):
            end = at + _row_bytes(ring, bits)
            unpack(part[at:end], n, bits, out=row)
            at = end
        if how.exact:
            for row in rest:
                at = _read_residues(ring, part, at, 0, row)
        yield words, rest if how.exact else None
