"""Microsoft SEAL through Pyfhel.

Pyfhel has no symmetric encryption: the client encrypts with its own public key. Rotation keys are made for exactly the
plan's steps, and a step without one is refused here: Pyfhel would compose it of others, or make keys for a secret that
nothing was encrypted with. ``+`` and ``*`` on Pyfhel's ciphertexts align levels and round scales by themselves; the
methods used here do exactly what they are called for.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
from Pyfhel import PyCtxt

from helora_core.backend.base import ClientKeys, EvaluationKeys, KeySender, LibraryBackend
from helora_core.backend.capabilities import Capabilities, Encoding
from helora_core.backend.protocol import SLOTS, Values
from helora_core.params.ckks import CKKSParams
from helora_pyfhel.context import Context, pyfhel_object, resolve
from helora_pyfhel.keys import load_client_keys, load_keys
from helora_pyfhel.residues import from_plaintext, to_plaintext

# Where SEAL's serialised ciphertext says whether it is in NTT form: after a header of 16 bytes and a parms_id of 32.
_NTT_FLAG = 48


class PyfhelEncoder:
    """Pyfhel's encoders, one for each level."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def encode(self, values: Values, *, level: int, scale: float, encoding: Encoding = SLOTS) -> Any:
        plaintext = encoded(self._context, values, level, scale, encoding)
        if encoding is not Encoding.INTEGERS and plaintext.is_zero():
            # A product with the zero polynomial would be a ciphertext that anyone can read. The polynomial 1 stands for
            # 1/scale in every slot: within the rounding error of any encoding.
            return _smallest(self._context, level, scale)
        return plaintext


def encoded(context: Context, values: Values, level: int, scale: float, encoding: Encoding) -> Any:
    """A PyPtxt in the NTT form of its level."""
    if encoding is Encoding.INTEGERS:
        primes = context.params.data_primes[: level + 1]
        return to_plaintext(values, primes, _smallest(context, level, scale))
    # Pyfhel's buffers are both.
    return context.encode(np.require(values, requirements=("C", "W")), level, scale, encoding)


def _smallest(context: Context, level: int, scale: float) -> Any:
    """The polynomial 1."""
    return context.encode(np.full(context.params.slots, 1 / scale), level, scale, SLOTS)


class _Role:
    """The base of client and server."""

    def __init__(self, context: Context, key_id: bytes) -> None:
        self.key_id = key_id
        self._context = context

    def level(self, ciphertext: Any) -> int:
        return self._context.level(ciphertext)

    def scale(self, ciphertext: Any) -> float:
        return float(ciphertext.scale)

    def serialize(self, ciphertext: Any) -> bytes:
        payload: bytes = ciphertext.to_bytes("none")
        return payload

    def deserialize(self, payload: bytes) -> Any:
        ciphertext = PyCtxt(pyfhel=self._context.pyfhel, bytestring=payload)
        # Pyfhel or SEAL accept these: no bytes at all, too many bytes, compression, products not yet relinearised,
        # and polynomials in the wrong form.
        if ciphertext.size() != 2 or ciphertext.sizeof_ciphertext("none") != len(payload) or payload[_NTT_FLAG] != 1:
            raise ValueError(f"{len(payload)} bytes are not two polynomials of one level in NTT form")
        return ciphertext


class PyfhelDecryptor(_Role, KeySender):
    """The client's role, with the secret key."""

    def __init__(
        self, context: Context, steps: tuple[int, ...], *, public_key: bool, restored: ClientKeys | None
    ) -> None:
        params = context.params
        self._keyed = keyed = pyfhel_object(params, {"qi": [*params.data_primes, *params.special_primes]}, keyed=True)
        if restored is not None:
            super().__init__(context, restored.sent.key_id)
            load_client_keys(keyed, restored)
            self.keys = restored.sent
            return
        super().__init__(context, secrets.token_bytes(16))
        keyed.keyGen()
        rotation_keys = b""
        if steps:  # without steps, Pyfhel makes keys for all powers of two
            keyed.rotateKeyGen(list(steps))
            rotation_keys = keyed.to_bytes_rotate_key("none")
        public = keyed.to_bytes_public_key("none") if public_key else b""
        self.keys = EvaluationKeys(key_id=self.key_id, steps=steps, rotation_keys=rotation_keys, public_key=public)

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

    def export_keys(self) -> bytes:
        # With the rotation keys: Pyfhel would make new ones for its own secret, not for the one it was given.
        keys = ClientKeys(
            secret_key=self._keyed.to_bytes_secret_key("none"),
            public_key=self._keyed.to_bytes_public_key("none"),
            sent=self.keys,
        )
        return msgspec.msgpack.encode(keys)


class PyfhelEvaluator(_Role):
    """The server's role: the client's keys, and no others."""

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
        """The result of a method of Pyfhel on a copy of the ciphertext."""
        result = PyCtxt(copy_ctxt=ciphertext)  # Pyfhel's own out-of-place forms copy as well
        try:
            operation(result, *operands)
        except RuntimeError as error:
            # SEAL completes its result and then refuses it if its second polynomial is zero, as for x − x:
            # anyone could read it. The result is right, and the caller knows its content anyway.
            if "transparent" not in str(error):
                raise
        return result


class PyfhelBackend(LibraryBackend):
    """Pyfhel."""

    name = "pyfhel"
    library = "Pyfhel"
    capabilities = Capabilities(
        encodings=frozenset({Encoding.SLOTS, Encoding.COMPLEX_SLOTS, Encoding.INTEGERS}),
        slot_generator=3,
        symmetric_encryption=False,
        public_key=True,
    )

    def resolve(self, params: CKKSParams) -> CKKSParams:
        return resolve(params)

    def encoder(self, params: CKKSParams) -> PyfhelEncoder:
        return PyfhelEncoder(Context(params))

    def client(
        self, params: CKKSParams, steps: tuple[int, ...], *, public_key: bool, restored: ClientKeys | None
    ) -> PyfhelDecryptor:
        return PyfhelDecryptor(Context(params), steps, public_key=public_key, restored=restored)

    def server(self, params: CKKSParams, keys: EvaluationKeys) -> PyfhelEvaluator:
        return PyfhelEvaluator(Context(params), keys)
