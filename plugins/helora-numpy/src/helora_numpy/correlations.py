"""What plans that run ahead of time need, emulated: the arithmetic of ``helora_core.backend.correlations``, no secrecy.

The secret key is a power of x or its negative, so that a product with it costs nothing, and the public key states it.
All else is as it is under a ternary key: the moduli, the floors, errors of the sizes that such a key gives them, and
sizes on the wire. Misuse is refused that a real library would not notice.
"""

from __future__ import annotations

import hashlib
import math
import secrets
import struct
from collections.abc import Sequence

import numpy as np

from helora_core.backend.correlations import (
    NONCE_BYTES,
    SEED_BYTES,
    WRAP_BITS,
    Cut,
    Floats,
    Integers,
    Switching,
    Words,
)
from helora_core.params.ckks import CKKSParams
from helora_core.params.noise import ERROR_STD
from helora_numpy.mixed import Mixed, turned
from helora_numpy.packed import pack, packed_size, unpack

_MAGIC = b"HNPC"
_POWER = struct.Struct("<H")
_TERNARY_VARIANCE = 2 / 3
_LARGEST_ERROR = 21
"""Beyond it, the real distribution (``ERROR_STD``) has no error."""


class EmulatedBatchKey:
    """The client's key pair of one batch: ±x^k is x^power, for 0 to 2N − 1."""

    def __init__(self, params: CKKSParams, nonces: bytes) -> None:
        self._params = params
        self._rng = np.random.default_rng()
        self._erased = False
        self._power = secrets.randbelow(2 * params.ring_degree)
        uniform = _uniform_part(params, nonces).turned(self._power)
        error = Mixed.of_integers(_errors(self._rng, (1, params.ring_degree)), params.data_primes)
        self._public_key = _POWER.pack(self._power) + _to_bytes(error.minus(uniform))

    @property
    def public_key(self) -> bytes:
        return self._public_key

    def encrypt(self, numbers: Words) -> bytes:
        self._check_not_erased()
        primes, seed = self._params.data_primes, secrets.token_bytes(SEED_BYTES)
        errors = Mixed.of_integers(_errors(self._rng, numbers.shape), primes)
        scaled = numbers * np.uint64(math.prod(primes) % (1 << WRAP_BITS))
        message = Mixed(scaled, tuple(np.zeros_like(scaled) for _ in primes), primes)
        uniform = Mixed.uniform(_generator(b"a", seed), numbers.shape, primes)
        return _MAGIC + seed + _to_bytes(message.plus(errors).minus(uniform.turned(self._power)))

    def decrypt(self, payload: bytes, count: int, how: Switching) -> Words:
        self._check_not_erased()
        shape = (count, self._params.ring_degree)
        first, prime = 0, self._params.data_primes[0]
        parts = []
        for bits in _result_bits(self._params, how):
            size = packed_size(math.prod(shape), bits)
            parts.append(unpack(payload[first : first + size], math.prod(shape), bits).reshape(shape))
            first += size
        if first != len(payload):
            raise ValueError("bytes after the last result")
        sums, keys, *left = parts
        if left:
            if any(int(each.max()) >= prime for each in left):
                raise ValueError("residues beyond their prime")
            rest = left[0].astype(np.int64) + turned(left[1], self._power).astype(np.int64)
            whole = sums + turned(keys, self._power)
            return whole + ((2 * rest + prime) // (2 * prime)).astype(np.uint64)
        whole = (keys << np.uint64(WRAP_BITS - how.key_bits)) + np.uint64(_half(how.key_bits))
        rounded = _top(turned(whole, self._power) + np.uint64(_half(how.top_bits)), how.top_bits)
        kept: Words = (sums + rounded) & np.uint64((1 << how.top_bits) - 1)
        return kept

    def erase(self) -> None:
        self._power, self._erased = 0, True

    def _check_not_erased(self) -> None:
        if self._erased:
            raise ValueError("the key of this batch was erased")


class EmulatedBatchSums:
    """The server's side of one batch."""

    def __init__(self, params: CKKSParams, public_key: bytes, nonces: bytes, rows: int) -> None:
        self._params = params
        shape = (1, params.ring_degree)
        (self._power,) = _POWER.unpack_from(public_key)
        error = _from_bytes(public_key[_POWER.size :], shape, params)
        error = error.plus(_uniform_part(params, nonces).turned(self._power))
        signed = error.words.astype(np.int64)
        small = Mixed.of_integers(signed, params.data_primes)
        if (
            self._power >= 2 * params.ring_degree
            or np.abs(signed).max() > _LARGEST_ERROR
            or not all(map(np.array_equal, small.residues, error.residues))
        ):
            raise ValueError("no public key for these nonces")
        zeros = Mixed.of_integers(np.zeros((rows, params.ring_degree), dtype=np.int64), params.data_primes)
        self._c0 = self._c1 = zeros
        self._seeds: dict[bytes, bytes] = {}

    def add(self, payload: bytes, matrix: Integers) -> None:
        shape, start = (matrix.shape[1], self._params.ring_degree), len(_MAGIC) + SEED_BYTES
        if payload[: len(_MAGIC)] != _MAGIC:
            raise ValueError("no ciphertexts")
        c0 = _from_bytes(payload[start:], shape, self._params)
        c1 = Mixed.uniform(_generator(b"a", payload[len(_MAGIC) : start]), shape, self._params.data_primes)
        self._c0, self._c1 = self._c0.plus(c0.combined(matrix)), self._c1.plus(c1.combined(matrix))

    def results(self, matrix: Integers, masks: Words, seed: bytes, how: Switching) -> bytes:
        self._check_seed(seed, matrix, masks)
        c0, c1 = self._re_randomised(self._c0.combined(matrix), self._c1.combined(matrix), seed)
        if how.exact:
            c0 = c0.plus(Mixed.flood(_generator(b"flood", seed), masks.shape, c0.primes))
        (h, h_left), (g, g_left) = c0.divided(), c1.divided()
        if not how.exact:
            h = h + self._rounding_times_key(masks.shape, how, seed).astype(np.uint64)
        parts = [_top(h - masks, how.top_bits), _top(g, how.key_bits)]
        if how.exact:
            parts += [h_left, g_left]
        return b"".join(map(pack, parts, _result_bits(self._params, how)))

    def _re_randomised(self, c0: Mixed, c1: Mixed, seed: bytes) -> tuple[Mixed, Mixed]:
        """Both polynomials with an encryption of zero added, as one under the public key: (noise − r·s, r)."""
        shape = c0.words.shape
        zero = Mixed.uniform(_generator(b"zero", seed), shape, c0.primes)
        # e_pk·u + e₁·s + e₀: u and s are ternary polynomials
        std = ERROR_STD * math.sqrt(2 * _TERNARY_VARIANCE * self._params.ring_degree + 1)
        noise = np.rint(_generator(b"noise", seed).normal(scale=std, size=shape)).astype(np.int64)
        return c0.plus(Mixed.of_integers(noise, c0.primes)).minus(zero.turned(self._power)), c1.plus(zero)

    def _rounding_times_key(self, shape: tuple[int, ...], how: Switching, seed: bytes) -> Integers:
        """What c₁'s rounding adds when it is multiplied by a ternary key, and not by a power of x."""
        unit = 2.0 ** (WRAP_BITS - how.key_bits)
        std = unit * math.sqrt(_TERNARY_VARIANCE * self._params.ring_degree / 12)
        return np.rint(_generator(b"rounding", seed).normal(scale=std, size=shape)).astype(np.int64)

    def _check_seed(self, seed: bytes, matrix: Integers, masks: Words) -> None:
        if len(seed) != SEED_BYTES:
            raise ValueError(f"a seed of {len(seed)} bytes")
        used_for = _digest(np.array(matrix.shape), matrix, masks, self._c0.words, self._c1.words)
        if self._seeds.setdefault(seed, used_for) != used_for:
            raise ValueError("a seed that was used for another upload, matrix or masks")


class EmulatedOnlineWeights:
    """Matrices modulo 2^64."""

    def __init__(self, matrices: Sequence[Integers]) -> None:
        self._transposed = [matrix.T.astype(np.uint64) for matrix in matrices]

    def answer(self, y: bytes, masks: Words, top_bits: int) -> bytes:
        return pack(self._top(np.frombuffer(y, dtype="<u8").reshape(len(masks), -1), masks, top_bits), top_bits)

    def _top(self, y: Words, masks: Words, top_bits: int) -> Words:
        for matrix in self._transposed:
            y = y @ matrix
        return _top(y + masks, top_bits)


class EmulatedCorrelations:
    """The part of the backend for plans that run ahead of time."""

    batch_key_type = EmulatedBatchKey
    batch_sums_type = EmulatedBatchSums
    online_weights_type = EmulatedOnlineWeights

    def batch_key(self, params: CKKSParams, nonces: bytes) -> EmulatedBatchKey:
        return self.batch_key_type(params, nonces)

    def batch_sums(self, params: CKKSParams, public_key: bytes, nonces: bytes, rows: int) -> EmulatedBatchSums:
        return self.batch_sums_type(params, public_key, nonces, rows)

    def online_weights(self, matrices: Sequence[Integers]) -> EmulatedOnlineWeights:
        return self.online_weights_type(matrices)

    def padded(self, x: Floats, factors: Floats, pads: Words) -> bytes:
        whole = np.rint(x * factors[:, np.newaxis]).astype(np.int64).view(np.uint64)
        return (whole - pads).astype("<u8").tobytes()

    def revealed(self, answers: bytes, results: bytes, cut: Cut, factors: Floats, outputs: int) -> Floats:
        tokens = len(factors)
        size = packed_size(outputs, cut.result_bits)
        v = unpack(answers, tokens * outputs, cut.answer_bits).reshape(tokens, outputs)
        c = np.stack([unpack(results[t * size : (t + 1) * size], outputs, cut.result_bits) for t in range(tokens)])
        total = _whole(v, cut.answer_bits) + _whole(c, cut.result_bits)
        return total.view(np.int64).astype(np.float64) * factors[:, np.newaxis]

    def pack(self, numbers: Words, bits: int) -> bytes:
        return pack(numbers, bits)

    def unpack(self, payload: bytes, count: int, bits: int) -> Words:
        return unpack(payload, count, bits)


def _top(numbers: Words, bits: int) -> Words:
    top: Words = numbers >> np.uint64(WRAP_BITS - bits)
    return top


def _whole(top: Words, bits: int) -> Words:
    """Words of which the top bits are these, in the middle of what the others may be."""
    lost = WRAP_BITS - bits
    middle: Words = (top << np.uint64(lost)) + np.uint64(1 << lost >> 1)
    return middle


def _half(bits: int) -> int:
    """Half a unit of numbers that keep so many bits."""
    return (1 << (WRAP_BITS - bits)) // 2


def _result_bits(params: CKKSParams, how: Switching) -> tuple[int, ...]:
    if how.exact and len(params.data_primes) == 1:
        raise ValueError("one prime leaves nothing to round exact results by")
    left = params.data_primes[0].bit_length()
    return (how.top_bits, how.key_bits, left, left) if how.exact else (how.top_bits, how.key_bits)


def _uniform_part(params: CKKSParams, nonces: bytes) -> Mixed:
    """The uniform polynomial of a public key."""
    if len(nonces) != 2 * NONCE_BYTES:
        raise ValueError(f"nonces of {len(nonces)} bytes")
    return Mixed.uniform(_generator(b"public key", nonces), (1, params.ring_degree), params.data_primes)


def _errors(rng: np.random.Generator, shape: tuple[int, ...]) -> Integers:
    """Ones among 21 bits less those among 21 others."""
    ones = rng.binomial(_LARGEST_ERROR, 0.5, (2, *shape))
    errors: Integers = ones[0] - ones[1]
    return errors


def _generator(purpose: bytes, seed: bytes) -> np.random.Generator:
    return np.random.default_rng(int.from_bytes(hashlib.sha256(purpose + b"\0" + seed).digest(), "little"))


def _digest(*arrays: Words | Integers) -> bytes:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(array.tobytes())
    return digest.digest()


def _to_bytes(polynomials: Mixed) -> bytes:
    """Words, then residues modulo each prime, packed to their bits."""
    bits = (WRAP_BITS, *(prime.bit_length() for prime in polynomials.primes))
    return b"".join(map(pack, (polynomials.words, *polynomials.residues), bits))


def _from_bytes(payload: bytes, shape: tuple[int, int], params: CKKSParams) -> Mixed:
    first, parts = 0, []
    for bits in (WRAP_BITS, *(prime.bit_length() for prime in params.data_primes)):
        size = packed_size(math.prod(shape), bits)
        parts.append(unpack(payload[first : first + size], math.prod(shape), bits).reshape(shape))
        first += size
    if first != len(payload):
        raise ValueError("bytes after the last ciphertext")
    words, *residues = parts
    if any((row >= np.uint64(prime)).any() for row, prime in zip(residues, params.data_primes, strict=True)):
        raise ValueError("residues beyond their primes")
    return Mixed(words, tuple(residues), params.data_primes)
