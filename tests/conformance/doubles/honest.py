"""The control: the emulator, with bytes that hide what is in them, as a backend must have that claims encryption.

A double is not registered, and the kit takes a backend that is not registered for one that claims security. The bytes
of a ciphertext are therefore masked with a keystream that depends on the key pair and on the ciphertext. It is no
encryption (the server has to unmask them), but no law that looks at bytes can tell.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np

from helora_core.backend.capabilities import Encoding
from helora_core.backend.protocol import Values
from helora_core.params.ckks import CKKSParams
from helora_numpy.backend import (
    _HEADER,
    EmulatedCiphertext,
    EmulatedDecryptor,
    EmulatedEncoder,
    EmulatedEvaluator,
    NumPyBackend,
    _EvaluationKeys,
    _Role,
)

HEADER_BYTES = _HEADER.size
NONCE_BYTES = 16


def with_values(ciphertext: EmulatedCiphertext, values: Values) -> EmulatedCiphertext:
    """The same ciphertext with other values."""
    return replace(ciphertext, values=values)


class HonestEncoder(EmulatedEncoder):
    """The encoder, and two places where values come in.

    Attributes:
        encrypts_too: Whether a fault is in what both roles encrypt as well, or in plaintexts alone.
    """

    encrypts_too = False

    def taken(self, values: Values, encoding: Encoding) -> Values:
        """The values as they came in."""
        return values

    def placed(self, slots: Values, values: Values, encoding: Encoding) -> Values:
        """All slots (complex128) that were made of the values."""
        return slots

    def _polynomial(self, values: Values, scale: float, encoding: Encoding) -> Any:
        if encoding is Encoding.INTEGERS:  # which are no slots
            return super()._polynomial(values, scale, encoding)
        taken = self.taken(values, encoding)
        return self.placed(super()._polynomial(taken, scale, encoding), taken, encoding)


class HonestRole(_Role):
    """What both roles share: bytes that hide what is in them."""

    encoder_type = HonestEncoder

    _process = os.getpid()

    def _noisy(self, values: Values, std: Any, scale: float) -> Any:
        if self._process != os.getpid():  # a generator is copied with its process
            self._process, self._rng = os.getpid(), np.random.default_rng()
        return super()._noisy(values, std, scale)

    def serialize(self, ciphertext: EmulatedCiphertext) -> bytes:
        plain = super().serialize(ciphertext)
        nonce = hashlib.sha256(self.key_id + plain).digest()[:NONCE_BYTES]
        return plain[:HEADER_BYTES] + nonce + self.masked(plain[HEADER_BYTES:], nonce)

    def deserialize(self, payload: bytes) -> EmulatedCiphertext:
        body = HEADER_BYTES + NONCE_BYTES
        return super().deserialize(payload[:HEADER_BYTES] + self.masked(payload[body:], payload[HEADER_BYTES:body]))

    def masked(self, content: bytes, nonce: bytes) -> bytes:
        """``content`` with the keystream of this key pair and this nonce; twice gives the content again."""
        return xor(content, keystream(self.key_id + nonce, len(content)))


def keystream(seed: bytes, size: int) -> bytes:
    """``size`` bytes that look random and follow from ``seed``."""
    return np.random.default_rng(list(seed)).bytes(size)


def xor(left: bytes, right: bytes) -> bytes:
    """Both, bit by bit."""
    return (np.frombuffer(left, np.uint8) ^ np.frombuffer(right, np.uint8)).tobytes()


class HonestDecryptor(HonestRole, EmulatedDecryptor):
    """The client's role. Its secret key is for the laws that look for one."""

    def __init__(self, params: CKKSParams, keys: _EvaluationKeys, rng: np.random.Generator) -> None:
        super().__init__(params, keys, rng)
        self._secret_key = secrets.token_bytes(32)


class HonestEvaluator(HonestRole, EmulatedEvaluator):
    """The server's role."""


class HonestBackend(NumPyBackend):
    """The emulator under a name that nobody registered, made of the roles that a double gives it."""

    name = "double"
    encoder_type = HonestEncoder
    decryptor_type = HonestDecryptor
    evaluator_type = HonestEvaluator

    def encoder(self, params: CKKSParams) -> HonestEncoder:
        return self.encoder_type(params)

    def generate_keys(
        self,
        params: CKKSParams,
        rotation_steps: Collection[int],
        *,
        public_key: bool = False,
        seed: int | None = None,
    ) -> tuple[HonestDecryptor, HonestEvaluator]:
        client_rng, server_rng = np.random.default_rng(seed).spawn(2)
        keys = self.keys_for(rotation_steps, public_key)
        return self.decryptor_type(params, keys, client_rng), self.evaluator_type(params, keys, server_rng)

    def keys_for(self, rotation_steps: Collection[int], public_key: bool) -> _EvaluationKeys:
        """New keys."""
        return _EvaluationKeys(sorted(rotation_steps), secrets.token_bytes(16), public_key)

    def load_evaluator(self, params: CKKSParams, evaluation_keys: bytes) -> HonestEvaluator:
        keys = msgspec.msgpack.decode(evaluation_keys, type=_EvaluationKeys)
        return self.evaluator_type(params, keys, np.random.default_rng())
