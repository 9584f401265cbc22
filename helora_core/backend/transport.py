"""Ciphertexts as messages: a library's bytes in an envelope that names the key pair, the backend and the library."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import msgspec

from helora_core.backend import envelope
from helora_core.backend.envelope import PayloadKind
from helora_core.backend.handles import Ciphertext
from helora_core.backend.ledger import MeteredDecryptor, MeteredEvaluator
from helora_core.backend.limits import MessageLimits
from helora_core.backend.origin import Origin
from helora_core.errors import CorruptPayload
from helora_core.params.ckks import CKKSParams


@dataclass(frozen=True)
class Transport:
    """Converts ciphertexts to bytes and back, for the keys of one session."""

    codec: MeteredDecryptor | MeteredEvaluator
    origin: Origin
    limits: MessageLimits

    def send(self, ciphertext: Ciphertext) -> bytes:
        """The bytes of a message, for the other side's ``receive``."""
        payload = self.codec.serialize(ciphertext)
        return envelope.wrap(PayloadKind.CIPHERTEXT, self.codec.key_id, payload, self.origin)

    def receive(self, message: bytes) -> Ciphertext:
        """Read a message; errors are those of ``envelope.opened`` and of the role's ``deserialize``."""
        payload = envelope.unwrap(
            PayloadKind.CIPHERTEXT,
            self.codec.key_id,
            message,
            origin=self.origin,
            most_bytes=self.limits.ciphertext_bytes,
        )
        return self.deserialize(payload)

    def seal(self, kind: PayloadKind, payload: bytes) -> bytes:
        """A message of several ciphertexts in its envelope."""
        return envelope.wrap(kind, self.codec.key_id, payload, self.origin)

    def open(self, kind: PayloadKind, message: bytes, most_bytes: int) -> bytes:
        """The payload of a message that ``seal`` made."""
        return envelope.unwrap(kind, self.codec.key_id, message, origin=self.origin, most_bytes=most_bytes)

    def deserialize(self, payload: bytes) -> Ciphertext:
        """A ciphertext out of a message."""
        if len(payload) > self.limits.ciphertext_bytes:
            raise CorruptPayload(
                f"A ciphertext of {len(payload)} bytes; these parameters make at most {self.limits.ciphertext_bytes}.",
                hint="Check that both sides use the same parameters.",
            )
        return self.codec.deserialize(payload)


class Carrier:
    """The handling of messages that both kinds of session share."""

    _transport: Transport

    @property
    def key_id(self) -> bytes:
        """16 bytes that name the key pair."""
        return self._transport.codec.key_id

    def send(self, ciphertext: Ciphertext) -> bytes:
        """A ciphertext as a message of its own, for the other side's ``receive``."""
        return self._transport.send(ciphertext)

    def receive(self, message: bytes) -> Ciphertext:
        """Read a message that ``send`` made.

        Raises:
            CorruptPayload, VersionMismatch, ForeignCiphertext: See ``envelope.opened``.
        """
        return self._transport.receive(message)

    def serialize(self, ciphertext: Ciphertext) -> bytes:
        """A ciphertext as part of a message; the message has the checksum."""
        return self._transport.codec.serialize(ciphertext)

    def deserialize(self, payload: bytes) -> Ciphertext:
        """A ciphertext out of a message.

        Raises:
            CorruptPayload: The bytes are not a ciphertext of these parameters.
        """
        return self._transport.deserialize(payload)

    def seal(self, kind: PayloadKind, payload: bytes) -> bytes:
        """A message of several ciphertexts in its envelope."""
        return self._transport.seal(kind, payload)

    def open(self, kind: PayloadKind, message: bytes, *, most_bytes: int) -> bytes:
        """The payload of a message; errors are those of ``envelope.opened``."""
        return self._transport.open(kind, message, most_bytes)


def fingerprint_of(params: CKKSParams) -> bytes:
    """32 bytes that are the same on both sides if and only if their resolved parameters are equal."""
    return hashlib.sha256(msgspec.json.encode(params.digested, order="deterministic")).digest()
