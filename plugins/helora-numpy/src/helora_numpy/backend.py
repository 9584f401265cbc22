"""CKKS emulated in NumPy: a double that is stricter than any real library, and hides nothing.

A "ciphertext" is its slot values in the clear, with level, scale and key id. Every operation adds noise of the size
that CKKS would (``helora_core.params.noise``), and everything that a library may let pass silently is refused: operands
of different scales, levels or keys, rotations without their very key, values that outgrow the modulus.
"""

from __future__ import annotations

import math
import secrets
import struct
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from helora_core.backend.capabilities import Capabilities, Encoding
from helora_core.backend.embedding import ComplexSlots
from helora_core.backend.protocol import SLOTS, Values
from helora_core.backend.values import check_scale, check_values
from helora_core.errors import (
    CapabilityMissing,
    CorruptPayload,
    ForeignCiphertext,
    InvalidParameters,
    LevelExhausted,
    LevelMismatch,
    MissingRotationKey,
    PrecisionLost,
    ScaleMismatch,
)
from helora_core.params import noise
from helora_core.params.ckks import CKKSParams
from helora_numpy.primes import distinct_ntt_primes

_WHO = "helora-numpy"
_HEADER = struct.Struct("<4sHd")
_MAGIC = b"HNPY"


@dataclass(frozen=True, eq=False)
class EmulatedCiphertext:
    """Slot values in the clear (complex128, shape (N/2,), read-only), with what CKKS would track about them."""

    values: ComplexSlots
    level: int
    scale: float
    key_id: bytes


@dataclass(frozen=True, eq=False)
class EmulatedPlaintext:
    """Encoded slot values, for ciphertexts at ``level``."""

    values: ComplexSlots
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
        self._own(ciphertext)
        return _HEADER.pack(_MAGIC, ciphertext.level, ciphertext.scale) + ciphertext.values.astype("<c16").tobytes()

    def deserialize(self, payload: bytes) -> EmulatedCiphertext:
        if len(payload) != _HEADER.size + 16 * self.params.slots or payload[:4] != _MAGIC:
            raise CorruptPayload(
                f"{_WHO}: {len(payload)} bytes are not a ciphertext of {self.params.slots} slots.",
                hint="Send the ciphertext again, and check that both sides use the same parameters.",
            )
        _, level, scale = _HEADER.unpack_from(payload)
        values: ComplexSlots = np.frombuffer(payload, "<c16", offset=_HEADER.size).astype(np.complex128)
        if level > self.params.max_level or not (math.isfinite(scale) and scale > 0 and np.isfinite(values).all()):
            raise CorruptPayload(
                f"{_WHO}: a ciphertext of level {level} and scale {scale} cannot exist.",
                hint="Send the ciphertext again.",
            )
        try:
            return self._ciphertext(values, level, scale)
        except PrecisionLost as error:
            raise CorruptPayload(f"{_WHO}: no such ciphertext can exist ({error.message}).", hint=error.hint) from error

    def _own(self, ciphertext: EmulatedCiphertext) -> EmulatedCiphertext:
        if not isinstance(ciphertext, EmulatedCiphertext) or ciphertext.key_id != self.key_id:
            raise ForeignCiphertext(
                f"{_WHO}: this ciphertext was made with other keys.",
                hint="Use ciphertexts of the client whose evaluation keys this server holds.",
            )
        return ciphertext

    def _ciphertext(self, values: ComplexSlots, level: int, scale: float) -> EmulatedCiphertext:
        self._check_size(values, level, scale)
        values.flags.writeable = False
        return EmulatedCiphertext(values, level, scale, self.key_id)

    def _check_size(self, values: ComplexSlots, level: int, scale: float) -> None:
        modulus_bits = sum(math.log2(prime) for prime in self.params.data_primes[: level + 1])
        largest = float(np.max(np.abs(values)))
        if math.log2(scale) + math.log2(max(largest, 1.0)) >= modulus_bits - 1:
            raise PrecisionLost(
                f"{_WHO}: values up to {largest:g} at scale 2^{math.log2(scale):.1f} wrap around the "
                f"{modulus_bits:.0f}-bit modulus of level {level}.",
                hint="Use smaller values or scales, or a larger base prime.",
            )

    def _noisy(self, values: ComplexSlots, std: float, scale: float) -> ComplexSlots:
        """Values with noise of ``std / scale`` in the real and in the imaginary part."""
        noise_parts = self._rng.normal(0.0, std / scale, 2 * values.size)
        return values + noise_parts.view(np.complex128)

    def _slots(self, values: Values, scale: float, encoding: Encoding, who: str) -> ComplexSlots:
        check_scale(scale, who=f"{_WHO} {who}")
        check_values(values, self.params.slots, who=f"{_WHO} {who}", encoding=encoding)
        if encoding is Encoding.SCALAR:
            return np.full(self.params.slots, values[0], dtype=np.complex128)
        return np.pad(values.astype(np.complex128), (0, self.params.slots - values.size))

    def _encrypted(self, values: Values, scale: float, encoding: Encoding, std: float, who: str) -> EmulatedCiphertext:
        std = math.hypot(noise.encoding_std(self.params.ring_degree), std)
        slots = self._slots(values, scale, encoding, who)
        return self._ciphertext(self._noisy(slots, std, scale), self.params.max_level, scale)


class EmulatedDecryptor(_Role):
    """The client's role."""

    def __init__(self, params: CKKSParams, keys: _EvaluationKeys, rng: np.random.Generator) -> None:
        super().__init__(params, keys.key_id, rng)
        self._keys = keys

    def encrypt(self, values: Values, *, scale: float, encoding: Encoding = SLOTS) -> EmulatedCiphertext:
        std = noise.encryption_std(self.params.ring_degree)
        return self._encrypted(values, scale, encoding, std, "encrypt")

    def decrypt(self, ciphertext: EmulatedCiphertext, *, encoding: Encoding = SLOTS) -> Values:
        values: Values = self._own(ciphertext).values.copy()
        if encoding is not Encoding.COMPLEX_SLOTS:
            values = values.real.copy()
        return values[:1] if encoding is Encoding.SCALAR else values

    def evaluation_keys(self) -> bytes:
        return msgspec.msgpack.encode(self._keys)


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
        slots = self._slots(values, scale, encoding, "encode")
        if not 0 <= level <= self.params.max_level:
            raise LevelExhausted(
                f"{_WHO}: encoding at level {level}; there are levels 0 to {self.params.max_level}.",
                hint="Use parameters with more data primes.",
            )
        self._check_size(slots, level, scale)
        # A scalar rounds once, in the constant coefficient; anything else rounds in every coefficient.
        std = math.sqrt(1 / 12) if encoding is Encoding.SCALAR else noise.encoding_std(self.params.ring_degree)
        return EmulatedPlaintext(self._noisy(slots, std, scale), level, scale)

    def _own_plaintext(self, plaintext: EmulatedPlaintext) -> EmulatedPlaintext:
        if not isinstance(plaintext, EmulatedPlaintext) or plaintext.values.size != self.params.slots:
            raise ForeignCiphertext(
                f"{_WHO}: this is no plaintext of these parameters.", hint="Use what this evaluator's encode returned."
            )
        return plaintext

    def add(self, left: EmulatedCiphertext, right: EmulatedCiphertext) -> EmulatedCiphertext:
        left, right = self._own(left), self._own(right)
        _same_level_and_scale(left, right, "add")
        return self._ciphertext(left.values + right.values, left.level, left.scale)

    def sub(self, left: EmulatedCiphertext, right: EmulatedCiphertext) -> EmulatedCiphertext:
        left, right = self._own(left), self._own(right)
        _same_level_and_scale(left, right, "sub")
        return self._ciphertext(left.values - right.values, left.level, left.scale)

    def negate(self, ciphertext: EmulatedCiphertext) -> EmulatedCiphertext:
        ciphertext = self._own(ciphertext)
        return self._ciphertext(-ciphertext.values, ciphertext.level, ciphertext.scale)

    def add_plain(self, ciphertext: EmulatedCiphertext, plaintext: EmulatedPlaintext) -> EmulatedCiphertext:
        ciphertext, plaintext = self._own(ciphertext), self._own_plaintext(plaintext)
        _same_level_and_scale(ciphertext, plaintext, "add_plain")
        return self._ciphertext(ciphertext.values + plaintext.values, ciphertext.level, ciphertext.scale)

    def multiply_plain(self, ciphertext: EmulatedCiphertext, plaintext: EmulatedPlaintext) -> EmulatedCiphertext:
        ciphertext, plaintext = self._own(ciphertext), self._own_plaintext(plaintext)
        _same_level(ciphertext.level, plaintext.level, "multiply_plain")
        product = ciphertext.values * plaintext.values
        return self._ciphertext(product, ciphertext.level, ciphertext.scale * plaintext.scale)

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
        std = noise.keyswitch_std(
            self.params.ring_degree, self.params.data_bits[: ciphertext.level + 1], sum(self.params.special_bits)
        )
        rotated = self._noisy(np.roll(ciphertext.values, -steps), std, ciphertext.scale)
        return self._ciphertext(rotated, ciphertext.level, ciphertext.scale)

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
        values = self._noisy(ciphertext.values, noise.rescale_std(self.params.ring_degree), scale)
        return self._ciphertext(values, ciphertext.level - 1, scale)


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
    capabilities = Capabilities(
        encodings=frozenset({Encoding.SLOTS, Encoding.COMPLEX_SLOTS, Encoding.SCALAR}),
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
        try:
            keys = msgspec.msgpack.decode(evaluation_keys, type=_EvaluationKeys)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise CorruptPayload(
                f"{_WHO}: these bytes are not evaluation keys ({error}).", hint="Send the keys again."
            ) from error
        return EmulatedEvaluator(params, keys, np.random.default_rng())
