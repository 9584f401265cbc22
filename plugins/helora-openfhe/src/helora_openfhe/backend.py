"""OpenFHE.

Its Python bindings keep rotation keys in a table of the process, by the tag of the key pair: two key pairs do not mix,
and this backend asks the table for nothing but the steps it made keys for.

The plaintext scale is one for all (``ScalingModSize``). Under FIXEDMANUAL it is a label that no arithmetic looks at:
it is reset after each product and rescale, and ``helora_core.backend.fixed_scale`` keeps what scales really are.
Under FLEXIBLEAUTO the library's scales decide when it rescales, and a plan's must be the parameters' own.
"""

from __future__ import annotations

import math
import os
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import msgspec
import numpy as np

from helora_core.backend.capabilities import Capabilities, Encoding, RescaleMode
from helora_core.backend.embedding import largest_coefficient
from helora_core.backend.fixed_scale import ScaledDecryptor, ScaledEvaluator
from helora_core.backend.protocol import SLOTS, Decryptor, Evaluator, Values
from helora_core.backend.values import check_scale, check_values
from helora_core.errors import (
    BackendUnavailable,
    CapabilityMissing,
    CorruptPayload,
    ForeignCiphertext,
    LevelExhausted,
    LevelMismatch,
    MissingRotationKey,
    PrecisionLost,
)
from helora_core.params.ckks import CKKSParams
from helora_openfhe.context import make_context, resolve, unit_bits
from helora_openfhe.library import openfhe
from helora_openfhe.payload import opened, sealed
from helora_openfhe.rounding import HalfUnits

_WHO = "helora-openfhe"
_CALLER = "Use ciphertexts of the client whose evaluation keys this server holds."


@dataclass(frozen=True, eq=False)
class OpenFHECiphertext:
    """An OpenFHE ciphertext and the name of its key pair."""

    data: Any
    key_id: bytes


@dataclass(frozen=True, eq=False)
class OpenFHEPlaintext:
    """An encoded plaintext for ciphertexts at ``level``."""

    data: Any
    level: int
    ring_degree: int


class _EvaluationKeys(msgspec.Struct, forbid_unknown_fields=True):
    steps: list[int]
    key_id: bytes
    key_tag: str
    rotation_keys: bytes
    public_key: bytes


class _ExportedKeys(msgspec.Struct, forbid_unknown_fields=True):
    """What a client puts away. Rotation keys are made anew of the secret key."""

    secret_key: bytes
    public_key: bytes
    steps: list[int]
    key_id: bytes
    sends_public_key: bool


class _Role:
    """What client and server share. It has no key."""

    def __init__(self, context: Any, params: CKKSParams, rescale: RescaleMode, key_id: bytes, key_tag: str) -> None:
        self.key_id = key_id
        self._context = context
        self._params = params
        self._explicit = rescale is RescaleMode.EXPLICIT
        self._unit_bits = unit_bits(params)
        self._key_tag = key_tag
        self._process = os.getpid()

    def level(self, ciphertext: OpenFHECiphertext) -> int:
        data = self._own(ciphertext).data
        # OpenFHE counts levels used. What FLEXIBLEAUTO has not rescaled yet, it will before the next product.
        pending = 0 if self._explicit else data.GetNoiseScaleDeg() - 1
        return int(self._params.max_level - data.GetLevel() - pending)

    def scale(self, ciphertext: OpenFHECiphertext) -> float:
        return float(self._own(ciphertext).data.GetScalingFactor())

    def serialize(self, ciphertext: OpenFHECiphertext) -> bytes:
        return sealed(openfhe.Serialize(self._own(ciphertext).data, openfhe.BINARY))

    def deserialize(self, payload: bytes) -> OpenFHECiphertext:
        body = opened(payload, "a ciphertext")
        try:
            data = openfhe.DeserializeCiphertextString(body, openfhe.BINARY)
        except RuntimeError as error:
            raise CorruptPayload(
                f"{_WHO}: OpenFHE cannot read the ciphertext ({error}).", hint="Send it again."
            ) from error
        made_with = data.GetCryptoContext()
        same_ring = made_with.GetRingDimension() == self._context.GetRingDimension()
        if not same_ring or made_with.GetModulus() != self._context.GetModulus():
            raise CorruptPayload(
                f"{_WHO}: these are bytes of a ciphertext of other parameters.",
                hint="Compile the same plan on both sides.",
            )
        # The bytes name the keys they were made with; read by a server of other keys, they must be taken for that.
        data.SetKeyTag(self._key_tag)
        return self._made(data)

    def _made(self, data: Any) -> OpenFHECiphertext:
        if self._explicit:
            data.SetNoiseScaleDeg(1)
            data.SetScalingFactor(2.0**self._unit_bits)
        return OpenFHECiphertext(data, self.key_id)

    def _own(self, ciphertext: OpenFHECiphertext) -> OpenFHECiphertext:
        if not isinstance(ciphertext, OpenFHECiphertext) or ciphertext.key_id != self.key_id:
            raise ForeignCiphertext(f"{_WHO}: this ciphertext was made with other keys.", hint=_CALLER)
        return ciphertext

    def _encode(self, values: Values, level: int, scale: float, encoding: Encoding, who: str) -> Any:
        params = self._params
        check_values(values, params.slots, who=f"{_WHO} {who}", encoding=encoding)
        if not 0 <= level <= params.max_level:
            raise LevelExhausted(
                f"{_WHO}: encoding at level {level}; there are levels 0 to {params.max_level}.",
                hint="Use parameters with more data primes.",
            )
        check_scale(scale, who=f"{_WHO} {who}")
        if scale != 2.0**self._unit_bits:
            raise CapabilityMissing(
                f"{_WHO}: every plaintext has the scale 2^{self._unit_bits}, not 2^{math.log2(scale):.1f}.",
                hint="Use plans whose scales are the parameters' own, as choose_params makes them.",
            )
        if os.getpid() != self._process:
            raise BackendUnavailable(
                f"{_WHO}: this process was forked from the one that made the keys, and OpenFHE's random generator with "
                "it: both would encrypt with the same errors.",
                hint="Make keys in the process that uses them, or start workers by spawning.",
            )
        if not self._fits(values, level, encoding):
            raise PrecisionLost(
                f"{_WHO}: values at their scale do not fit the {params.modulus_bits_at(level)} bits of modulus "
                f"at level {level}.",
                hint="Use smaller values or scales, or a larger base prime.",
            )
        if encoding is Encoding.SCALAR:
            values = np.full(params.slots, values[0])
        depth = params.max_level - level
        try:
            return self._context.MakeCKKSPackedPlaintext(values, 1, depth)
        except RuntimeError as error:
            if "Scaling factor too small" not in str(error):
                raise
            # OpenFHE refuses values that round to the zero polynomial; to round them is what was asked.
            return self._context.MakeCKKSPackedPlaintext(np.zeros(params.slots), 1, depth)

    def _fits(self, values: Values, level: int, encoding: Encoding) -> bool:
        """Whether the encoded polynomial fits the modulus: surely if its slots do, and else if its coefficients do."""
        params = self._params
        largest = float(np.max(np.abs(values)))
        if largest == 0:
            return True
        # Residues end at half the modulus.
        spare_bits = math.log2(math.prod(params.data_primes[: level + 1])) - 1 - self._unit_bits
        slot_bits = math.log2(largest)
        if slot_bits < spare_bits:
            return True
        # A scalar is a coefficient itself; and some coefficient is at least 1/N of the largest slot.
        if encoding is Encoding.SCALAR or slot_bits - math.log2(params.ring_degree) > spare_bits:
            return False
        coefficient = largest_coefficient(values, params.ring_degree, OpenFHEBackend.capabilities.slot_generator)
        return math.log2(coefficient) < spare_bits - 1


class OpenFHEDecryptor(_Role):
    """The client's role, with the secret key."""

    def __init__(
        self,
        params: CKKSParams,
        rescale: RescaleMode,
        steps: Collection[int],
        *,
        public_key: bool,
        exported: _ExportedKeys | None = None,
    ) -> None:
        context = make_context(params, rescale)
        if exported is None:
            pair = context.KeyGen()
            secret, key_id = pair.secretKey, secrets.token_bytes(16)
            self._public_key = openfhe.Serialize(pair.publicKey, openfhe.BINARY)
        else:
            secret, key_id = openfhe.DeserializePrivateKeyString(exported.secret_key, openfhe.BINARY), exported.key_id
            self._public_key = exported.public_key
        super().__init__(context, params, rescale, key_id, secret.GetKeyTag())
        self._secret_key = secret
        rotation_keys = b""
        if steps:
            context.EvalRotateKeyGen(secret, sorted(steps))
            rotation_keys = openfhe.SerializeEvalAutomorphismKeyString(openfhe.BINARY, self._key_tag)
        self._steps, self._sends_public_key = sorted(steps), public_key
        public = self._public_key if public_key else b""
        keys = _EvaluationKeys(sorted(steps), self.key_id, self._key_tag, rotation_keys, public)
        self._evaluation_keys = sealed(msgspec.msgpack.encode(keys))

    def encrypt(self, values: Values, *, scale: float, encoding: Encoding = SLOTS) -> OpenFHECiphertext:
        plaintext = self._encode(values, self._params.max_level, scale, encoding, "encrypt")
        return OpenFHECiphertext(self._context.Encrypt(self._secret_key, plaintext), self.key_id)

    def decrypt(self, ciphertext: OpenFHECiphertext, *, encoding: Encoding = SLOTS) -> Values:
        plaintext = self._context.Decrypt(self._secret_key, self._own(ciphertext).data)
        plaintext.SetLength(self._params.slots)
        values = np.array(plaintext.GetCKKSPackedValue(), dtype=np.complex128)
        if encoding is Encoding.COMPLEX_SLOTS:
            return values
        real: Values = values.real.copy()
        return real[:1] if encoding is Encoding.SCALAR else real

    def evaluation_keys(self) -> bytes:
        return self._evaluation_keys

    def export_keys(self) -> bytes:
        secret_key = openfhe.Serialize(self._secret_key, openfhe.BINARY)
        keys = _ExportedKeys(secret_key, self._public_key, self._steps, self.key_id, self._sends_public_key)
        return msgspec.msgpack.encode(keys)


class OpenFHEEvaluator(_Role):
    """The server's role: rotation keys, and a public key if there is one."""

    def __init__(self, params: CKKSParams, rescale: RescaleMode, keys: _EvaluationKeys) -> None:
        super().__init__(make_context(params, rescale), params, rescale, keys.key_id, keys.key_tag)
        generator = OpenFHEBackend.capabilities.slot_generator
        halves = len(params.special_bits)
        self._halves = HalfUnits(self._context, params.ring_degree, halves, 2.0**self._unit_bits, generator)
        self._steps = frozenset(keys.steps)
        self._public_key = None
        if keys.steps:
            openfhe.DeserializeEvalAutomorphismKeyString(keys.rotation_keys, openfhe.BINARY)
        if keys.public_key:
            self._public_key = openfhe.DeserializePublicKeyString(keys.public_key, openfhe.BINARY)

    def encrypt_public(self, values: Values, *, scale: float, encoding: Encoding = SLOTS) -> OpenFHECiphertext:
        if self._public_key is None:
            raise CapabilityMissing(f"{_WHO}: no public key was generated.", hint="Generate keys with public_key=True.")
        plaintext = self._encode(values, self._params.max_level, scale, encoding, "encrypt_public")
        return self._made(self._context.Encrypt(self._public_key, plaintext))

    def encode(self, values: Values, *, level: int, scale: float, encoding: Encoding = SLOTS) -> OpenFHEPlaintext:
        data = self._encode(values, level, scale, encoding, "encode")
        return OpenFHEPlaintext(data, level, self._params.ring_degree)

    def add(self, left: OpenFHECiphertext, right: OpenFHECiphertext) -> OpenFHECiphertext:
        self._check_operands(left, right, "add")
        return self._made(self._context.EvalAdd(left.data, right.data))

    def sub(self, left: OpenFHECiphertext, right: OpenFHECiphertext) -> OpenFHECiphertext:
        self._check_operands(left, right, "sub")
        return self._made(self._context.EvalSub(left.data, right.data))

    def negate(self, ciphertext: OpenFHECiphertext) -> OpenFHECiphertext:
        return self._made(self._context.EvalNegate(self._own(ciphertext).data))

    def add_plain(self, ciphertext: OpenFHECiphertext, plaintext: OpenFHEPlaintext) -> OpenFHECiphertext:
        data = self._own(ciphertext).data
        self._check_plaintext(ciphertext, plaintext, "add_plain")
        return self._made(self._context.EvalAdd(data, plaintext.data))

    def multiply_plain(self, ciphertext: OpenFHECiphertext, plaintext: OpenFHEPlaintext) -> OpenFHECiphertext:
        data = self._own(ciphertext).data
        self._check_plaintext(ciphertext, plaintext, "multiply_plain")
        return self._made(self._context.EvalMult(data, plaintext.data))

    def rotate(self, ciphertext: OpenFHECiphertext, steps: int) -> OpenFHECiphertext:
        ciphertext = self._own(ciphertext)
        (step,) = self._checked_steps((steps,))
        return self._switched(self._context.EvalRotate(ciphertext.data, step)) if step else ciphertext

    def rotate_many(self, ciphertext: OpenFHECiphertext, steps: Sequence[int]) -> list[OpenFHECiphertext]:
        ciphertext = self._own(ciphertext)
        checked = self._checked_steps(steps)
        digits = self._context.EvalFastRotationPrecompute(ciphertext.data)
        return [
            self._switched(self._context.EvalFastRotation(ciphertext.data, step, digits)) if step else ciphertext
            for step in checked
        ]

    def _switched(self, data: Any) -> OpenFHECiphertext:
        return self._made(self._halves.added_to(data))

    def rescale(self, ciphertext: OpenFHECiphertext) -> OpenFHECiphertext:
        ciphertext = self._own(ciphertext)
        if not self._explicit:
            return ciphertext
        if self.level(ciphertext) == 0:
            raise LevelExhausted(
                f"{_WHO}: a ciphertext at level 0 cannot be rescaled.",
                hint="Use parameters with one more data prime, or a packing of less depth.",
            )
        return self._made(self._context.Rescale(ciphertext.data))

    def _checked_steps(self, steps: Sequence[int]) -> list[int]:
        checked = [step % self._params.slots for step in steps]
        missing = [step for step in checked if step and step not in self._steps]
        if missing:
            raise MissingRotationKey(
                f"{_WHO}: there is no key for a rotation by {missing[0]}.",
                hint="Generate keys for the plan's rotation_steps.",
            )
        return checked

    def _check_operands(self, left: OpenFHECiphertext, right: OpenFHECiphertext, who: str) -> None:
        """Under FIXEDMANUAL OpenFHE would align levels, which is refused."""
        left, right = self._own(left), self._own(right)
        if self._explicit:
            _same_level(self.level(left), self.level(right), who)

    def _check_plaintext(self, ciphertext: OpenFHECiphertext, plaintext: OpenFHEPlaintext, who: str) -> None:
        if not isinstance(plaintext, OpenFHEPlaintext) or plaintext.ring_degree != self._params.ring_degree:
            raise ForeignCiphertext(
                f"{_WHO}: this is no plaintext of these parameters.", hint="Use what this evaluator's encode returned."
            )
        if self._explicit:
            _same_level(self.level(ciphertext), plaintext.level, who)


def _same_level(left: int, right: int, who: str) -> None:
    if left != right:
        raise LevelMismatch(
            f"{_WHO}: {who} of operands at levels {left} and {right}.",
            hint="Encode plaintexts at the ciphertext's level, and rescale both operands equally often.",
        )


class OpenFHEBackend:
    """OpenFHE, rescaling as the program says (FIXEDMANUAL)."""

    name = "openfhe"
    capabilities = Capabilities(
        encodings=frozenset({Encoding.SLOTS, Encoding.COMPLEX_SLOTS, Encoding.SCALAR}),
        rescale=RescaleMode.EXPLICIT,
        keyswitch_floors=True,
        public_key=True,
        hoisting=True,
    )

    @property
    def library_version(self) -> str:
        return f"openfhe {version('openfhe')}"

    def resolve(self, params: CKKSParams) -> CKKSParams:
        return resolve(params, self.capabilities.rescale)

    def generate_keys(
        self,
        params: CKKSParams,
        rotation_steps: Collection[int],
        *,
        public_key: bool = False,
        seed: int | None = None,
    ) -> tuple[Decryptor, Evaluator]:
        if seed is not None:
            raise CapabilityMissing(
                f"{_WHO}: keys cannot be made from a seed.",
                hint="Leave the seed out; use the emulation for repeatable runs.",
            )
        decryptor = OpenFHEDecryptor(params, self.capabilities.rescale, rotation_steps, public_key=public_key)
        return self._decryptor(decryptor, params), self.load_evaluator(params, decryptor.evaluation_keys())

    def load_evaluator(self, params: CKKSParams, evaluation_keys: bytes) -> Evaluator:
        body = opened(evaluation_keys, "evaluation keys")
        try:
            keys = msgspec.msgpack.decode(body, type=_EvaluationKeys)
        except msgspec.DecodeError as error:
            raise CorruptPayload(
                f"{_WHO}: these bytes are not evaluation keys ({error}).", hint="Send the keys again."
            ) from error
        return self._evaluator(OpenFHEEvaluator(params, self.capabilities.rescale, keys), params)

    def _decryptor(self, role: OpenFHEDecryptor, params: CKKSParams) -> Decryptor:
        return ScaledDecryptor(role, params, 2.0 ** unit_bits(params), who=_WHO)

    def _evaluator(self, role: OpenFHEEvaluator, params: CKKSParams) -> Evaluator:
        return ScaledEvaluator(role, params, 2.0 ** unit_bits(params), who=_WHO)

    def restore_keys(self, params: CKKSParams, exported: bytes) -> Decryptor:
        try:
            keys = msgspec.msgpack.decode(exported, type=_ExportedKeys)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise CorruptPayload(f"{_WHO}: these bytes are not a client's keys.", hint="Export them again.") from error
        decryptor = OpenFHEDecryptor(
            params, self.capabilities.rescale, keys.steps, public_key=keys.sends_public_key, exported=keys
        )
        return self._decryptor(decryptor, params)


class OpenFHEAutoBackend(OpenFHEBackend):
    """OpenFHE, rescaling by itself (FLEXIBLEAUTO)."""

    name = "openfhe_auto"
    capabilities = msgspec.structs.replace(
        OpenFHEBackend.capabilities, rescale=RescaleMode.AUTOMATIC, free_plaintext_scale=False
    )

    def _decryptor(self, role: OpenFHEDecryptor, params: CKKSParams) -> Decryptor:
        return role

    def _evaluator(self, role: OpenFHEEvaluator, params: CKKSParams) -> Evaluator:
        return role
