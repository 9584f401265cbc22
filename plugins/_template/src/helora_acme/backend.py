"""acme as a backend of helora: which key each call of the library takes, and what is sent.

There is nothing to fill in here; the library's calls are in ``library``. Core checks what goes in.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection
from typing import Any

import msgspec
from helora_core.backend.base import with_primes
from helora_core.backend.capabilities import Encoding
from helora_core.backend.protocol import SLOTS, Ciphertext, Plaintext, Values
from helora_core.params.ckks import CKKSParams

from helora_acme.library import CAPABILITIES, Library, primes


class EvaluationKeys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The client's first message to the server: the library's bytes for each step. It contains no secret key."""

    key_id: bytes
    rotation_keys: dict[int, bytes]


class Encoder:
    """Makes plaintexts. It has no key."""

    def __init__(self, params: CKKSParams) -> None:
        self._library = Library(params)

    def encode(self, values: Values, *, level: int, scale: float, encoding: Encoding = SLOTS) -> Plaintext:
        return self._library.encode(values, encoding, level, scale)


class _Role:
    """The base of client and server. It has no key."""

    def __init__(self, params: CKKSParams, key_id: bytes) -> None:
        self.key_id = key_id
        self._params = params
        self._library = Library(params)

    def level(self, ciphertext: Ciphertext) -> int:
        return self._library.level(ciphertext)

    def scale(self, ciphertext: Ciphertext) -> float:
        return self._library.scale(ciphertext)

    def serialize(self, ciphertext: Ciphertext) -> bytes:
        return self._library.to_bytes(ciphertext)

    def deserialize(self, payload: bytes) -> Ciphertext:
        return self._library.from_bytes(payload)


class Decryptor(_Role):
    """The client's role: it alone has the secret key."""

    def __init__(self, params: CKKSParams, rotation_steps: Collection[int]) -> None:
        super().__init__(params, secrets.token_bytes(16))
        self._secret_key = self._library.secret_key()
        keys = {steps: self._library.rotation_key(self._secret_key, steps) for steps in sorted(rotation_steps)}
        self._evaluation_keys = msgspec.msgpack.encode(EvaluationKeys(self.key_id, keys))

    def encrypt(self, values: Values, *, scale: float, encoding: Encoding = SLOTS) -> Ciphertext:
        plaintext = self._library.encode(values, encoding, self._params.max_level, scale)
        return self._library.encrypt(self._secret_key, plaintext)

    def decrypt(self, ciphertext: Ciphertext, *, encoding: Encoding = SLOTS) -> Values:
        return self._library.decode(self._library.decrypt(self._secret_key, ciphertext), encoding)

    def evaluation_keys(self) -> bytes:
        return self._evaluation_keys


class Evaluator(_Role):
    """The server's role: it is made from the client's message alone."""

    def __init__(self, params: CKKSParams, keys: EvaluationKeys) -> None:
        super().__init__(params, keys.key_id)
        read = self._library.read_rotation_key
        self._rotation_keys: dict[int, Any] = {steps: read(payload) for steps, payload in keys.rotation_keys.items()}
        self.rotation_steps = frozenset(self._rotation_keys)

    def add(self, left: Ciphertext, right: Ciphertext) -> Ciphertext:
        return self._library.add(left, right)

    def sub(self, left: Ciphertext, right: Ciphertext) -> Ciphertext:
        return self._library.sub(left, right)

    def negate(self, ciphertext: Ciphertext) -> Ciphertext:
        return self._library.negate(ciphertext)

    def add_plain(self, ciphertext: Ciphertext, plaintext: Plaintext) -> Ciphertext:
        return self._library.add_plain(ciphertext, plaintext)

    def multiply_plain(self, ciphertext: Ciphertext, plaintext: Plaintext) -> Ciphertext:
        return self._library.multiply_plain(ciphertext, plaintext)

    def rescale(self, ciphertext: Ciphertext) -> Ciphertext:
        return self._library.rescale(ciphertext)

    def rotate(self, ciphertext: Ciphertext, steps: int) -> Ciphertext:
        return self._library.rotate(ciphertext, steps, self._rotation_keys[steps])


class AcmeBackend:
    """acme."""

    name = "acme"
    capabilities = CAPABILITIES

    def resolve(self, params: CKKSParams) -> CKKSParams:
        return with_primes(params, primes(params))

    def encoder(self, params: CKKSParams) -> Encoder:
        return Encoder(params)

    def generate_keys(
        self,
        params: CKKSParams,
        rotation_steps: Collection[int],
        *,
        public_key: bool = False,
        seed: int | None = None,
    ) -> tuple[Decryptor, Evaluator]:
        decryptor = Decryptor(params, rotation_steps)
        return decryptor, self.load_evaluator(params, decryptor.evaluation_keys())

    def load_evaluator(self, params: CKKSParams, evaluation_keys: bytes) -> Evaluator:
        return Evaluator(params, msgspec.msgpack.decode(evaluation_keys, type=EvaluationKeys))
