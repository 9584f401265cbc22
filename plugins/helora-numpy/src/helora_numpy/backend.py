"""CKKS emulated in NumPy: a double that is stricter than any real library, and hides nothing.

A "ciphertext" is its polynomial in the clear, with level and scale. Every operation adds noise of the size that CKKS
would (``helora_core.params.noise``), and values that exceed the modulus, which a library would wrap around, are
refused. Only polynomials encrypted as integers may exceed it and wrap around, since programs mask them on purpose.
"""

from __future__ import annotations

import functools
import math
import secrets
import struct
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version

import msgspec
import numpy as np
from numpy.typing import NDArray

from helora_core.backend import residues
from helora_core.backend.base import with_primes
from helora_core.backend.capabilities import Capabilities, Encoding
from helora_core.backend.embedding import ComplexSlots
from helora_core.backend.ntt import Residues
from helora_core.backend.primes import distinct_ntt_primes
from helora_core.backend.protocol import SLOTS, Values
from helora_core.backend.short_results import ALL_KEPT, LowBits
from helora_core.backend.tape import Tape
from helora_core.errors import CorruptPayload, PrecisionLost
from helora_core.params import noise
from helora_core.params.ckks import CKKSParams
from helora_numpy import polynomials
from helora_numpy.correlations import EmulatedCorrelations
from helora_numpy.polynomials import Polynomial
from helora_numpy.programs import EmulatedExecutable

FloatArray = NDArray[np.float64]

_WHO = "helora-numpy"
_HEADER = struct.Struct("<4sHdBB")
_MAGIC = {b"HNPY": False, b"HNPI": True}
"""First bytes of a ciphertext, by whether its polynomial is held exactly, as residues."""


@dataclass(frozen=True, eq=False)
class EmulatedCiphertext:
    """A polynomial in the clear (read-only), with its level and scale, and the low bits that it has lost."""

    values: Polynomial
    level: int
    scale: float
    low_bits: LowBits = ALL_KEPT


@dataclass(frozen=True, eq=False)
class EmulatedPlaintext:
    """An encoded polynomial, for ciphertexts at ``level``."""

    values: Polynomial
    level: int
    scale: float


class _EvaluationKeys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The evaluation keys that the client sends to the server."""

    steps: list[int]
    key_id: bytes
    public_key: bool


class EmulatedEncoder:
    """Encodes polynomials, rounded to integers as in every library."""

    def __init__(self, params: CKKSParams) -> None:
        self.params = params

    def encode(self, values: Values, *, level: int, scale: float, encoding: Encoding = SLOTS) -> EmulatedPlaintext:
        return EmulatedPlaintext(self._polynomial(values, scale, encoding), level, scale)

    def _polynomial(self, values: Values, scale: float, encoding: Encoding) -> Polynomial:
        if encoding is Encoding.INTEGERS:
            return polynomials.transformed(values, self.params)
        if encoding is Encoding.SCALAR:
            constant = np.rint(values[0] * scale) / scale
            return np.full(self.params.slots, constant, dtype=np.complex128)
        slots = np.pad(values.astype(np.complex128), (0, self.params.slots - values.size))
        return polynomials.rounded(slots, scale, self.params.ring_degree)


class _Role:
    """The base of client and server: parameters, the key's name, and the source of noise."""

    encoder_type = EmulatedEncoder

    def __init__(self, params: CKKSParams, key_id: bytes, rng: np.random.Generator) -> None:
        self.params = params
        self.key_id = key_id
        self._rng = rng
        self._encoder = self.encoder_type(params)

    def level(self, ciphertext: EmulatedCiphertext) -> int:
        return ciphertext.level

    def scale(self, ciphertext: EmulatedCiphertext) -> float:
        return ciphertext.scale

    def low_bits(self, ciphertext: EmulatedCiphertext) -> LowBits:
        return ciphertext.low_bits

    def serialize(self, ciphertext: EmulatedCiphertext) -> bytes:
        values = ciphertext.values
        magic = next(magic for magic, exact in _MAGIC.items() if exact == polynomials.is_exact(values))
        payload = values.astype("<u8" if polynomials.is_exact(values) else "<c16").tobytes()
        return _HEADER.pack(magic, ciphertext.level, ciphertext.scale, *ciphertext.low_bits) + payload

    def deserialize(self, payload: bytes) -> EmulatedCiphertext:
        magic, level, scale, *low_bits = _HEADER.unpack_from(payload)
        exact, primes = _MAGIC[magic], self.params.data_primes[: level + 1]
        shape = (len(primes), self.params.ring_degree) if exact else (self.params.slots,)
        read = np.frombuffer(payload, "<u8" if exact else "<c16", offset=_HEADER.size).reshape(shape)
        values: Polynomial = read.astype(np.uint64) if exact else read.astype(np.complex128)
        if exact and (values >= np.array(primes, dtype=np.uint64)[:, np.newaxis]).any():
            raise ValueError("residues beyond their primes")
        if not np.isfinite(values).all():
            raise ValueError("values that are not finite")
        try:
            whole = self._ciphertext(values, level, scale)
            return replace(whole, low_bits=(low_bits[0], low_bits[1]))
        except PrecisionLost as error:
            raise CorruptPayload(f"{_WHO}: no such ciphertext can exist ({error.message}).", hint=error.hint) from error

    def _ciphertext(self, values: Polynomial, level: int, scale: float) -> EmulatedCiphertext:
        if not polynomials.is_exact(values):
            self._check_size(float(np.max(np.abs(values))), level, scale)
        values.flags.writeable = False
        return EmulatedCiphertext(values, level, scale)

    def _check_size(self, largest: float, level: int, scale: float) -> None:
        modulus = sum(math.log2(prime) for prime in self.params.data_primes[: level + 1])
        if math.log2(scale) + math.log2(max(largest, 1.0)) >= modulus - 1:
            raise PrecisionLost(
                f"{_WHO}: values at scale 2^{math.log2(scale):.1f} wrap around the "
                f"{modulus:.0f}-bit modulus of level {level}.",
                hint="Use smaller values or scales, or a larger base prime.",
            )

    def _noisy(self, values: Polynomial, std: float | FloatArray, scale: float) -> Polynomial:
        return polynomials.with_noise(values, std, scale, self.params, self._rng)

    def _encrypted(self, values: Values, scale: float, encoding: Encoding, std: float) -> EmulatedCiphertext:
        level = self.params.max_level
        encoded = self._encoder.encode(values, level=level, scale=scale, encoding=encoding)
        return self._ciphertext(self._noisy(encoded.values, std, scale), level, scale)


class EmulatedDecryptor(_Role):
    """The client's role."""

    def __init__(self, params: CKKSParams, keys: _EvaluationKeys, rng: np.random.Generator) -> None:
        super().__init__(params, keys.key_id, rng)
        self._keys = keys

    def encrypt(self, values: Values, *, scale: float, encoding: Encoding = SLOTS) -> EmulatedCiphertext:
        std = noise.encryption_std(self.params.ring_degree)
        return self._encrypted(values, scale, encoding, std)

    def decrypt(self, ciphertext: EmulatedCiphertext, *, encoding: Encoding = SLOTS) -> Values:
        polynomial = ciphertext.values
        if encoding is Encoding.INTEGERS:
            exact = polynomials.exact(polynomial, ciphertext.level, ciphertext.scale, self.params)
            return polynomials.coefficients(exact, self.params)
        values: Values = polynomials.slots(polynomial, ciphertext.scale, self.params).copy()
        if encoding is not Encoding.COMPLEX_SLOTS:
            values = values.real.copy()
        return values[:1] if encoding is Encoding.SCALAR else values

    def encrypt_many(
        self, many: Sequence[Values], *, scale: float, encoding: Encoding = SLOTS
    ) -> list[EmulatedCiphertext]:
        """Encrypt the polynomials one by one; if they are slots, the noise of all comes from one draw."""
        level, std = self.params.max_level, noise.encryption_std(self.params.ring_degree)
        encoded = [self._encoder.encode(values, level=level, scale=scale, encoding=encoding).values for values in many]
        if any(map(polynomials.is_exact, encoded)):
            noisy = [self._noisy(values, std, scale) for values in encoded]
        else:
            whole: ComplexSlots = np.concatenate(encoded)
            noisy = list(self._noisy(whole, std, scale).reshape(len(many), -1))
        return [self._ciphertext(values, level, scale) for values in noisy]

    def decrypt_many(self, ciphertexts: Sequence[EmulatedCiphertext], *, encoding: Encoding = SLOTS) -> list[Values]:
        return [self.decrypt(ciphertext, encoding=encoding) for ciphertext in ciphertexts]

    def evaluation_keys(self) -> bytes:
        return msgspec.msgpack.encode(self._keys)

    def export_keys(self) -> bytes:
        return msgspec.msgpack.encode(self._keys)  # there is no secret: the key pair is its name


class EmulatedEvaluator(_Role):
    """The server's role."""

    def __init__(self, params: CKKSParams, keys: _EvaluationKeys, rng: np.random.Generator) -> None:
        super().__init__(params, keys.key_id, rng)
        self.rotation_steps = frozenset(keys.steps)
        self.has_public_key = keys.public_key

    def encrypt_public(self, values: Values, *, scale: float, encoding: Encoding = SLOTS) -> EmulatedCiphertext:
        std = noise.public_encryption_std(self.params.ring_degree)
        return self._encrypted(values, scale, encoding, std)

    def add(self, left: EmulatedCiphertext, right: EmulatedCiphertext) -> EmulatedCiphertext:
        return self._sum(left, right)

    def sub(self, left: EmulatedCiphertext, right: EmulatedCiphertext) -> EmulatedCiphertext:
        return self._sum(left, self.negate(right))

    def negate(self, ciphertext: EmulatedCiphertext) -> EmulatedCiphertext:
        if not polynomials.is_exact(ciphertext.values):
            return self._like(ciphertext, -ciphertext.values)
        primes = self.params.data_primes[: ciphertext.level + 1]
        return self._like(ciphertext, residues.negative(ciphertext.values, primes))

    def add_plain(self, ciphertext: EmulatedCiphertext, plaintext: EmulatedPlaintext) -> EmulatedCiphertext:
        return self._sum(ciphertext, plaintext)

    def multiply_plain(self, ciphertext: EmulatedCiphertext, plaintext: EmulatedPlaintext) -> EmulatedCiphertext:
        scale = ciphertext.scale * plaintext.scale
        if not (polynomials.is_exact(ciphertext.values) or polynomials.is_exact(plaintext.values)):
            return self._like(ciphertext, ciphertext.values * plaintext.values, scale=scale)
        product = polynomials.multiply(self._exact(ciphertext), self._exact(plaintext), self.params)
        return self._like(ciphertext, product, scale=scale)

    def _exact(self, operand: EmulatedCiphertext | EmulatedPlaintext) -> Residues:
        return polynomials.exact(operand.values, operand.level, operand.scale, self.params)

    def _sum(self, left: EmulatedCiphertext, right: EmulatedCiphertext | EmulatedPlaintext) -> EmulatedCiphertext:
        if not (polynomials.is_exact(left.values) or polynomials.is_exact(right.values)):
            return self._like(left, left.values + right.values)
        return self._like(left, polynomials.add(self._exact(left), self._exact(right), self.params))

    def rotate(self, ciphertext: EmulatedCiphertext, steps: int) -> EmulatedCiphertext:
        std = _keyswitch_stds(
            self.params.ring_degree, self.params.data_bits[: ciphertext.level + 1], sum(self.params.special_bits)
        )
        slots = polynomials.slots(ciphertext.values, ciphertext.scale, self.params)
        rotated = self._noisy(np.roll(slots, -steps, axis=-1), std, ciphertext.scale)
        return self._like(ciphertext, rotated)

    def rotate_many(self, ciphertext: EmulatedCiphertext, steps: Sequence[int]) -> list[EmulatedCiphertext]:
        return [self.rotate(ciphertext, step) for step in steps]

    def rescale(self, ciphertext: EmulatedCiphertext) -> EmulatedCiphertext:
        scale = ciphertext.scale / self.params.data_primes[ciphertext.level]
        values = ciphertext.values
        if polynomials.is_exact(values):
            values = polynomials.divide_by_last(values, self.params)
        values = self._noisy(values, noise.rescale_std(self.params.ring_degree), scale)
        return self._like(ciphertext, values, level=ciphertext.level - 1, scale=scale)

    def shortened(self, ciphertext: EmulatedCiphertext, low_bits: LowBits) -> EmulatedCiphertext:
        """Both polynomials' roundings as noise, since there are no polynomials to round."""
        n, (first, second) = self.params.ring_degree, low_bits
        std = math.hypot(noise.dropped_std(n, first), noise.dropped_times_secret_std(n, second))
        shorter = self._like(ciphertext, self._noisy(ciphertext.values, std, ciphertext.scale))
        return replace(shorter, low_bits=low_bits)

    def _like(
        self,
        operand: EmulatedCiphertext,
        values: Polynomial,
        *,
        level: int | None = None,
        scale: float | None = None,
    ) -> EmulatedCiphertext:
        """A result with the operand's level and scale, unless others are given."""
        return self._ciphertext(
            values,
            operand.level if level is None else level,
            operand.scale if scale is None else scale,
        )


@functools.cache
def _keyswitch_stds(ring_degree: int, data_bits: tuple[int, ...], special_bits: int) -> FloatArray:
    """Standard deviation of a key switch in each slot: largest in slot 0, since digits are not centred in SEAL.

    Divided by its prime, a digit has parts of variance 1/12 in the coefficients, which are independent, and a mean of
    1/2 in each, which makes 1/2·(1 + x + … + x^(N−1)) = 1/(1 − x). (See ``noise.keyswitch_worst_std``.)
    """
    exponents = np.array([pow(5, slot, 2 * ring_degree) for slot in range(ring_degree // 2)])
    # |1 − exp(iα)| = 2·sin(α/2)
    digit_squares = ring_degree / 12 + (2 * np.sin(np.pi * exponents / ring_degree / 2)) ** -2
    mean, largest = ring_degree / 3, (ring_degree / math.pi) ** 2
    typical = noise.keyswitch_std(ring_degree, data_bits, special_bits) ** 2
    worst = noise.keyswitch_worst_std(ring_degree, data_bits, special_bits) ** 2
    stds: FloatArray = np.sqrt(typical + (worst - typical) * (digit_squares - mean) / (largest - mean))
    return stds


class NumPyBackend(EmulatedCorrelations):
    """The emulation."""

    name = "numpy"
    library_version = f"helora-numpy {version('helora-numpy')}"
    capabilities = Capabilities(
        encodings=frozenset(Encoding) - {Encoding.COEFFICIENTS},  # core makes them from integers
        public_key=True,
        hoisting=True,
        programs=True,
        short_results=True,
        correlations=True,
        seeded_keys=True,
    )

    def resolve(self, params: CKKSParams) -> CKKSParams:
        return with_primes(params, distinct_ntt_primes(params.data_bits + params.special_bits, params.ring_degree))

    def encoder(self, params: CKKSParams) -> EmulatedEncoder:
        return EmulatedEncoder(params)

    def prepare(self, params: CKKSParams, tape: Tape) -> EmulatedExecutable:
        return EmulatedExecutable(self.encoder(params), tape)

    def generate_keys(
        self,
        params: CKKSParams,
        rotation_steps: Collection[int],
        *,
        public_key: bool = False,
        seed: int | None = None,
    ) -> tuple[EmulatedDecryptor, EmulatedEvaluator]:
        client_rng, server_rng = np.random.default_rng(seed).spawn(2)
        keys = _EvaluationKeys(sorted(rotation_steps), secrets.token_bytes(16), public_key)
        return EmulatedDecryptor(params, keys, client_rng), EmulatedEvaluator(params, keys, server_rng)

    def load_evaluator(self, params: CKKSParams, evaluation_keys: bytes) -> EmulatedEvaluator:
        return EmulatedEvaluator(params, _keys(evaluation_keys), np.random.default_rng())

    def restore_keys(self, params: CKKSParams, exported: bytes) -> EmulatedDecryptor:
        return EmulatedDecryptor(params, _keys(exported), np.random.default_rng())


def _keys(message: bytes) -> _EvaluationKeys:
    return msgspec.msgpack.decode(message, type=_EvaluationKeys)
