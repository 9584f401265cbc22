"""OpenFHE.

Its Python bindings keep rotation keys in a table per process, by the tag of the key pair: two key pairs do not mix,
and this backend only uses the steps that it made keys for.

There is one scale for all plaintexts (``ScalingModSize``). Under FIXEDMANUAL it is a label that no arithmetic uses:
it is reset after each product and rescale, and core tracks the actual scales (``HasUnit``).
Under FLEXIBLEAUTO the library's scales decide when it rescales, and a plan's must be the parameters' own.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from helora_core.backend.base import ClientKeys, EvaluationKeys, KeySender, LibraryBackend
from helora_core.backend.capabilities import Capabilities, Encoding, RescaleMode
from helora_core.backend.protocol import SLOTS, Values
from helora_core.errors import BackendUnavailable
from helora_core.params.ckks import CKKSParams
from helora_openfhe.context import make_context, resolve, unit_bits
from helora_openfhe.library import openfhe
from helora_openfhe.rounding import HalfUnits


def sealed(body: bytes) -> bytes:
    """``body`` after its checksum: OpenFHE's parser accepts altered bytes, or crashes on them."""
    return hashlib.sha256(body).digest() + body


def opened(payload: bytes) -> bytes:
    """The body from the result of ``sealed``; raises ValueError for anything else."""
    body = payload[hashlib.sha256().digest_size :]
    if sealed(body) != payload:
        raise ValueError(f"{len(payload)} bytes that are not what was serialised")
    return body


class OpenFHEEncoder:
    """Plaintexts of a context; OpenFHE has one shared context for equal parameters."""

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
            # OpenFHE refuses values that round to the zero polynomial, but rounding them is what was asked for.
            return self._context.MakeCKKSPackedPlaintext(np.zeros(params.slots), 1, depth)


class _Role:
    """The base of client and server, without a key."""

    def __init__(self, context: Any, params: CKKSParams, rescale: RescaleMode, key_id: bytes) -> None:
        self.key_id = key_id
        self._context = context
        self._params = params
        self._encoder = OpenFHEEncoder(context, params)
        self._explicit = rescale is RescaleMode.EXPLICIT
        self._unit = 2.0 ** unit_bits(params)
        self._process = os.getpid()

    def level(self, ciphertext: Any) -> int:
        # OpenFHE counts levels used. FLEXIBLEAUTO rescales pending products before the next product.
        pending = 0 if self._explicit else ciphertext.GetNoiseScaleDeg() - 1
        return int(self._params.max_level - ciphertext.GetLevel() - pending)

    def scale(self, ciphertext: Any) -> float:
        return float(ciphertext.GetScalingFactor())

    def serialize(self, ciphertext: Any) -> bytes:
        return sealed(openfhe.Serialize(ciphertext, openfhe.BINARY))

    def deserialize(self, payload: bytes) -> Any:
        ciphertext = openfhe.DeserializeCiphertextString(opened(payload), openfhe.BINARY)
        made_with = ciphertext.GetCryptoContext()
        same_ring = made_with.GetRingDimension() == self._context.GetRingDimension()
        if not same_ring or made_with.GetModulus() != self._context.GetModulus():
            raise ValueError("they have other parameters")
        # The bytes name the keys that they were made with; a server with other keys must treat them as foreign.
        ciphertext.SetKeyTag(self.key_id.hex())
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


class OpenFHEDecryptor(_Role, KeySender):
    """The client's role, with the secret key."""

    def __init__(
        self,
        params: CKKSParams,
        rescale: RescaleMode,
        steps: tuple[int, ...],
        *,
        public_key: bool,
        restored: ClientKeys | None,
    ) -> None:
        context = make_context(params, rescale)
        if restored is None:
            pair = context.KeyGen()
            self._secret_key, self._public_key = pair.secretKey, openfhe.Serialize(pair.publicKey, openfhe.BINARY)
        else:
            self._secret_key = openfhe.DeserializePrivateKeyString(restored.secret_key, openfhe.BINARY)
            self._public_key = restored.public_key
        tag = self._secret_key.GetKeyTag()  # 16 random bytes, in hexadecimal digits
        super().__init__(context, params, rescale, bytes.fromhex(tag))
        rotation_keys = b""
        if steps:
            context.EvalRotateKeyGen(self._secret_key, list(steps))
            rotation_keys = sealed(openfhe.SerializeEvalAutomorphismKeyString(openfhe.BINARY, tag))
        public = sealed(self._public_key) if public_key else b""
        self.keys = EvaluationKeys(key_id=self.key_id, steps=steps, rotation_keys=rotation_keys, public_key=public)

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

    def export_keys(self) -> bytes:
        secret_key = openfhe.Serialize(self._secret_key, openfhe.BINARY)
        sent = msgspec.structs.replace(self.keys, rotation_keys=b"")  # they are made again from the secret key
        return msgspec.msgpack.encode(ClientKeys(secret_key=secret_key, public_key=self._public_key, sent=sent))


class OpenFHEEvaluator(_Role):
    """The server's role: rotation keys, and a public key if there is one."""

    def __init__(self, params: CKKSParams, rescale: RescaleMode, keys: EvaluationKeys) -> None:
        super().__init__(make_context(params, rescale), params, rescale, keys.key_id)
        generator = OpenFHEBackend.capabilities.slot_generator
        halves = len(params.special_bits)
        self._halves = HalfUnits(self._context, params.ring_degree, halves, self._unit, generator)
        self.rotation_steps = frozenset(keys.steps)
        self.has_public_key = bool(keys.public_key)
        if keys.steps:
            openfhe.DeserializeEvalAutomorphismKeyString(opened(keys.rotation_keys), openfhe.BINARY)
        if keys.public_key:
            self._public_key = openfhe.DeserializePublicKeyString(opened(keys.public_key), openfhe.BINARY)

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


class OpenFHEBackend(LibraryBackend):
    """OpenFHE, rescaling as the program says (FIXEDMANUAL)."""

    name = "openfhe"
    library = "openfhe"
    capabilities = Capabilities(
        encodings=frozenset({Encoding.SLOTS, Encoding.COMPLEX_SLOTS, Encoding.SCALAR}),
        rescale=RescaleMode.EXPLICIT,
        keyswitch_floors=True,
        public_key=True,
        hoisting=True,
    )

    def resolve(self, params: CKKSParams) -> CKKSParams:
        return resolve(params, self.capabilities.rescale)

    def unit(self, params: CKKSParams) -> float:
        return 2.0 ** unit_bits(params)

    def encoder(self, params: CKKSParams) -> OpenFHEEncoder:
        return OpenFHEEncoder(make_context(params, self.capabilities.rescale), params)

    def client(
        self, params: CKKSParams, steps: tuple[int, ...], *, public_key: bool, restored: ClientKeys | None
    ) -> OpenFHEDecryptor:
        return OpenFHEDecryptor(params, self.capabilities.rescale, steps, public_key=public_key, restored=restored)

    def server(self, params: CKKSParams, keys: EvaluationKeys) -> OpenFHEEvaluator:
        return OpenFHEEvaluator(params, self.capabilities.rescale, keys)


class OpenFHEAutoBackend(OpenFHEBackend):
    """OpenFHE, rescaling by itself (FLEXIBLEAUTO): the library decides when, and its scales are the plan's."""

    name = "openfhe_auto"
    capabilities = msgspec.structs.replace(
        OpenFHEBackend.capabilities, rescale=RescaleMode.AUTOMATIC, free_plaintext_scale=False
    )
