"""Client and server as types: the client session has the secret key, the server session has no field for one.

The only way to get both is ``open_sessions``, which asks the backend what parameters it will really use and refuses
what the security table refuses. What passes between the two is bytes.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import NoReturn, TypeVar

import msgspec

from helora_core.backend import envelope
from helora_core.backend.capabilities import Capabilities, Encoding
from helora_core.backend.encodings import checked_native, from_native, native_encoding
from helora_core.backend.envelope import PayloadKind
from helora_core.backend.ledger import Ledger, MeteredDecryptor, MeteredEvaluator
from helora_core.backend.limits import MessageLimits
from helora_core.backend.ntt import Residues
from helora_core.backend.origin import UNKNOWN, Origin, origin_of
from helora_core.backend.protocol import Backend, Ciphertext, CiphertextCodec, Plaintext, Values
from helora_core.errors import CorruptPayload, HeloraError, InvalidInput
from helora_core.params.ckks import CKKSParams
from helora_core.params.security import DEFAULT_SECURITY_BITS, DEFAULT_TABLE, require_secure

_Read = TypeVar("_Read")


class InsecureParametersWarning(UserWarning):
    """Keys were made with parameters that the security table refuses, because the caller asked for it."""


@dataclass(frozen=True)
class _Transport:
    """Ciphertexts to bytes and back, for the keys of one session."""

    codec: CiphertextCodec
    origin: Origin
    limits: MessageLimits

    def send(self, ciphertext: Ciphertext) -> bytes:
        payload = self.codec.serialize(ciphertext)
        return envelope.wrap(PayloadKind.CIPHERTEXT, self.codec.key_id, payload, self.origin)

    def receive(self, message: bytes) -> Ciphertext:
        payload = envelope.unwrap(
            PayloadKind.CIPHERTEXT,
            self.codec.key_id,
            message,
            origin=self.origin,
            most_bytes=self.limits.ciphertext_bytes,
        )
        return self.deserialize(payload)

    def seal(self, kind: PayloadKind, payload: bytes) -> bytes:
        return envelope.wrap(kind, self.codec.key_id, payload, self.origin)

    def open(self, kind: PayloadKind, message: bytes, most_bytes: int) -> bytes:
        return envelope.unwrap(kind, self.codec.key_id, message, origin=self.origin, most_bytes=most_bytes)

    def deserialize(self, payload: bytes) -> Ciphertext:
        if len(payload) > self.limits.ciphertext_bytes:
            raise CorruptPayload(
                f"A ciphertext of {len(payload)} bytes; these parameters make at most {self.limits.ciphertext_bytes}.",
                hint="Check that both sides use the same parameters.",
            )
        return _by_library(lambda: self.codec.deserialize(payload), "a ciphertext", self.origin)


def _by_library(read: Callable[[], _Read], what: str, origin: Origin) -> _Read:
    """What a library makes of bytes; whatever it raises of bytes that it cannot read is a refusal."""
    try:
        return read()
    except HeloraError:
        raise
    except Exception as error:  # libraries raise what their inner workings stumble on
        raise CorruptPayload(
            f"{origin.library} cannot read these bytes as {what} ({type(error).__name__}).",
            hint="Send it again, and check that both sides use the same parameters.",
        ) from error


class ClientSession:
    """Holds the secret key: packs in, ciphertext bytes out; result bytes in, values out."""

    def __init__(
        self,
        decryptor: MeteredDecryptor,
        params: CKKSParams,
        capabilities: Capabilities,
        *,
        origin: Origin = UNKNOWN,
        limits: MessageLimits | None = None,
    ) -> None:
        self.params = params
        self.capabilities = capabilities
        self._decryptor = decryptor
        self._transport = _Transport(decryptor, origin, limits or MessageLimits.of(params))

    def with_ledger(self, ledger: Ledger) -> ClientSession:
        """This session, with what is done through it entered in another ledger: one for a request."""
        return ClientSession(
            self._decryptor.with_ledger(ledger),
            self.params,
            self.capabilities,
            origin=self._transport.origin,
            limits=self._transport.limits,
        )

    def encrypt(self, values: Values, *, scale_bits: int, encoding: Encoding = Encoding.SLOTS) -> Ciphertext:
        """Encrypt a vector: float64, or complex128 for complex slots; at most N/2 slots or N coefficients.

        Raises:
            InvalidInput, SlotOverflow: The values are refused, before any library sees them.
            CapabilityMissing: The encoding is beyond the backend, and core cannot make it of another.
        """
        scale = _scale(scale_bits, self.params)
        native, values = checked_native(
            values,
            encoding,
            self.capabilities,
            self.params,
            level=self.params.max_level,
            scale=scale,
            who="ClientSession.encrypt",
        )
        return self._decryptor.encrypt(values, scale=scale, encoding=native)

    def decrypt(self, ciphertext: Ciphertext, *, encoding: Encoding = Encoding.SLOTS) -> Values:
        """Decrypt to all N/2 slots (float64 or complex128), all N coefficients, or one scalar.

        Raises:
            ForeignCiphertext: It was made with other keys.
            CapabilityMissing: As for ``encrypt``.
        """
        native = native_encoding(encoding, self.capabilities, who="ClientSession.decrypt")
        values = self._decryptor.decrypt(ciphertext, encoding=native)
        scale = self._decryptor.scale(ciphertext)
        return from_native(values, encoding, native, self.capabilities, self.params, scale=scale)

    def send(self, ciphertext: Ciphertext) -> bytes:
        """The bytes to upload."""
        return self._transport.send(ciphertext)

    def receive(self, message: bytes) -> Ciphertext:
        """Read a downloaded result.

        Raises:
            CorruptPayload, VersionMismatch, ForeignCiphertext: See ``envelope.opened``.
        """
        return self._transport.receive(message)

    @property
    def key_id(self) -> bytes:
        """16 bytes that name the key pair."""
        return self._transport.codec.key_id

    def seal(self, kind: PayloadKind, payload: bytes) -> bytes:
        """A message of several ciphertexts in its envelope."""
        return self._transport.seal(kind, payload)

    def open(self, kind: PayloadKind, message: bytes, *, most_bytes: int) -> bytes:
        """What a message holds; errors as of ``envelope.opened``."""
        return self._transport.open(kind, message, most_bytes)

    def serialize(self, ciphertext: Ciphertext) -> bytes:
        """A ciphertext as part of a message, which has the checksum."""
        return self._transport.codec.serialize(ciphertext)

    def deserialize(self, payload: bytes) -> Ciphertext:
        """A ciphertext out of a message.

        Raises:
            CorruptPayload: The bytes are none of these parameters.
        """
        return self._transport.deserialize(payload)

    def evaluation_keys(self) -> bytes:
        """The bytes that let a server compute on this client's ciphertexts: ``ServerSession.from_keys`` reads them."""
        keys = self._decryptor.evaluation_keys()
        payload = _fingerprint(self.params) + keys
        return envelope.wrap(PayloadKind.EVALUATION_KEYS, self._decryptor.key_id, payload, self._transport.origin)

    def export_keys(self, passphrase: str) -> bytes:
        """The client's keys, encrypted: ``helora_core.restore_client`` makes a session of them after a restart.

        Raises:
            InvalidInput: The passphrase is empty.
            CapabilityMissing: The backend cannot export keys, or the package ``cryptography`` is not installed.
        """
        from helora_core.backend.key_export import sealed_keys

        return sealed_keys(self._decryptor, self.params, self._transport.origin, passphrase)

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise InvalidInput(
            "ClientSession: it holds a secret key, and is neither pickled nor copied.",
            hint="Put its keys away with client.export_keys(passphrase), and use helora_core.restore_client later.",
        )


class ServerSession:
    """Holds evaluation keys only; it has no field for a secret key, nor a way to make one."""

    def __init__(
        self,
        evaluator: MeteredEvaluator,
        params: CKKSParams,
        capabilities: Capabilities,
        *,
        origin: Origin = UNKNOWN,
        limits: MessageLimits | None = None,
    ) -> None:
        self.params = params
        self.evaluator = evaluator
        self.capabilities = capabilities
        self._transport = _Transport(evaluator, origin, limits or MessageLimits.of(params))

    @classmethod
    def from_keys(
        cls,
        backend: Backend,
        params: CKKSParams,
        keys: bytes,
        *,
        ledger: Ledger,
        limits: MessageLimits | None = None,
    ) -> ServerSession:
        """Make a server from the bytes of ``ClientSession.evaluation_keys``.

        Args:
            backend: The client's backend.
            params: The plan's parameters, resolved or not.
            keys: What the client sent.
            ledger: Where operations are counted.
            limits: How long messages may be; if None, ``MessageLimits.of(params)``. Where a plan is known,
                ``MessageLimits.of(params, rotations=len(plan.rotation_steps))`` is much tighter.

        Raises:
            CorruptPayload: The bytes are not intact evaluation keys of these parameters, or too many.
            VersionMismatch, ForeignCiphertext: Another version of helora or of the library made them, or another
                backend.
        """
        resolved = backend.resolve(params)
        origin, limits = origin_of(backend), limits or MessageLimits.of(resolved)
        fingerprint = _fingerprint(resolved)
        found = envelope.opened(
            PayloadKind.EVALUATION_KEYS, None, keys, origin=origin, most_bytes=limits.key_bytes + len(fingerprint)
        )
        payload = found.payload
        if not payload.startswith(fingerprint):
            raise CorruptPayload(
                "ServerSession.from_keys: the keys were made for other parameters than the server's.",
                hint="Compile the same plan on both sides, and use the same library in the same version.",
            )
        evaluator = _by_library(
            lambda: backend.load_evaluator(resolved, payload[len(fingerprint) :]), "evaluation keys", origin
        )
        if evaluator.key_id != found.key_id:
            raise CorruptPayload(
                "ServerSession.from_keys: the keys are of another key pair than the message says.",
                hint="Send the keys again.",
            )
        metered = MeteredEvaluator(evaluator, ledger, resolved.slots)
        return cls(metered, resolved, backend.capabilities, origin=origin, limits=limits)

    def with_ledger(self, ledger: Ledger) -> ServerSession:
        """This session, with what is done through it entered in another ledger: one for a request."""
        return ServerSession(
            self.evaluator.with_ledger(ledger),
            self.params,
            self.capabilities,
            origin=self._transport.origin,
            limits=self._transport.limits,
        )

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise InvalidInput(
            "ServerSession: it holds a library's objects, and is neither pickled nor copied.",
            hint="Send client.evaluation_keys() to the other process, and use ServerSession.from_keys there.",
        )

    def encode(self, values: Values, *, level: int, scale_bits: int, encoding: Encoding = Encoding.SLOTS) -> Plaintext:
        """Encode a vector for ciphertexts at ``level``; values and errors as ``ClientSession.encrypt``."""
        scale = _scale(scale_bits, self.params)
        native, values = self._checked(values, encoding, level, scale, "ServerSession.encode")
        return self.evaluator.encode(values, level=level, scale=scale, encoding=native)

    def encrypt_public(self, values: Values, *, scale_bits: int, encoding: Encoding = Encoding.SLOTS) -> Ciphertext:
        """Encrypt with the client's public key; values and errors as ``ClientSession.encrypt``.

        Raises:
            CapabilityMissing: There is no public key.
        """
        scale = _scale(scale_bits, self.params)
        native, values = self._checked(values, encoding, self.params.max_level, scale, "ServerSession.encrypt_public")
        return self.evaluator.encrypt_public(values, scale=scale, encoding=native)

    def sanitize(
        self, ciphertext: Ciphertext, *, encoding: Encoding, flood_bits: int, mask_bits: int, keep: Sequence[int] | None
    ) -> Ciphertext:
        """Re-randomise and flood a result, and drown what nobody is to read; arguments, errors as of ``sanitize``."""
        return self.evaluator.sanitize(
            ciphertext,
            self.params,
            self.capabilities,
            encoding=encoding,
            flood_bits=flood_bits,
            mask_bits=mask_bits,
            keep=keep,
        )

    def uniform_mask(self, ciphertext: Ciphertext) -> tuple[Ciphertext, Residues]:
        """Hide all coefficients of a value behind a mask, whose residues are returned; errors as ``uniform_mask``."""
        return self.evaluator.uniform_mask(ciphertext, self.params, self.capabilities)

    def _checked(
        self, values: Values, encoding: Encoding, level: int, scale: float, who: str
    ) -> tuple[Encoding, Values]:
        return checked_native(values, encoding, self.capabilities, self.params, level=level, scale=scale, who=who)

    def send(self, ciphertext: Ciphertext) -> bytes:
        """The bytes of a result, to download."""
        return self._transport.send(ciphertext)

    def receive(self, message: bytes) -> Ciphertext:
        """Read an uploaded ciphertext.

        Raises:
            CorruptPayload, VersionMismatch, ForeignCiphertext: See ``envelope.opened``.
        """
        return self._transport.receive(message)

    @property
    def key_id(self) -> bytes:
        """16 bytes that name the key pair."""
        return self._transport.codec.key_id

    def seal(self, kind: PayloadKind, payload: bytes) -> bytes:
        """A message of several ciphertexts in its envelope."""
        return self._transport.seal(kind, payload)

    def open(self, kind: PayloadKind, message: bytes, *, most_bytes: int) -> bytes:
        """What a message holds; errors as of ``envelope.opened``."""
        return self._transport.open(kind, message, most_bytes)

    def serialize(self, ciphertext: Ciphertext) -> bytes:
        """A ciphertext as part of a message, which has the checksum."""
        return self._transport.codec.serialize(ciphertext)

    def deserialize(self, payload: bytes) -> Ciphertext:
        """A ciphertext out of a message.

        Raises:
            CorruptPayload: The bytes are none of these parameters.
        """
        return self._transport.deserialize(payload)


def _fingerprint(params: CKKSParams) -> bytes:
    """32 bytes that two sides share if and only if their resolved parameters are equal."""
    return hashlib.sha256(msgspec.json.encode(params, order="deterministic")).digest()


def _scale(scale_bits: int, params: CKKSParams) -> float:
    """The scale 2^scale_bits, if a value of 1 at that scale fits the modulus.

    Raises:
        InvalidInput: It does not.
    """
    if not 0 <= scale_bits < params.data_modulus_bits:
        raise InvalidInput(
            f"A scale of 2^{scale_bits} does not fit a modulus of {params.data_modulus_bits} bits.",
            hint="Use the plan's scales.",
        )
    return 2.0**scale_bits


def open_sessions(
    backend: Backend,
    params: CKKSParams,
    rotation_steps: Collection[int],
    *,
    ledger: Ledger | None = None,
    security_bits: int = DEFAULT_SECURITY_BITS,
    table: str = DEFAULT_TABLE,
    insecure: bool = False,
    public_key: bool = False,
    seed: int | None = None,
) -> tuple[ClientSession, ServerSession]:
    """Make keys for exactly ``rotation_steps`` and give each role its session.

    Args:
        backend: The CKKS library.
        params: Parameters of the plan; what the backend resolves them to is what is judged and used.
        rotation_steps: Steps the plans rotate by, left, 1 to N/2-1.
        ledger: Where both sessions count and time; a fresh one if None.
        security_bits: Level to insist on.
        table: Security table to judge by.
        insecure: Make keys even if the table refuses the parameters, with an ``InsecureParametersWarning``.
        public_key: Give the server a public key, so that it can encrypt.
        seed: Reproduce the keys and the noise; only emulations allow it.

    Raises:
        InsecureParameters: The table refuses what the backend would use.
        InvalidParameters: The backend cannot realise the parameters.
        InvalidInput: A rotation step is out of range.
        CapabilityMissing: A seed or a public key was asked of a backend that has none.
    """
    resolved = backend.resolve(params)
    if any(not 0 < step < resolved.slots for step in rotation_steps):
        raise InvalidInput(
            f"open_sessions: rotation steps {sorted(rotation_steps)} are not all in 1..{resolved.slots - 1}.",
            hint="Pass plan.rotation_steps; a negative step k is the step k mod the number of slots.",
        )
    if insecure:
        warnings.warn(
            f"INSECURE: making {backend.name} keys at ring degree {resolved.ring_degree}, log2(QP) = "
            f"{resolved.modulus_bits} bits, without a security check, as asked.",
            InsecureParametersWarning,
            stacklevel=2,
        )
    else:
        require_secure(resolved, security_bits=security_bits, table=table)
    ledger = Ledger() if ledger is None else ledger
    decryptor, evaluator = backend.generate_keys(resolved, rotation_steps, public_key=public_key, seed=seed)
    origin, limits = origin_of(backend), MessageLimits.of(resolved, rotations=len(set(rotation_steps)))
    client = ClientSession(
        MeteredDecryptor(decryptor, ledger), resolved, backend.capabilities, origin=origin, limits=limits
    )
    metered = MeteredEvaluator(evaluator, ledger, resolved.slots)
    return client, ServerSession(metered, resolved, backend.capabilities, origin=origin, limits=limits)
