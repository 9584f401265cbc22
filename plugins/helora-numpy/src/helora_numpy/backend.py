"""CKKS emulated in NumPy: a double that is stricter than any real library, and hides nothing.

A "ciphertext" is its polynomial in the clear, with level, scale and key id. Every operation adds noise of the size that
CKKS would (``helora_core.params.noise``), and everything that a library may let pass silently is refused: operands of
different scales, levels or keys, rotations without their very key, values that outgrow the modulus.

Only what was encrypted as integers may outgrow it: programs mask such polynomials on purpose, and they wrap around.
"""

from __future__ import annotations

import functools
import math
import secrets
import struct
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from importlib.metadata import version

import msgspec
import numpy as np
from numpy.typing import NDArray

from helora_core.backend import residues
from helora_core.backend.capabilities import Capabilities, Encoding
from helora_core.backend.embedding import largest_coefficient
from helora_core.backend.ntt import Residues
from helora_core.backend.protocol import SLOTS, Values
from helora_core.backend.values import check_encoding, check_scale, check_values
from helora_core.errors import (
    CapabilityMissing,
    CorruptPayload,
    ForeignCiphertext,
    InvalidInput,
    InvalidParameters,
    LevelExhausted,
    LevelMismatch,
    MissingRotationKey,
    PrecisionLost,
    ScaleMismatch,
)
from helora_core.params import noise
from helora_core.params.ckks import CKKSParams
from helora_numpy import polynomials
from helora_numpy.polynomials import Polynomial
from helora_numpy.primes import distinct_ntt_primes

FloatArray = NDArray[np.float64]

_WHO = "helora-numpy"
_HEADER = struct.Struct("<4sHd")
_MAGIC = {b"HNPY": False, b"HNPI": True}
"""First bytes of a ciphertext, by whether its polynomial is held exactly, as residues."""


@dataclass(frozen=True, eq=False)
class EmulatedCiphertext:
    """A polynomial in the clear (read-only), with what CKKS would track about it."""

    values: Polynomial
    level: int
    scale: float
    key_id: bytes


@dataclass(frozen=True, eq=False)
class EmulatedPlaintext:
    """An encoded polynomial, for ciphertexts at ``level``."""

    values: Polynomial
    level: int
    scale: float


class _EvaluationKeys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the client sends to the server."""

    steps: list[int]
    key_id: bytes
    public_key: bool


class _Role:
    """What client and server share: parameters, the key's name, and the source of noise."""

    def __init__(self, params: CKKSParams, key_id: bytes, rng: np.random.Generator) -> None:
        self.params = params
        self.key_id = key_id
        self._rng = rng

    def level(self, ciphertext: EmulatedCiphertext) -> int:
        return ciphertext.level

    def scale(self, ciphertext: EmulatedCiphertext) -> float:
        return ciphertext.scale

    def serialize(self, ciphertext: EmulatedCiphertext) -> bytes:
        values = self._own(ciphertext).values
        magic = next(magic for magic, exact in _MAGIC.items() if exact == polynomials.is_exact(values))
        payload = values.astype("<u8" if polynomials.is_exact(values) else "<c16").tobytes()
        return _HEADER.pack(magic, ciphertext.level, ciphertext.scale) + payload

    def deserialize(self, payload: bytes) -> EmulatedCiphertext:
        if len(payload) < _HEADER.size or payload[:4] not in _MAGIC:
            raise self._corrupt(f"{len(payload)} bytes are not a ciphertext of {self.params.slots} slots")
        magic, level, scale = _HEADER.unpack_from(payload)
        if level > self.params.max_level or not (math.isfinite(scale) and scale > 0):
            raise self._corrupt(f"a ciphertext of level {level} and scale {scale} cannot exist")
        rows = level + 1 if _MAGIC[magic] else 1
        if len(payload) != _HEADER.size + 8 * rows * self.params.ring_degree:
            raise self._corrupt(f"{len(payload)} bytes are not a ciphertext of {self.params.slots} slots")
        values: Polynomial
        if _MAGIC[magic]:
            values = np.frombuffer(payload, "<u8", offset=_HEADER.size).astype(np.uint64).reshape(rows, -1)
            if (values >= np.array(self.params.data_primes[:rows], dtype=np.uint64)[:, np.newaxis]).any():
                raise self._corrupt("residues beyond their primes")
        else:
            values = np.frombuffer(payload, "<c16", offset=_HEADER.size).astype(np.complex128)
            if not np.isfinite(values).all():
                raise self._corrupt("values that are not finite")
        try:
            return self._ciphertext(values, level, scale)
        except PrecisionLost as error:
            raise CorruptPayload(f"{_WHO}: no such ciphertext can exist ({error.message}).", hint=error.hint) from error

    @staticmethod
    def _corrupt(what: str) -> CorruptPayload:
        return CorruptPayload(
            f"{_WHO}: {what}.", hint="Send the ciphertext again, and check that both sides use the same parameters."
        )

    def _own(self, ciphertext: EmulatedCiphertext) -> EmulatedCiphertext:
        if not isinstance(ciphertext, EmulatedCiphertext) or ciphertext.key_id != self.key_id:
            raise ForeignCiphertext(
                f"{_WHO}: this ciphertext was made with other keys.",
                hint="Use ciphertexts of the client whose evaluation keys this server holds.",
            )
        return ciphertext

    def _ciphertext(self, values: Polynomial, level: int, scale: float) -> EmulatedCiphertext:
        if not polynomials.is_exact(values):
            self._check_size(float(np.max(np.abs(values))), level, scale)
        values.flags.writeable = False
        return EmulatedCiphertext(values, level, scale, self.key_id)

    def _modulus_bits(self, level: int) -> float:
        return sum(math.log2(prime) for prime in self.params.data_primes[: level + 1])

    def _check_size(self, largest: float, level: int, scale: float) -> None:
        modulus_bits = self._modulus_bits(level)
        if math.log2(scale) + math.log2(max(largest, 1.0)) >= modulus_bits - 1:
            raise PrecisionLost(
                f"{_WHO}: values at scale 2^{math.log2(scale):.1f} wrap around the "
                f"{modulus_bits:.0f}-bit modulus of level {level}.",
                hint="Use smaller values or scales, or a larger base prime.",
            )

    def _noisy(self, values: Polynomial, std: float | FloatArray, scale: float) -> Polynomial:
        return polynomials.with_noise(values, std, scale, self.params, self._rng)

    def _encoded(self, values: Values, level: int, scale: float, encoding: Encoding, who: str) -> Polynomial:
        """The polynomial, rounded to integers as every library does."""
        check_encoding(encoding, NumPyBackend.capabilities, who=f"{_WHO} {who}")
        check_scale(scale, who=f"{_WHO} {who}")
        check_values(values, self.params.slots, who=f"{_WHO} {who}", encoding=encoding)
        if encoding is Encoding.INTEGERS:
            primes = self.params.data_primes[: level + 1]
            if len(values) != len(primes) or (values >= np.array(primes, dtype=np.uint64)[:, np.newaxis]).any():
                raise InvalidInput(
                    f"{_WHO} {who}: {len(values)} rows of residues are not those of the {len(primes)} primes of level "
                    f"{level}.",
                    hint="Make them with helora_core.backend.residues, for the level's primes.",
                )
            return polynomials.transformed(values, self.params)
        if encoding is Encoding.SCALAR:
            constant = np.rint(values[0] * scale) / scale
            self._check_size(abs(constant), level, scale)
            return np.full(self.params.slots, constant, dtype=np.complex128)
        slots = np.pad(values.astype(np.complex128), (0, self.params.slots - values.size))
        # What must fit is the largest coefficient; random slots are larger than that.
        largest = largest_coefficient(slots, self.params.ring_degree)
        self._check_size(largest, level, scale)
        return polynomials.rounded(slots, scale, self.params.ring_degree)

    def _encrypted(self, values: Values, scale: float, encoding: Encoding, std: float, who: str) -> EmulatedCiphertext:
        level = self.params.max_level
        return self._ciphertext(
            self._noisy(self._encoded(values, level, scale, encoding, who), std, scale), level, scale
        )


class EmulatedDecryptor(_Role):
    """The client's role."""

    def __init__(self, params: CKKSParams, keys: _EvaluationKeys, rng: np.random.Generator) -> None:
        super().__init__(params, keys.key_id, rng)
        self._keys = keys

    def encrypt(self, values: Values, *, scale: float, encoding: Encoding = SLOTS) -> EmulatedCiphertext:
        std = noise.encryption_std(self.params.ring_degree)
        return self._encrypted(values, scale, encoding, std, "encrypt")

    def decrypt(self, ciphertext: EmulatedCiphertext, *, encoding: Encoding = SLOTS) -> Values:
        check_encoding(encoding, NumPyBackend.capabilities, who=f"{_WHO} decrypt")
        polynomial = self._own(ciphertext).values
        if encoding is Encoding.INTEGERS:
            exact = polynomials.exact(polynomial, ciphertext.level, ciphertext.scale, self.params)
            return polynomials.coefficients(exact, self.params)
        values: Values = polynomials.slots(polynomial, ciphertext.scale, self.params).copy()
        if encoding is not Encoding.COMPLEX_SLOTS:
            values = values.real.copy()
        return values[:1] if encoding is Encoding.SCALAR else values

    def evaluation_keys(self) -> bytes:
        return msgspec.msgpack.encode(self._keys)

    def export_keys(self) -> bytes:
        return msgspec.msgpack.encode(self._keys)  # there is no secret: the key pair is its name


class EmulatedEvaluator(_Role):
    """The server's role."""

    def __init__(self, params: CKKSParams, keys: _EvaluationKeys, rng: np.random.Generator) -> None:
        super().__init__(params, keys.key_id, rng)
        self._steps = frozenset(keys.steps)
        self._public_key = keys.public_key

    def encrypt_public(self, values: Values, *, scale: float, encoding: Encoding = SLOTS) -> EmulatedCiphertext:
        if not self._public_key:
            raise CapabilityMissing(f"{_WHO}: no public key was generated.", hint="Generate keys with public_key=True.")
        std = noise.public_encryption_std(self.params.ring_degree)
        return self._encrypted(values, scale, encoding, std, "encrypt_public")

    def encode(self, values: Values, *, level: int, scale: float, encoding: Encoding = SLOTS) -> EmulatedPlaintext:
        if not 0 <= level <= self.params.max_level:
            raise LevelExhausted(
                f"{_WHO}: encoding at level {level}; there are levels 0 to {self.params.max_level}.",
                hint="Use parameters with more data primes.",
            )
        return EmulatedPlaintext(self._encoded(values, level, scale, encoding, "encode"), level, scale)

    def _own_plaintext(self, plaintext: EmulatedPlaintext) -> EmulatedPlaintext:
        if not isinstance(plaintext, EmulatedPlaintext) or not self._fits_ring(plaintext.values):
            raise ForeignCiphertext(
                f"{_WHO}: this is no plaintext of these parameters.", hint="Use what this evaluator's encode returned."
            )
        return plaintext

    def _fits_ring(self, polynomial: Polynomial) -> bool:
        places = self.params.ring_degree if polynomials.is_exact(polynomial) else self.params.slots
        return bool(polynomial.shape[-1] == places)

    def add(self, left: EmulatedCiphertext, right: EmulatedCiphertext) -> EmulatedCiphertext:
        left, right = self._own(left), self._own(right)
        _same_level_and_scale(left, right, "add")
        return self._sum(left, right)

    def sub(self, left: EmulatedCiphertext, right: EmulatedCiphertext) -> EmulatedCiphertext:
        left, right = self._own(left), self._own(right)
        _same_level_and_scale(left, right, "sub")
        return self._sum(left, self.negate(right))

    def negate(self, ciphertext: EmulatedCiphertext) -> EmulatedCiphertext:
        ciphertext = self._own(ciphertext)
        if not polynomials.is_exact(ciphertext.values):
            return self._like(ciphertext, -ciphertext.values)
        primes = self.params.data_primes[: ciphertext.level + 1]
        return self._like(ciphertext, residues.negative(ciphertext.values, primes))

    def add_plain(self, ciphertext: EmulatedCiphertext, plaintext: EmulatedPlaintext) -> EmulatedCiphertext:
        ciphertext, plaintext = self._own(ciphertext), self._own_plaintext(plaintext)
        _same_level_and_scale(ciphertext, plaintext, "add_plain")
        return self._sum(ciphertext, plaintext)

    def multiply_plain(self, ciphertext: EmulatedCiphertext, plaintext: EmulatedPlaintext) -> EmulatedCiphertext:
        ciphertext, plaintext = self._own(ciphertext), self._own_plaintext(plaintext)
        _same_level(ciphertext.level, plaintext.level, "multiply_plain")
        scale = ciphertext.scale * plaintext.scale
        if math.log2(scale) >= self._modulus_bits(ciphertext.level):
            raise PrecisionLost(
                f"{_WHO}: a product of scale 2^{math.log2(scale):.1f} does not fit the modulus of level "
                f"{ciphertext.level}.",
                hint="Rescale first, or use smaller scales.",
            )
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
        ciphertext = self._own(ciphertext)
        steps %= self.params.slots
        if steps == 0:
            return ciphertext
        if steps not in self._steps:
            raise MissingRotationKey(
                f"{_WHO}: there is no key for a rotation by {steps}.",
                hint="Generate keys for the plan's rotation_steps.",
            )
        std = _keyswitch_stds(
            self.params.ring_degree, self.params.data_bits[: ciphertext.level + 1], sum(self.params.special_bits)
        )
        slots = polynomials.slots(ciphertext.values, ciphertext.scale, self.params)
        rotated = self._noisy(np.roll(slots, -steps), std, ciphertext.scale)
        return self._like(ciphertext, rotated)

    def rotate_many(self, ciphertext: EmulatedCiphertext, steps: Sequence[int]) -> list[EmulatedCiphertext]:
        return [self.rotate(ciphertext, step) for step in steps]

    def rescale(self, ciphertext: EmulatedCiphertext) -> EmulatedCiphertext:
        ciphertext = self._own(ciphertext)
        if ciphertext.level == 0:
            raise LevelExhausted(
                f"{_WHO}: a ciphertext at level 0 cannot be rescaled.",
                hint="Use parameters with one more data prime, or a packing of less depth.",
            )
        scale = ciphertext.scale / self.params.data_primes[ciphertext.level]
        values = ciphertext.values
        if polynomials.is_exact(values):
            values = polynomials.divide_by_last(values, self.params)
        values = self._noisy(values, noise.rescale_std(self.params.ring_degree), scale)
        return self._like(ciphertext, values, level=ciphertext.level - 1, scale=scale)

    def _like(
        self,
        operand: EmulatedCiphertext,
        values: Polynomial,
        *,
        level: int | None = None,
        scale: float | None = None,
    ) -> EmulatedCiphertext:
        """A result of the operand's level and scale, if no others are given."""
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


def _same_level(left: int, right: int, who: str) -> None:
    if left != right:
        raise LevelMismatch(
            f"{_WHO}: {who} of operands at levels {left} and {right}.",
            hint="Encode plaintexts at the ciphertext's level, and rescale both operands equally often.",
        )


def _same_level_and_scale(left: EmulatedCiphertext, right: EmulatedCiphertext | EmulatedPlaintext, who: str) -> None:
    _same_level(left.level, right.level, who)
    if left.scale != right.scale:
        raise ScaleMismatch(
            f"{_WHO}: {who} of operands with scales 2^{math.log2(left.scale):.6f} and 2^{math.log2(right.scale):.6f}.",
            hint="Bring both operands through the same multiplications and rescales.",
        )


class NumPyBackend:
    """The emulation."""

    name = "numpy"
    library_version = f"helora-numpy {version('helora-numpy')}"
    capabilities = Capabilities(
        encodings=frozenset(Encoding) - {Encoding.COEFFICIENTS},  # core makes them of integers
        public_key=True,
        hoisting=True,
        seeded_keys=True,
    )

    def resolve(self, params: CKKSParams) -> CKKSParams:
        primes = distinct_ntt_primes(params.data_bits + params.special_bits, params.ring_degree)
        if primes is None:
            raise InvalidParameters(
                f"{_WHO}: too few primes of {params.data_bits + params.special_bits} bits are 1 mod "
                f"{2 * params.ring_degree}.",
                hint="Use longer primes, or fewer of one length.",
            )
        data = len(params.data_bits)
        return msgspec.structs.replace(params, data_primes=primes[:data], special_primes=primes[data:])

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
    try:
        return msgspec.msgpack.decode(message, type=_EvaluationKeys)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CorruptPayload(
            f"{_WHO}: these bytes are not evaluation keys ({error}).", hint="Send the keys again."
        ) from error
