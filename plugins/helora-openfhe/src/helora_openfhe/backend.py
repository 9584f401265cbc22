"""OpenFHE.

Its Python bindings keep rotation keys in a table of the process, by the tag of the key pair: two key pairs do not mix,
and this backend asks the table for nothing but the steps it made keys for.

The plaintext scale is one for all (``ScalingModSize``). Under FIXEDMANUAL it is a label that no arithmetic looks at:
it is reset after each product and rescale, and core keeps what scales really are (``HasUnit``).
Under FLEXIBLEAUTO the library's scales decide when it rescales, and a plan's must be the parameters' own.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Collection, Sequence
from importlib.metadata import version
from typing import Any

import msgspec
import numpy as np

from helora_core.backend.capabilities import Capabilities, Encoding, RescaleMode
from helora_core.backend.protocol import SLOTS, Values
from helora_core.errors import BackendUnavailable
from helora_core.params.ckks import CKKSParams
from helora_openfhe.context import make_context, resolve, unit_bits
from helora_openfhe.library import openfhe
from helora_openfhe.payload import opened, sealed
from helora_openfhe.rounding import HalfUnits


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


class OpenFHEEncoder:
    """Plaintexts of a context; OpenFHE has one context for all who ask for equal parameters."""

    def __init__(self, context: Any, params: CKKSParams) -> None:
        self._context = context
        self._params = params

    def encode(self, values: Values, *, level: int, scale: float, encoding: Encoding = SLOTS) -> Any:
        params = self._params
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


class _Role:
    """What client and server share. It has no key."""

    def __init__(self, context: Any, params: CKKSParams, rescale: RescaleMode, key_id: bytes, key_tag: str) -> None:
        self.key_id = key_id
        self._context = context
        self._params = params
        self._encoder = OpenFHEEncoder(context, params)
        self._explicit = rescale is RescaleMode.EXPLICIT
        self._unit = 2.0 ** unit_bits(params)
        self._key_tag = key_tag
        self._process = os.getpid()

    def level(self, ciphertext: Any) -> int:
        # OpenFHE counts levels used. What FLEXIBLEAUTO has not rescaled yet, it will before the next product.
        pending = 0 if self._explicit else ciphertext.GetNoiseScaleDeg() - 1
        return int(self._params.max_level - ciphertext.GetLevel() - pending)

    def scale(self, ciphertext: Any) -> float:
        return float(ciphertext.GetScalingFactor())

    def serialize(self, ciphertext: Any) -> bytes:
        return sealed(openfhe.Serialize(ciphertext, openfhe.BINARY))

    def deserialize(self, payload: bytes) -> Any:
        ciphertext = openfhe.DeserializeCiphertextString(opened(payload, "a ciphertext"), openfhe.BINARY)
        made_with = ciphertext.GetCryptoContext()
        same_ring = made_with.GetRingDimension() == self._context.GetRingDimension()
        if not same_ring or made_with.GetModulus() != self._context.GetModulus():
            raise ValueError("they are of other parameters")
        # The bytes name the keys they were made with; read by a server of other keys, they must be taken for that.
        ciphertext.SetKeyTag(self._key_tag)
        return self._made(ciphertext)

    def _made(self, ciphertext: Any) -> Any:
        if self._explicit:
            ciphertext.SetNoiseScaleDeg(1)
            ciphertext.SetScalingFactor(self._unit)
        return ciphertext

    def _encrypted(self, key: Any, values: Values, scale: float, encoding: Encoding) -> Any:
        if os.getpid() != self._process:
            raise BackendUnavailable(
                "helora-openfhe: this process was forked from the one that made the keys, and OpenFHE's random "
                "generator with it: both would encrypt with the same errors.",
                hint="Make keys in the process that uses them, or start workers by spawning.",
            )
        plaintext = self._encoder.encode(values, level=self._params.max_level, scale=scale, encoding=encoding)
        return self._made(self._context.Encrypt(key, plaintext))


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

    def encrypt(self, values: Values, *, scale: float, encoding: Encoding = SLOTS) -> Any:
        return self._encrypted(self._secret_key, values, scale, encoding)

    def decrypt(self, ciphertext: Any, *, encoding: Encoding = SLOTS) -> Values:
        plaintext = self._context.Decrypt(self._secret_key, ciphertext)
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
        self._halves = HalfUnits(self._context, params.ring_degree, halves, self._unit, generator)
        self.rotation_steps = frozenset(keys.steps)
        self.has_public_key = bool(keys.public_key)
        if keys.steps:
            openfhe.DeserializeEvalAutomorphismKeyString(keys.rotation_keys, openfhe.BINARY)
        if keys.public_key:
            self._public_key = openfhe.DeserializePublicKeyString(keys.public_key, openfhe.BINARY)

    def encrypt_public(self, values: Values, *, scale: float, encoding: Encoding = SLOTS) -> Any:
        return self._encrypted(self._public_key, values, scale, encoding)

    def add(self, left: Any, right: Any) -> Any:
        return self._made(self._context.EvalAdd(left, right))

    def sub(self, left: Any, right: Any) -> Any:
        return self._made(self._context.EvalSub(left, right))

    def negate(self, ciphertext: Any) -> Any:
        return self._made(self._context.EvalNegate(ciphertext))

    def add_plain(self, ciphertext: Any, plaintext: Any) -> Any:
        return self._made(self._context.EvalAdd(ciphertext, plaintext))

    def multiply_plain(self, ciphertext: Any, plaintext: Any) -> Any:
        return self._made(self._context.EvalMult(ciphertext, plaintext))

    def rotate(self, ciphertext: Any, steps: int) -> Any:
        return self._switched(self._context.EvalRotate(ciphertext, steps))

    def rotate_many(self, ciphertext: Any, steps: Sequence[int]) -> list[Any]:
        digits = self._context.EvalFastRotationPrecompute(ciphertext)
        return [self._switched(self._context.EvalFastRotation(ciphertext, step, digits)) for step in steps]

    def _switched(self, ciphertext: Any) -> Any:
        return self._made(self._halves.added_to(ciphertext))

    def rescale(self, ciphertext: Any) -> Any:
        return self._made(self._context.Rescale(ciphertext)) if self._explicit else ciphertext


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

    def unit(self, params: CKKSParams) -> float:
        return 2.0 ** unit_bits(params)

    def encoder(self, params: CKKSParams) -> OpenFHEEncoder:
        return OpenFHEEncoder(make_context(params, self.capabilities.rescale), params)

    def generate_keys(
        self,
        params: CKKSParams,
        rotation_steps: Collection[int],
        *,
        public_key: bool = False,
        seed: int | None = None,
    ) -> tuple[OpenFHEDecryptor, OpenFHEEvaluator]:
        decryptor = OpenFHEDecryptor(params, self.capabilities.rescale, rotation_steps, public_key=public_key)
        return decryptor, self.load_evaluator(params, decryptor.evaluation_keys())

    def load_evaluator(self, params: CKKSParams, evaluation_keys: bytes) -> OpenFHEEvaluator:
        keys = msgspec.msgpack.decode(opened(evaluation_keys, "evaluation keys"), type=_EvaluationKeys)
        return OpenFHEEvaluator(params, self.capabilities.rescale, keys)

    def restore_keys(self, params: CKKSParams, exported: bytes) -> OpenFHEDecryptor:
        keys = msgspec.msgpack.decode(exported, type=_ExportedKeys)
        return OpenFHEDecryptor(
            params, self.capabilities.rescale, keys.steps, public_key=keys.sends_public_key, exported=keys
        )


class OpenFHEAutoBackend(OpenFHEBackend):
    """OpenFHE, rescaling by itself (FLEXIBLEAUTO): the library's scales decide when, and are the plan's."""

    name = "openfhe_auto"
    capabilities = msgspec.structs.replace(
        OpenFHEBackend.capabilities, rescale=RescaleMode.AUTOMATIC, free_plaintext_scale=False
    )
