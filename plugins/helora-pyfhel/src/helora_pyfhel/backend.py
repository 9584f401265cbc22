"""Microsoft SEAL through Pyfhel.

Pyfhel has no symmetric encryption: the client encrypts with its own public key. Rotation keys are made for exactly the
plan's steps, and a step without one is refused here: Pyfhel would compose it, or make itself keys for a secret that
nothing was encrypted with. ``+`` and ``*`` on Pyfhel's ciphertexts align levels and round scales by themselves; the
methods used here do what they are told.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection
from importlib.metadata import version
from typing import Any

import msgspec
import numpy as np

from helora_core.backend.capabilities import Capabilities, Encoding
from helora_core.backend.protocol import SLOTS, Values
from helora_core.params.ckks import CKKSParams
from helora_pyfhel.codec import PyfhelEncoder, Role, encoded
from helora_pyfhel.context import Context, pyfhel_object, resolve
from helora_pyfhel.keys import EvaluationKeys, ExportedKeys, load_client_keys, load_keys
from helora_pyfhel.residues import from_plaintext


class PyfhelDecryptor(Role):
    """The client's role, with the secret key."""

    def __init__(
        self,
        context: Context,
        steps: Collection[int],
        key_id: bytes,
        *,
        public_key: bool,
        exported: ExportedKeys | None = None,
    ) -> None:
        super().__init__(context, key_id)
        params = context.params
        self._steps = sorted(steps)
        self._sends_public_key = public_key
        self._keyed = pyfhel_object(params, {"qi": [*params.data_primes, *params.special_primes]}, keyed=True)
        self._restored = b""
        if exported is not None:
            load_client_keys(self._keyed, exported)
            self._restored = exported.evaluation_keys
            return
        self._keyed.keyGen()
        if self._steps:  # without steps, Pyfhel makes keys for all powers of two
            self._keyed.rotateKeyGen(self._steps)

    def encrypt(self, values: Values, *, scale: float, encoding: Encoding = SLOTS) -> Any:
        plaintext = encoded(self._context, values, self._context.params.max_level, scale, encoding)
        ciphertext = self._keyed.encryptPtxt(plaintext)
        # A PyCtxt refers to the object that made it: here the one with the secret key.
        ciphertext._pyfhel = self._context.pyfhel
        return ciphertext

    def decrypt(self, ciphertext: Any, *, encoding: Encoding = SLOTS) -> Values:
        plaintext = self._keyed.decryptPtxt(ciphertext)
        values: Values
        if encoding is Encoding.INTEGERS:
            params = self._context.params
            return from_plaintext(plaintext, params.data_primes[: self.level(ciphertext) + 1], params.ring_degree)
        if encoding is Encoding.COMPLEX_SLOTS:
            values = np.asarray(self._keyed.decodeComplex(plaintext), dtype=np.complex128)
        else:
            values = self._keyed.decodeFrac(plaintext)
        return values

    def evaluation_keys(self) -> bytes:
        if self._restored:
            return self._restored
        galois_keys = self._keyed.to_bytes_rotate_key("none") if self._steps else b""
        public_key = self._keyed.to_bytes_public_key("none") if self._sends_public_key else b""
        return msgspec.msgpack.encode(EvaluationKeys(self._steps, self.key_id, galois_keys, public_key))

    def export_keys(self) -> bytes:
        return msgspec.msgpack.encode(
            ExportedKeys(
                secret_key=self._keyed.to_bytes_secret_key("none"),
                public_key=self._keyed.to_bytes_public_key("none"),
                evaluation_keys=self.evaluation_keys(),
            )
        )


class PyfhelEvaluator(Role):
    """The server's role: the keys that the client sent, and no others."""

    def __init__(self, context: Context, keys: EvaluationKeys) -> None:
        super().__init__(context, keys.key_id)
        load_keys(context.pyfhel, keys, context.params.ring_degree)
        self._pyfhel = context.pyfhel
        self.rotation_steps = frozenset(keys.steps)
        self.has_public_key = bool(keys.public_key)

    def encrypt_public(self, values: Values, *, scale: float, encoding: Encoding = SLOTS) -> Any:
        plaintext = encoded(self._context, values, self._context.params.max_level, scale, encoding)
        return self._pyfhel.encryptPtxt(plaintext)

    def add(self, left: Any, right: Any) -> Any:
        return self._done(self._pyfhel.add, left, right)

    def sub(self, left: Any, right: Any) -> Any:
        return self._done(self._pyfhel.sub, left, right)

    def negate(self, ciphertext: Any) -> Any:
        return self._done(self._pyfhel.negate, ciphertext)

    def add_plain(self, ciphertext: Any, plaintext: Any) -> Any:
        return self._done(self._pyfhel.add_plain, ciphertext, plaintext)

    def multiply_plain(self, ciphertext: Any, plaintext: Any) -> Any:
        return self._done(self._pyfhel.multiply_plain, ciphertext, plaintext)

    def rotate(self, ciphertext: Any, steps: int) -> Any:
        return self._done(self._pyfhel.rotate, ciphertext, steps)

    def rescale(self, ciphertext: Any) -> Any:
        return self._done(self._pyfhel.rescale_to_next, ciphertext)

    def _done(self, operation: Callable[..., object], ciphertext: Any, *operands: Any) -> Any:
        """What a method of Pyfhel makes of a copy of the ciphertext."""
        result = self._context.copied(ciphertext)
        try:
            operation(result, *operands)
        except RuntimeError as error:
            # SEAL completes its result and then refuses it if its second polynomial is zero, as that of x − x is:
            # anyone could read it. It is right, and those who computed it know what it says.
            if "transparent" not in str(error):
                raise
        return result


class PyfhelBackend:
    """Pyfhel."""

    name = "pyfhel"
    capabilities = Capabilities(
        encodings=frozenset({Encoding.SLOTS, Encoding.COMPLEX_SLOTS, Encoding.INTEGERS}),
        slot_generator=3,
        symmetric_encryption=False,
        public_key=True,
    )

    @property
    def library_version(self) -> str:
        return f"Pyfhel {version('Pyfhel')}"

    def resolve(self, params: CKKSParams) -> CKKSParams:
        return resolve(params)

    def encoder(self, params: CKKSParams) -> PyfhelEncoder:
        return PyfhelEncoder(Context(params))

    def generate_keys(
        self,
        params: CKKSParams,
        rotation_steps: Collection[int],
        *,
        public_key: bool = False,
        seed: int | None = None,
    ) -> tuple[PyfhelDecryptor, PyfhelEvaluator]:
        decryptor = PyfhelDecryptor(Context(params), rotation_steps, secrets.token_bytes(16), public_key=public_key)
        return decryptor, self.load_evaluator(params, decryptor.evaluation_keys())

    def load_evaluator(self, params: CKKSParams, evaluation_keys: bytes) -> PyfhelEvaluator:
        return PyfhelEvaluator(Context(params), _sent(evaluation_keys))

    def restore_keys(self, params: CKKSParams, exported: bytes) -> PyfhelDecryptor:
        keys = msgspec.msgpack.decode(exported, type=ExportedKeys)
        sent = _sent(keys.evaluation_keys)
        context = Context(params)
        return PyfhelDecryptor(context, sent.steps, sent.key_id, public_key=bool(sent.public_key), exported=keys)


def _sent(message: bytes) -> EvaluationKeys:
    return msgspec.msgpack.decode(message, type=EvaluationKeys)
