"""Microsoft SEAL through ``tenseal.sealapi``.

``tenseal.CKKSVector`` cannot rotate or rescale, so this builds on the bindings below it. Fresh ciphertexts are
symmetric: they travel as one polynomial and a seed, half the size. Rotation keys are made for exactly the Galois
elements of the plan's steps; with SEAL's default keys a rotation would be composed of several key switches behind the
ledger's back.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Collection
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import msgspec
import numpy as np
import tenseal.sealapi as seal

from helora_core.backend.capabilities import Capabilities, Encoding
from helora_core.backend.embedding import largest_coefficient
from helora_core.backend.protocol import SLOTS, Values
from helora_core.backend.values import check_encoding, check_scale, check_values
from helora_core.errors import (
    CapabilityMissing,
    CorruptPayload,
    ForeignCiphertext,
    InvalidInput,
    LevelExhausted,
    LevelMismatch,
    MissingRotationKey,
    PrecisionLost,
    ScaleMismatch,
)
from helora_core.params.ckks import CKKSParams
from helora_tenseal.context import Context, resolve
from helora_tenseal.residues import from_plaintext, to_plaintext
from helora_tenseal.seal_bytes import load, saved

_WHO = "helora-tenseal"


@dataclass(frozen=True, eq=False)
class SEALCiphertext:
    """A SEAL ciphertext and the name of its key pair."""

    data: Any
    key_id: bytes


@dataclass(frozen=True, eq=False)
class FreshCiphertext:
    """What the client encrypts: SEAL's serialisable form, one polynomial and the seed of the other, as bytes."""

    payload: bytes
    scale: float
    key_id: bytes


@dataclass(frozen=True, eq=False)
class SEALPlaintext:
    """An encoded plaintext, in the NTT form of its level."""

    data: Any
    level: int
    scale: float


class _EvaluationKeys(msgspec.Struct, forbid_unknown_fields=True):
    steps: list[int]
    key_id: bytes
    galois_keys: bytes
    public_key: bytes


class _ExportedKeys(msgspec.Struct, forbid_unknown_fields=True):
    """What a client puts away. Rotation keys are made anew of the secret key."""

    secret_key: bytes
    steps: list[int]
    key_id: bytes
    public_key: bool


class _Role:
    """What client and server share. It has no key."""

    def __init__(self, context: Context, key_id: bytes) -> None:
        self.key_id = key_id
        self._context = context

    def level(self, ciphertext: SEALCiphertext | FreshCiphertext) -> int:
        self._check_key(ciphertext)
        if isinstance(ciphertext, FreshCiphertext):
            return self._context.params.max_level
        level = self._context.level(ciphertext.data)
        if level is None:
            raise self._foreign("is not of these parameters")
        return level

    def scale(self, ciphertext: SEALCiphertext | FreshCiphertext) -> float:
        self._check_key(ciphertext)
        return float(ciphertext.scale if isinstance(ciphertext, FreshCiphertext) else ciphertext.data.scale)

    def serialize(self, ciphertext: SEALCiphertext | FreshCiphertext) -> bytes:
        self._check_key(ciphertext)
        return ciphertext.payload if isinstance(ciphertext, FreshCiphertext) else saved(ciphertext.data.save)

    def deserialize(self, payload: bytes) -> SEALCiphertext:
        data = seal.Ciphertext(self._context.seal)
        try:
            load(payload, lambda path: data.load(self._context.seal, path))
        except (ValueError, RuntimeError, MemoryError) as error:
            raise CorruptPayload(
                f"{_WHO}: SEAL cannot read the ciphertext ({error}).",
                hint="Send it again, and check that both sides use the same parameters.",
            ) from error
        return SEALCiphertext(data, self.key_id)

    def _own(self, ciphertext: SEALCiphertext | FreshCiphertext) -> SEALCiphertext:
        """The ciphertext, in the form that SEAL computes on."""
        self._check_key(ciphertext)
        return self.deserialize(ciphertext.payload) if isinstance(ciphertext, FreshCiphertext) else ciphertext

    def _check_key(self, ciphertext: SEALCiphertext | FreshCiphertext) -> None:
        if not isinstance(ciphertext, SEALCiphertext | FreshCiphertext) or ciphertext.key_id != self.key_id:
            raise self._foreign("was made with other keys")

    def _foreign(self, what: str) -> ForeignCiphertext:
        return ForeignCiphertext(
            f"{_WHO}: this ciphertext {what}.",
            hint="Use ciphertexts of the client whose evaluation keys this server holds.",
        )

    def _encode(self, values: Values, level: int, scale: float, encoding: Encoding, who: str) -> Any:
        params = self._context.params
        check_encoding(encoding, TenSEALBackend.capabilities, who=f"{_WHO} {who}")
        check_scale(scale, who=f"{_WHO} {who}")
        check_values(values, params.slots, who=f"{_WHO} {who}", encoding=encoding)
        if not 0 <= level <= params.max_level:
            raise LevelExhausted(
                f"{_WHO}: encoding at level {level}; there are levels 0 to {params.max_level}.",
                hint="Use parameters with more data primes.",
            )
        if encoding is Encoding.INTEGERS:
            return self._encode_integers(values, level, scale, who)
        plaintext = seal.Plaintext()
        try:
            # Asked of SEAL alone, some versions wrap around silently.
            if not self._fits(values, level, scale, encoding):
                raise ValueError("encoded values are too large")
            # SEAL encodes a single number as the constant polynomial, without a transform.
            places = float(values[0]) if encoding is Encoding.SCALAR else values
            self._context.encoder.encode(places, self._context.parms_ids[level], scale, plaintext)
        except ValueError as error:
            raise PrecisionLost(
                f"{_WHO}: values at scale 2^{math.log2(scale):.1f} do not fit the modulus of level {level} ({error}).",
                hint="Use smaller values or scales, or a larger base prime.",
            ) from error
        return plaintext

    def _encode_integers(self, residues: Values, level: int, scale: float, who: str) -> Any:
        primes = self._context.params.data_primes[: level + 1]
        if len(residues) != len(primes) or (residues >= np.array(primes, dtype=np.uint64)[:, np.newaxis]).any():
            raise InvalidInput(
                f"{_WHO} {who}: {len(residues)} rows of residues are not those of the {len(primes)} primes of level "
                f"{level}.",
                hint="Make them with helora_core.backend.residues, for the level's primes.",
            )
        return to_plaintext(residues, primes, self._context.seal, self._context.parms_ids[level], scale)

    def _fits(self, values: Values, level: int, scale: float, encoding: Encoding) -> bool:
        """Whether the encoded polynomial fits the modulus: surely if its slots do, and else if its coefficients do."""
        params = self._context.params
        spare_bits = params.modulus_bits_at(level) - math.log2(scale)
        slot_bits = math.log2(max(float(np.max(np.abs(values))), 1.0))
        if slot_bits < spare_bits:
            return True
        # A scalar is a coefficient itself; and some coefficient is at least 1/N of the largest slot.
        if encoding is Encoding.SCALAR or not 0 < spare_bits >= slot_bits - math.log2(params.ring_degree):
            return False
        largest = largest_coefficient(values, params.ring_degree, TenSEALBackend.capabilities.slot_generator)
        return math.log2(largest * scale) < math.log2(math.prod(params.data_primes[: level + 1])) - 1


class TenSEALDecryptor(_Role):
    """The client's role, with the secret key."""

    def __init__(
        self, context: Context, steps: Collection[int], key_id: bytes, *, public_key: bool, secret_key: Any = None
    ) -> None:
        super().__init__(context, key_id)
        keygen = seal.KeyGenerator(context.seal, *(() if secret_key is None else (secret_key,)))
        secret_key = keygen.secret_key()
        self._secret_key = secret_key
        self._encryptor = seal.Encryptor(context.seal, secret_key)
        self._decryptor = seal.Decryptor(context.seal, secret_key)
        elements = [context.galois_element(step) for step in sorted(steps)]
        galois_keys = saved(keygen.create_galois_keys(elements).save) if elements else b""
        public = b""
        if public_key:
            key = seal.PublicKey()
            keygen.create_public_key(key)
            public = saved(key.save)
        self._evaluation_keys = msgspec.msgpack.encode(_EvaluationKeys(sorted(steps), key_id, galois_keys, public))
        self._exported = sorted(steps), public_key

    def encrypt(self, values: Values, *, scale: float, encoding: Encoding = SLOTS) -> FreshCiphertext:
        plaintext = self._encode(values, self._context.params.max_level, scale, encoding, "encrypt")
        payload = saved(self._encryptor.encrypt_symmetric(plaintext).save)
        return FreshCiphertext(payload, scale, self.key_id)

    def decrypt(self, ciphertext: SEALCiphertext | FreshCiphertext, *, encoding: Encoding = SLOTS) -> Values:
        check_encoding(encoding, TenSEALBackend.capabilities, who=f"{_WHO} decrypt")
        plaintext = seal.Plaintext()
        self._decryptor.decrypt(self._own(ciphertext).data, plaintext)
        if encoding is Encoding.INTEGERS:
            return from_plaintext(plaintext, self._context.params.data_primes[: self.level(ciphertext) + 1])
        if encoding is Encoding.COMPLEX_SLOTS:
            return np.array(self._context.encoder.decode_complex(plaintext), dtype=np.complex128)
        values = np.array(self._context.encoder.decode_double(plaintext), dtype=np.float64)
        return values[:1] if encoding is Encoding.SCALAR else values

    def evaluation_keys(self) -> bytes:
        return self._evaluation_keys

    def export_keys(self) -> bytes:
        steps, public_key = self._exported
        return msgspec.msgpack.encode(_ExportedKeys(saved(self._secret_key.save), steps, self.key_id, public_key))


class TenSEALEvaluator(_Role):
    """The server's role: rotation keys, read from what the client sent, and no others."""

    def __init__(self, context: Context, keys: _EvaluationKeys) -> None:
        super().__init__(context, keys.key_id)
        self._evaluator = seal.Evaluator(context.seal)
        self._steps = frozenset(keys.steps)
        self._galois_keys = seal.GaloisKeys()
        if keys.steps:
            _load_key(self._galois_keys, keys.galois_keys, context)
        # SEAL would compose a step whose key is missing of others that are there.
        if not all(self._galois_keys.has_key(context.galois_element(step)) for step in keys.steps):
            raise CorruptPayload(
                f"{_WHO}: the evaluation keys do not hold a key for every step they name.", hint="Send the keys again."
            )
        self._encryptor = None
        if keys.public_key:
            public_key = seal.PublicKey()
            _load_key(public_key, keys.public_key, context)
            self._encryptor = seal.Encryptor(context.seal, public_key)

    def encrypt_public(self, values: Values, *, scale: float, encoding: Encoding = SLOTS) -> SEALCiphertext:
        if self._encryptor is None:
            raise CapabilityMissing(f"{_WHO}: no public key was generated.", hint="Generate keys with public_key=True.")
        plaintext = self._encode(values, self._context.params.max_level, scale, encoding, "encrypt_public")
        ciphertext = seal.Ciphertext()
        self._encryptor.encrypt(plaintext, ciphertext)
        return SEALCiphertext(ciphertext, self.key_id)

    def encode(self, values: Values, *, level: int, scale: float, encoding: Encoding = SLOTS) -> SEALPlaintext:
        plaintext = self._encode(values, level, scale, encoding, "encode")
        if encoding is not Encoding.INTEGERS and plaintext.is_zero():
            # SEAL refuses products with the zero polynomial, whose result would be a ciphertext without secret. The
            # polynomial 1 stands for 1/scale in every slot: within the rounding error of any encoding.
            self._context.encoder.encode(1.0 / scale, self._context.parms_ids[level], scale, plaintext)
        return SEALPlaintext(plaintext, level, scale)

    def _own_plaintext(self, plaintext: SEALPlaintext) -> SEALPlaintext:
        if not isinstance(plaintext, SEALPlaintext) or self._context.level(plaintext.data) is None:
            raise ForeignCiphertext(
                f"{_WHO}: this is no plaintext of these parameters.", hint="Use what this evaluator's encode returned."
            )
        return plaintext

    def add(self, left: SEALCiphertext, right: SEALCiphertext) -> SEALCiphertext:
        return self._linear(self._evaluator.add, left, right, "add")

    def sub(self, left: SEALCiphertext, right: SEALCiphertext) -> SEALCiphertext:
        return self._linear(self._evaluator.sub, left, right, "sub")

    def _linear(self, operation: Any, left: SEALCiphertext, right: SEALCiphertext, who: str) -> SEALCiphertext:
        left, right = self._own(left), self._own(right)
        _same_level(self.level(left), self.level(right), who)
        _same_scale(left.data.scale, right.data.scale, who)
        return self._done(operation, left, right.data)

    def negate(self, ciphertext: SEALCiphertext) -> SEALCiphertext:
        return self._done(self._evaluator.negate, self._own(ciphertext))

    def add_plain(self, ciphertext: SEALCiphertext, plaintext: SEALPlaintext) -> SEALCiphertext:
        ciphertext, plaintext = self._own(ciphertext), self._own_plaintext(plaintext)
        _same_level(self.level(ciphertext), plaintext.level, "add_plain")
        _same_scale(ciphertext.data.scale, plaintext.scale, "add_plain")
        return self._done(self._evaluator.add_plain, ciphertext, plaintext.data)

    def multiply_plain(self, ciphertext: SEALCiphertext, plaintext: SEALPlaintext) -> SEALCiphertext:
        ciphertext, plaintext = self._own(ciphertext), self._own_plaintext(plaintext)
        _same_level(self.level(ciphertext), plaintext.level, "multiply_plain")
        try:
            return self._done(self._evaluator.multiply_plain, ciphertext, plaintext.data)
        except ValueError as error:
            raise PrecisionLost(
                f"{_WHO}: a product of scales 2^{math.log2(ciphertext.data.scale):.1f} and "
                f"2^{math.log2(plaintext.scale):.1f} does not fit the modulus of level {plaintext.level} ({error}).",
                hint="Rescale first, or use smaller scales.",
            ) from error

    def rotate(self, ciphertext: SEALCiphertext, steps: int) -> SEALCiphertext:
        ciphertext = self._own(ciphertext)
        steps %= self._context.params.slots
        if steps == 0:
            return ciphertext
        if steps not in self._steps:
            raise MissingRotationKey(
                f"{_WHO}: there is no key for a rotation by {steps}.",
                hint="Generate keys for the plan's rotation_steps.",
            )
        return self._done(self._evaluator.rotate_vector, ciphertext, steps, self._galois_keys)

    def rescale(self, ciphertext: SEALCiphertext) -> SEALCiphertext:
        ciphertext = self._own(ciphertext)
        if self.level(ciphertext) == 0:
            raise LevelExhausted(
                f"{_WHO}: a ciphertext at level 0 cannot be rescaled.",
                hint="Use parameters with one more data prime, or a packing of less depth.",
            )
        return self._done(self._evaluator.rescale_to_next, ciphertext)

    def _done(self, operation: Callable[..., object], ciphertext: SEALCiphertext, *operands: Any) -> SEALCiphertext:
        """What a method of SEAL's evaluator makes of the ciphertext."""
        result = seal.Ciphertext()
        try:
            operation(ciphertext.data, *operands, result)
        except RuntimeError as error:
            # SEAL completes its result and then refuses it if its second polynomial is zero, as that of x − x is:
            # anyone could read it. It is right, and those who computed it know what it says.
            if "transparent" not in str(error):
                raise
        return SEALCiphertext(result, self.key_id)


def _same_level(left: int, right: int, who: str) -> None:
    if left != right:
        raise LevelMismatch(
            f"{_WHO}: {who} of operands at levels {left} and {right}.",
            hint="Encode plaintexts at the ciphertext's level, and rescale both operands equally often.",
        )


def _same_scale(left: float, right: float, who: str) -> None:
    if left != right:
        raise ScaleMismatch(
            f"{_WHO}: {who} of operands with scales 2^{math.log2(left):.6f} and 2^{math.log2(right):.6f}.",
            hint="Bring both operands through the same multiplications and rescales.",
        )


def _load_key(key: Any, payload: bytes, context: Context) -> None:
    try:
        load(payload, lambda path: key.load(context.seal, path))
    except (ValueError, RuntimeError, MemoryError) as error:
        raise CorruptPayload(
            f"{_WHO}: SEAL cannot read the evaluation keys ({error}).",
            hint="Send the keys again, and check that both sides use the same parameters.",
        ) from error


class TenSEALBackend:
    """TenSEAL."""

    name = "tenseal"
    capabilities = Capabilities(
        encodings=frozenset({Encoding.SLOTS, Encoding.COMPLEX_SLOTS, Encoding.SCALAR, Encoding.INTEGERS}),
        slot_generator=3,
        public_key=True,
        compressed_upload=True,
    )

    @property
    def library_version(self) -> str:
        return f"tenseal {version('tenseal')}"

    def resolve(self, params: CKKSParams) -> CKKSParams:
        return resolve(params)

    def generate_keys(
        self,
        params: CKKSParams,
        rotation_steps: Collection[int],
        *,
        public_key: bool = False,
        seed: int | None = None,
    ) -> tuple[TenSEALDecryptor, TenSEALEvaluator]:
        if seed is not None:
            raise CapabilityMissing(
                f"{_WHO}: keys cannot be made from a seed.",
                hint="Leave the seed out; use the emulation for repeatable runs.",
            )
        decryptor = TenSEALDecryptor(Context(params), rotation_steps, secrets.token_bytes(16), public_key=public_key)
        return decryptor, self.load_evaluator(params, decryptor.evaluation_keys())

    def load_evaluator(self, params: CKKSParams, evaluation_keys: bytes) -> TenSEALEvaluator:
        try:
            keys = msgspec.msgpack.decode(evaluation_keys, type=_EvaluationKeys)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise CorruptPayload(
                f"{_WHO}: these bytes are not evaluation keys ({error}).", hint="Send the keys again."
            ) from error
        return TenSEALEvaluator(Context(params), keys)

    def restore_keys(self, params: CKKSParams, exported: bytes) -> TenSEALDecryptor:
        try:
            keys = msgspec.msgpack.decode(exported, type=_ExportedKeys)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise CorruptPayload(f"{_WHO}: these bytes are not a client's keys.", hint="Export them again.") from error
        context, secret_key = Context(params), seal.SecretKey()
        _load_key(secret_key, keys.secret_key, context)
        return TenSEALDecryptor(context, keys.steps, keys.key_id, public_key=keys.public_key, secret_key=secret_key)
