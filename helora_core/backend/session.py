"""Client and server as types: the client session has the secret key, the server session has no field for one.

The only way to get both is ``open_sessions``, which asks the backend what parameters it will really use and refuses
what the security table refuses. What passes between the two is bytes.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from helora_core.backend import envelope
from helora_core.backend.capabilities import Capabilities, Encoding
from helora_core.backend.encodings import checked_native, from_native, native_encoding
from helora_core.backend.envelope import PayloadKind
from helora_core.backend.ledger import Ledger, MeteredDecryptor, MeteredEvaluator
from helora_core.backend.protocol import Backend, Ciphertext, CiphertextCodec, Plaintext, Values
from helora_core.errors import CorruptPayload, InvalidInput
from helora_core.params.ckks import CKKSParams
from helora_core.params.security import DEFAULT_SECURITY_BITS, DEFAULT_TABLE, require_secure


class InsecureParametersWarning(UserWarning):
    """Keys were made with parameters that the security table refuses, because the caller asked for it."""


@dataclass(frozen=True)
class _Transport:
    """Ciphertexts to bytes and back, for the keys of one session."""

    codec: CiphertextCodec

    def send(self, ciphertext: Ciphertext) -> bytes:
        return envelope.wrap(PayloadKind.CIPHERTEXT, self.codec.key_id, self.codec.serialize(ciphertext))

    def receive(self, message: bytes) -> Ciphertext:
        payload = envelope.unwrap(PayloadKind.CIPHERTEXT, self.codec.key_id, message)
        return self.codec.deserialize(payload)


class ClientSession:
    """Holds the secret key: packs in, ciphertext bytes out; result bytes in, values out."""

    def __init__(self, decryptor: MeteredDecryptor, params: CKKSParams, capabilities: Capabilities) -> None:
        self.params = params
        self._decryptor = decryptor
        self._capabilities = capabilities
        self._transport = _Transport(decryptor)

    def encrypt(self, values: Values, *, scale_bits: int, encoding: Encoding = Encoding.SLOTS) -> Ciphertext:
        """Encrypt a vector: float64, or complex128 for complex slots; at most N/2 slots or N coefficients.

        Raises:
            InvalidInput, SlotOverflow: The values are refused, before any library sees them.
            CapabilityMissing: The encoding is beyond the backend, and core cannot make it of another.
        """
        native, values = checked_native(
            values, encoding, self._capabilities, self.params.slots, who="ClientSession.encrypt"
        )
        return self._decryptor.encrypt(values, scale=_scale(scale_bits, self.params), encoding=native)

    def decrypt(self, ciphertext: Ciphertext, *, encoding: Encoding = Encoding.SLOTS) -> Values:
        """Decrypt to all N/2 slots (float64 or complex128), all N coefficients, or one scalar.

        Raises:
            ForeignCiphertext: It was made with other keys.
            CapabilityMissing: As for ``encrypt``.
        """
        native = native_encoding(encoding, self._capabilities, who="ClientSession.decrypt")
        values = self._decryptor.decrypt(ciphertext, encoding=native)
        return from_native(values, encoding, native, self._capabilities, self.params.slots)

    def send(self, ciphertext: Ciphertext) -> bytes:
        """The bytes to upload."""
        return self._transport.send(ciphertext)

    def receive(self, message: bytes) -> Ciphertext:
        """Read a downloaded result.

        Raises:
            CorruptPayload, ForeignCiphertext: See ``envelope.unwrap``.
        """
        return self._transport.receive(message)

    def evaluation_keys(self) -> bytes:
        """The bytes that let a server compute on this client's ciphertexts: ``ServerSession.from_keys`` reads them."""
        keys = self._decryptor.evaluation_keys()
        return envelope.wrap(PayloadKind.EVALUATION_KEYS, self._decryptor.key_id, _fingerprint(self.params) + keys)


class ServerSession:
    """Holds evaluation keys only; it has no field for a secret key, nor a way to make one."""

    def __init__(self, evaluator: MeteredEvaluator, params: CKKSParams, capabilities: Capabilities) -> None:
        self.params = params
        self.evaluator = evaluator
        self.capabilities = capabilities
        self._transport = _Transport(evaluator)

    @classmethod
    def from_keys(cls, backend: Backend, params: CKKSParams, keys: bytes, *, ledger: Ledger) -> ServerSession:
        """Make a server from the bytes of ``ClientSession.evaluation_keys``.

        Args:
            backend: The client's backend.
            params: The plan's parameters, resolved or not.
            keys: What the client sent.
            ledger: Where operations are counted.

        Raises:
            CorruptPayload: The bytes are not intact evaluation keys of these parameters.
        """
        resolved = backend.resolve(params)
        payload = envelope.unwrap(PayloadKind.EVALUATION_KEYS, None, keys)
        fingerprint = _fingerprint(resolved)
        if not payload.startswith(fingerprint):
            raise CorruptPayload(
                "ServerSession.from_keys: the keys were made for other parameters than the server's.",
                hint="Compile the same plan on both sides, and use the same library in the same version.",
            )
        evaluator = backend.load_evaluator(resolved, payload[len(fingerprint) :])
        return cls(MeteredEvaluator(evaluator, ledger, resolved.slots), resolved, backend.capabilities)

    def encode(self, values: Values, *, level: int, scale_bits: int, encoding: Encoding = Encoding.SLOTS) -> Plaintext:
        """Encode a vector for ciphertexts at ``level``; values and errors as ``ClientSession.encrypt``."""
        native, values = self._checked(values, encoding, "ServerSession.encode")
        return self.evaluator.encode(values, level=level, scale=_scale(scale_bits, self.params), encoding=native)

    def encrypt_public(self, values: Values, *, scale_bits: int, encoding: Encoding = Encoding.SLOTS) -> Ciphertext:
        """Encrypt with the client's public key; values and errors as ``ClientSession.encrypt``.

        Raises:
            CapabilityMissing: There is no public key.
        """
        native, values = self._checked(values, encoding, "ServerSession.encrypt_public")
        return self.evaluator.encrypt_public(values, scale=_scale(scale_bits, self.params), encoding=native)

    def sanitize(
        self, ciphertext: Ciphertext, *, flood_bits: int, keep: Sequence[int] | None, message_bits: int
    ) -> Ciphertext:
        """Re-randomise and flood a result, and trim it to the coefficients to keep; errors as of ``sanitize``."""
        return self.evaluator.sanitize(
            ciphertext, self.params, self.capabilities, flood_bits=flood_bits, keep=keep, message_bits=message_bits
        )

    def uniform_mask(self, ciphertext: Ciphertext) -> tuple[Ciphertext, NDArray[np.int64]]:
        """Hide all coefficients of a result at level 0 behind a mask, which is returned; errors as ``uniform_mask``."""
        return self.evaluator.uniform_mask(ciphertext, self.params, self.capabilities)

    def _checked(self, values: Values, encoding: Encoding, who: str) -> tuple[Encoding, Values]:
        return checked_native(values, encoding, self.capabilities, self.params.slots, who=who)

    def send(self, ciphertext: Ciphertext) -> bytes:
        """The bytes of a result, to download."""
        return self._transport.send(ciphertext)

    def receive(self, message: bytes) -> Ciphertext:
        """Read an uploaded ciphertext.

        Raises:
            CorruptPayload, ForeignCiphertext: See ``envelope.unwrap``.
        """
        return self._transport.receive(message)


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
    client = ClientSession(MeteredDecryptor(decryptor, ledger), resolved, backend.capabilities)
    metered = MeteredEvaluator(evaluator, ledger, resolved.slots)
    return client, ServerSession(metered, resolved, backend.capabilities)
