"""Microsoft SEAL through ``tenseal.sealapi``.

``tenseal.CKKSVector`` cannot rotate or rescale, so this builds on the bindings below it. Fresh ciphertexts are
symmetric: they are sent as one polynomial and a seed, half the size. Rotation keys are made for exactly the Galois
elements of the plan's steps; with SEAL's default keys a rotation would consist of several key switches that the
ledger does not see.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import tenseal.sealapi as seal

from helora_core.backend.base import ClientKeys, EvaluationKeys, KeySender, LibraryBackend
from helora_core.backend.capabilities import Capabilities, Encoding
from helora_core.backend.protocol import SLOTS, Values
from helora_core.params.ckks import CKKSParams
from helora_tenseal.context import Context, resolve
from helora_tenseal.residues import from_plaintext, to_plaintext
from helora_tenseal.seal_bytes import load, saved


@dataclass(frozen=True, eq=False)
class FreshCiphertext:
    """A ciphertext from the client in SEAL's serialisable form: one polynomial and the seed of the other, as bytes."""

    payload: bytes
    scale: float


class TenSEALEncoder:
    """SEAL's encoder, at each of the context's levels."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def encode(self, values: Values, *, level: int, scale: float, encoding: Encoding = SLOTS) -> Any:
        plaintext = encoded(self._context, values, level, scale, encoding)
        if encoding is not Encoding.INTEGERS and plaintext.is_zero():
            # SEAL refuses products with the zero polynomial, whose result would be a ciphertext without secret. The
            # polynomial 1 stands for 1/scale in every slot: within the rounding error of any encoding.
            self._context.encoder.encode(1.0 / scale, self._context.parms_ids[level], scale, plaintext)
        return plaintext


def encoded(context: Context, values: Values, level: int, scale: float, encoding: Encoding) -> Any:
    """A SEAL plaintext, in the NTT form of its level."""
    if encoding is Encoding.INTEGERS:
        primes = context.params.data_primes[: level + 1]
        return to_plaintext(values, primes, context.seal, context.parms_ids[level], scale)
    plaintext = seal.Plaintext()
    # SEAL encodes a single number as the constant polynomial, without a transform.
    places = float(values[0]) if encoding is Encoding.SCALAR else values
    context.encoder.encode(places, context.parms_ids[level], scale, plaintext)
    return plaintext


class _Role:
    """The base of client and server, without a key."""

    def __init__(self, context: Context, key_id: bytes) -> None:
        self.key_id = key_id
        self._context = context

    def level(self, ciphertext: Any) -> int:
        if isinstance(ciphertext, FreshCiphertext):
            return self._context.params.max_level
        return self._context.level(ciphertext)

    def scale(self, ciphertext: Any) -> float:
        return float(ciphertext.scale)

    def serialize(self, ciphertext: Any) -> bytes:
        return ciphertext.payload if isinstance(ciphertext, FreshCiphertext) else saved(ciphertext.save)

    def deserialize(self, payload: bytes) -> Any:
        ciphertext = seal.Ciphertext(self._context.seal)
        load(payload, lambda path: ciphertext.load(self._context.seal, path))
        return ciphertext

    def _seal(self, ciphertext: Any) -> Any:
        """The ciphertext, in the form that SEAL computes on."""
        return self.deserialize(ciphertext.payload) if isinstance(ciphertext, FreshCiphertext) else ciphertext


class TenSEALDecryptor(_Role, KeySender):
    """The client's role, with the secret key."""

    def __init__(
        self, context: Context, steps: tuple[int, ...], *, public_key: bool, restored: ClientKeys | None
    ) -> None:
        if restored is None:
            super().__init__(context, secrets.token_bytes(16))
            keygen = seal.KeyGenerator(context.seal)
        else:
            super().__init__(context, restored.sent.key_id)
            keygen = seal.KeyGenerator(context.seal, _loaded(seal.SecretKey(), restored.secret_key, context))
        self._secret_key = keygen.secret_key()
        self._encryptor = seal.Encryptor(context.seal, self._secret_key)
        self._decryptor = seal.Decryptor(context.seal, self._secret_key)
        elements = [context.galois_element(step) for step in steps]
        rotation_keys = saved(keygen.create_galois_keys(elements).save) if elements else b""
        public = b""
        if public_key:
            key = seal.PublicKey()
            keygen.create_public_key(key)
            public = saved(key.save)
        self.keys = EvaluationKeys(key_id=self.key_id, steps=steps, rotation_keys=rotation_keys, public_key=public)

    def encrypt(self, values: Values, *, scale: float, encoding: Encoding = SLOTS) -> FreshCiphertext:
        plaintext = encoded(self._context, values, self._context.params.max_level, scale, encoding)
        return FreshCiphertext(saved(self._encryptor.encrypt_symmetric(plaintext).save), scale)

    def decrypt(self, ciphertext: Any, *, encoding: Encoding = SLOTS) -> Values:
        plaintext = seal.Plaintext()
        self._decryptor.decrypt(self._seal(ciphertext), plaintext)
        if encoding is Encoding.INTEGERS:
            return from_plaintext(plaintext, self._context.params.data_primes[: self.level(ciphertext) + 1])
        if encoding is Encoding.COMPLEX_SLOTS:
            return np.array(self._context.encoder.decode_complex(plaintext), dtype=np.complex128)
        values = np.array(self._context.encoder.decode_double(plaintext), dtype=np.float64)
        return values[:1] if encoding is Encoding.SCALAR else values

    def export_keys(self) -> bytes:
        sent = msgspec.structs.replace(self.keys, rotation_keys=b"")  # they are made again from the secret key
        return msgspec.msgpack.encode(ClientKeys(secret_key=saved(self._secret_key.save), sent=sent))


class TenSEALEvaluator(_Role):
    """The server's role: the client's rotation keys, and no others."""

    def __init__(self, context: Context, keys: EvaluationKeys) -> None:
        super().__init__(context, keys.key_id)
        self._evaluator = seal.Evaluator(context.seal)
        self.rotation_steps = frozenset(keys.steps)
        self._galois_keys = seal.GaloisKeys()
        if keys.steps:
            _loaded(self._galois_keys, keys.rotation_keys, context)
        # SEAL would compose a step whose key is missing from other steps.
        if not all(self._galois_keys.has_key(context.galois_element(step)) for step in keys.steps):
            raise ValueError("a key is missing for one of the steps named")
        self.has_public_key = bool(keys.public_key)
        if keys.public_key:
            self._encryptor = seal.Encryptor(context.seal, _loaded(seal.PublicKey(), keys.public_key, context))

    def encrypt_public(self, values: Values, *, scale: float, encoding: Encoding = SLOTS) -> Any:
        ciphertext = seal.Ciphertext()
        plaintext = encoded(self._context, values, self._context.params.max_level, scale, encoding)
        self._encryptor.encrypt(plaintext, ciphertext)
        return ciphertext

    def add(self, left: Any, right: Any) -> Any:
        return self._done(self._evaluator.add, left, self._seal(right))

    def sub(self, left: Any, right: Any) -> Any:
        return self._done(self._evaluator.sub, left, self._seal(right))

    def negate(self, ciphertext: Any) -> Any:
        return self._done(self._evaluator.negate, ciphertext)

    def add_plain(self, ciphertext: Any, plaintext: Any) -> Any:
        return self._done(self._evaluator.add_plain, ciphertext, plaintext)

    def multiply_plain(self, ciphertext: Any, plaintext: Any) -> Any:
        return self._done(self._evaluator.multiply_plain, ciphertext, plaintext)

    def rotate(self, ciphertext: Any, steps: int) -> Any:
        return self._done(self._evaluator.rotate_vector, ciphertext, steps, self._galois_keys)

    def rescale(self, ciphertext: Any) -> Any:
        return self._done(self._evaluator.rescale_to_next, ciphertext)

    def _done(self, operation: Callable[..., object], ciphertext: Any, *operands: Any) -> Any:
        """The result of a method of SEAL's evaluator."""
        result = seal.Ciphertext()
        try:
            operation(self._seal(ciphertext), *operands, result)
        except RuntimeError as error:
            # SEAL completes its result and then refuses it if its second polynomial is zero, as for x − x:
            # anyone could read it. The result is right, and the caller knows its content anyway.
            if "transparent" not in str(error):
                raise
        return result


def _loaded(key: Any, payload: bytes, context: Context) -> Any:
    load(payload, lambda path: key.load(context.seal, path))
    return key


class TenSEALBackend(LibraryBackend):
    """TenSEAL."""

    name = "tenseal"
    library = "tenseal"
    capabilities = Capabilities(
        encodings=frozenset({Encoding.SLOTS, Encoding.COMPLEX_SLOTS, Encoding.SCALAR, Encoding.INTEGERS}),
        slot_generator=3,
        public_key=True,
        compressed_upload=True,
    )

    def resolve(self, params: CKKSParams) -> CKKSParams:
        return resolve(params)

    def encoder(self, params: CKKSParams) -> TenSEALEncoder:
        return TenSEALEncoder(Context(params))

    def client(
        self, params: CKKSParams, steps: tuple[int, ...], *, public_key: bool, restored: ClientKeys | None
    ) -> TenSEALDecryptor:
        return TenSEALDecryptor(Context(params), steps, public_key=public_key, restored=restored)

    def server(self, params: CKKSParams, keys: EvaluationKeys) -> TenSEALEvaluator:
        return TenSEALEvaluator(Context(params), keys)
