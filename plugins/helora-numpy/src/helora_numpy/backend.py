"""CKKS emulated in NumPy: a double that is stricter than any real library, and hides nothing.

A "ciphertext" is its slot values in the clear, with level, scale and key id. Every operation adds noise of the size
that CKKS would (``helora_core.params.noise``), and everything that a library may let pass silently is refused: operands
of different scales, levels or keys, rotations without their very key, values that outgrow the modulus.

Only what was encrypted as coefficients may outgrow it: programs mask such integers on purpose, and they wrap around
modulo Q in every library, to the residue of least size. Plaintexts that are coefficients are rounded to integers, in
doubles, so that what is congruent to zero vanishes.
"""

from __future__ import annotations

import functools
import math
import secrets
import struct
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from helora_core.backend.capabilities import Capabilities, Encoding
from helora_core.backend.embedding import ComplexSlots, coefficients_to_slots, slots_to_coefficients
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

FloatArray = NDArray[np.float64]

_WHO = "helora-numpy"
_HEADER = struct.Struct("<4sHd")
_MAGIC = {b"HNPY": False, b"HNPC": True}
"""First bytes of a ciphertext, by whether it is an ``integer_polynomial``."""


@dataclass(frozen=True, eq=False)
class EmulatedCiphertext:
    """Slot values in the clear (complex128, shape (N/2,), read-only), with what CKKS would track about them.

    ``integer_polynomial`` marks what was encrypted as coefficients, and may wrap around.
    """

    values: ComplexSlots
    level: int
    scale: float
    key_id: bytes
    integer_polynomial: bool = False


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
        magic = next(magic for magic, wraps in _MAGIC.items() if wraps == ciphertext.integer_polynomial)
        return _HEADER.pack(magic, ciphertext.level, ciphertext.scale) + ciphertext.values.astype("<c16").tobytes()

    def deserialize(self, payload: bytes) -> EmulatedCiphertext:
        if len(payload) != _HEADER.size + 16 * self.params.slots or payload[:4] not in _MAGIC:
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
            return self._ciphertext(values, level, scale, integer_polynomial=_MAGIC[payload[:4]])
        except PrecisionLost as error:
            raise CorruptPayload(f"{_WHO}: no such ciphertext can exist ({error.message}).", hint=error.hint) from error

    def _own(self, ciphertext: EmulatedCiphertext) -> EmulatedCiphertext:
        if not isinstance(ciphertext, EmulatedCiphertext) or ciphertext.key_id != self.key_id:
            raise ForeignCiphertext(
                f"{_WHO}: this ciphertext was made with other keys.",
                hint="Use ciphertexts of the client whose evaluation keys this server holds.",
            )
        return ciphertext

    def _ciphertext(
        self, values: ComplexSlots, level: int, scale: float, *, integer_polynomial: bool = False
    ) -> EmulatedCiphertext:
        if integer_polynomial:
            values = self._wrapped(values, level, scale)
        else:
            self._check_size(float(np.max(np.abs(values))), level, scale)
        values.flags.writeable = False
        return EmulatedCiphertext(values, level, scale, self.key_id, integer_polynomial)

    def _modulus_bits(self, level: int) -> float:
        return sum(math.log2(prime) for prime in self.params.data_primes[: level + 1])

    def _check_size(self, largest: float, level: int, scale: float, *, spare_bits: int = 1) -> None:
        modulus_bits = self._modulus_bits(level)
        if math.log2(scale) + math.log2(max(largest, 1.0)) >= modulus_bits - spare_bits:
            raise PrecisionLost(
                f"{_WHO}: values up to {largest:g} at scale 2^{math.log2(scale):.1f} wrap around the "
                f"{modulus_bits:.0f}-bit modulus of level {level}.",
                hint="Use smaller values or scales, or a larger base prime.",
            )

    def _wrapped(self, values: ComplexSlots, level: int, scale: float) -> ComplexSlots:
        """The slots of the polynomial whose coefficients are the residues of least size modulo Q."""
        n, period = self.params.ring_degree, math.prod(self.params.data_primes[: level + 1]) / scale
        # No coefficient is larger than the largest slot.
        if float(np.max(np.abs(values))) < period / 2:
            return values
        coefficients = slots_to_coefficients(values, n)
        turns = np.rint(coefficients / period)
        return coefficients_to_slots(coefficients - turns * period, n) if turns.any() else values

    def _noisy(self, values: ComplexSlots, std: float | FloatArray, scale: float) -> ComplexSlots:
        """Values with noise of ``std / scale`` in the real and in the imaginary part."""
        noise_parts: ComplexSlots = self._rng.normal(size=2 * values.size).view(np.complex128)
        return values + noise_parts * (std / scale)

    def _slots(self, values: Values, scale: float, encoding: Encoding, who: str) -> ComplexSlots:
        check_scale(scale, who=f"{_WHO} {who}")
        check_values(values, self.params.slots, who=f"{_WHO} {who}", encoding=encoding)
        if encoding is Encoding.COEFFICIENTS:
            return coefficients_to_slots(np.rint(values * scale) / scale, self.params.ring_degree)
        if encoding is Encoding.SCALAR:
            return np.full(self.params.slots, values[0], dtype=np.complex128)
        return np.pad(values.astype(np.complex128), (0, self.params.slots - values.size))

    def _encoding_std(self, encoding: Encoding) -> float:
        """Of what encoding adds: a scalar rounds once, in the constant coefficient, slots in every coefficient."""
        if encoding is Encoding.COEFFICIENTS:  # rounded already
            return 0.0
        return math.sqrt(1 / 12) if encoding is Encoding.SCALAR else noise.encoding_std(self.params.ring_degree)

    def _check_encodable(self, values: Values, slots: ComplexSlots, level: int, scale: float, who: Encoding) -> None:
        """Refuse what does not fit the modulus; of coefficients, those beyond a quarter of it, as SEAL does."""
        if who is Encoding.COEFFICIENTS:
            self._check_size(float(np.max(np.abs(values))), level, scale, spare_bits=2)
        else:
            self._check_size(float(np.max(np.abs(slots))), level, scale)

    def _encrypted(self, values: Values, scale: float, encoding: Encoding, std: float, who: str) -> EmulatedCiphertext:
        level = self.params.max_level
        slots = self._slots(values, scale, encoding, who)
        self._check_encodable(values, slots, level, scale, encoding)
        noisy = self._noisy(slots, math.hypot(self._encoding_std(encoding), std), scale)
        return self._ciphertext(noisy, level, scale, integer_polynomial=encoding is Encoding.COEFFICIENTS)


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
        if encoding is Encoding.COEFFICIENTS:
            return slots_to_coefficients(values, self.params.ring_degree)
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
        self._check_encodable(values, slots, level, scale, encoding)
        std = self._encoding_std(encoding)
        return EmulatedPlaintext(self._noisy(slots, std, scale) if std else slots, level, scale)

    def _own_plaintext(self, plaintext: EmulatedPlaintext) -> EmulatedPlaintext:
        if not isinstance(plaintext, EmulatedPlaintext) or plaintext.values.size != self.params.slots:
            raise ForeignCiphertext(
                f"{_WHO}: this is no plaintext of these parameters.", hint="Use what this evaluator's encode returned."
            )
        return plaintext

    def add(self, left: EmulatedCiphertext, right: EmulatedCiphertext) -> EmulatedCiphertext:
        left, right = self._own(left), self._own(right)
        _same_level_and_scale(left, right, "add")
        return self._like(left, left.values + right.values, other=right)

    def sub(self, left: EmulatedCiphertext, right: EmulatedCiphertext) -> EmulatedCiphertext:
        left, right = self._own(left), self._own(right)
        _same_level_and_scale(left, right, "sub")
        return self._like(left, left.values - right.values, other=right)

    def negate(self, ciphertext: EmulatedCiphertext) -> EmulatedCiphertext:
        ciphertext = self._own(ciphertext)
        return self._like(ciphertext, -ciphertext.values)

    def add_plain(self, ciphertext: EmulatedCiphertext, plaintext: EmulatedPlaintext) -> EmulatedCiphertext:
        ciphertext, plaintext = self._own(ciphertext), self._own_plaintext(plaintext)
        _same_level_and_scale(ciphertext, plaintext, "add_plain")
        return self._like(ciphertext, ciphertext.values + plaintext.values)

    def multiply_plain(self, ciphertext: EmulatedCiphertext, plaintext: EmulatedPlaintext) -> EmulatedCiphertext:
        ciphertext, plaintext = self._own(ciphertext), self._own_plaintext(plaintext)
        _same_level(ciphertext.level, plaintext.level, "multiply_plain")
        product = ciphertext.values * plaintext.values
        return self._like(ciphertext, product, scale=ciphertext.scale * plaintext.scale)

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
        rotated = self._noisy(np.roll(ciphertext.values, -steps), std, ciphertext.scale)
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
        values = self._noisy(ciphertext.values, noise.rescale_std(self.params.ring_degree), scale)
        return self._like(ciphertext, values, level=ciphertext.level - 1, scale=scale)

    def _like(
        self,
        operand: EmulatedCiphertext,
        values: ComplexSlots,
        *,
        level: int | None = None,
        scale: float | None = None,
        other: EmulatedCiphertext | None = None,
    ) -> EmulatedCiphertext:
        """A result of the operand's level and scale, if no others are given."""
        return self._ciphertext(
            values,
            operand.level if level is None else level,
            operand.scale if scale is None else scale,
            integer_polynomial=operand.integer_polynomial or (other is not None and other.integer_polynomial),
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
    capabilities = Capabilities(
        encodings=frozenset(Encoding),
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
