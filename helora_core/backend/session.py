"""Client and server as types: the client session has the secret key, the server session has no field for one.

The only way to get both is ``open_sessions``, which asks the backend for the parameters it will really use and refuses
any that the security table refuses. Only bytes pass between the two.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence
from typing import NoReturn

from helora_core.backend import envelope
from helora_core.backend.capabilities import Capabilities, Encoding
from helora_core.backend.checked_backend import CheckedBackend, checked
from helora_core.backend.checks import check_keys_asked
from helora_core.backend.encoder import PlaintextEncoder, scale_of
from helora_core.backend.encodings import checked_native, from_native, native_encoding
from helora_core.backend.envelope import PayloadKind
from helora_core.backend.handles import Ciphertext
from helora_core.backend.ledger import Ledger, MeteredDecryptor, MeteredEvaluator
from helora_core.backend.limits import MessageLimits
from helora_core.backend.ntt import Residues
from helora_core.backend.origin import UNKNOWN, Origin, origin_of
from helora_core.backend.protocol import Backend, Sanitizing, Values
from helora_core.backend.short_results import ALL_KEPT, LowBits, check_low_bits
from helora_core.backend.transport import Carrier, Transport, fingerprint_of
from helora_core.errors import CorruptPayload, InvalidInput
from helora_core.params.ckks import CKKSParams
from helora_core.params.security import DEFAULT_SECURITY_BITS, DEFAULT_TABLE, require_secure


class InsecureParametersWarning(UserWarning):
    """Keys were made with parameters that the security table refuses, because the caller asked for them."""


class ClientSession(Carrier):
    """Holds the secret key: encrypts vectors to bytes for the server, and decrypts the bytes of results."""

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
        self._transport = Transport(decryptor, origin, limits or MessageLimits.of(params))

    @property
    def ciphertext_bytes(self) -> int:
        """Most bytes of a ciphertext that is read."""
        return self._transport.limits.ciphertext_bytes

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
            CapabilityMissing: The backend does not have the encoding, and core cannot make it from another.
        """
        native, taken = self._taken(values, scale_bits, encoding, "encrypt")
        return self._decryptor.encrypt(taken, scale=2.0**scale_bits, encoding=native)

    def encrypt_many(
        self, many: Sequence[Values], *, scale_bits: int, encoding: Encoding = Encoding.SLOTS
    ) -> list[Ciphertext]:
        """Encrypt the vectors of one message, each as ``encrypt`` does, all in one call if the library can."""
        taken = [self._taken(values, scale_bits, encoding, "encrypt_many") for values in many]
        if not taken:
            return []
        return self._decryptor.encrypt_many(
            [values for _, values in taken], scale=2.0**scale_bits, encoding=taken[0][0]
        )

    def _taken(self, values: Values, scale_bits: int, encoding: Encoding, what: str) -> tuple[Encoding, Values]:
        """The encoding to give to the backend, and the values converted for it."""
        return checked_native(
            values,
            encoding,
            self.capabilities,
            self.params,
            level=self.params.max_level,
            scale=scale_of(scale_bits, self.params),
            who=f"ClientSession.{what}",
        )

    def decrypt(self, ciphertext: Ciphertext, *, encoding: Encoding = Encoding.SLOTS) -> Values:
        """Decrypt to all N/2 slots (float64 or complex128), all N coefficients, or one scalar.

        Raises:
            ForeignCiphertext: It was made with other keys.
            CapabilityMissing: As for ``encrypt``.
        """
        native = native_encoding(encoding, self.capabilities, who="ClientSession.decrypt")
        return self._read(self._decryptor.decrypt(ciphertext, encoding=native), ciphertext, encoding, native)

    def decrypt_many(self, ciphertexts: Sequence[Ciphertext], *, encoding: Encoding = Encoding.SLOTS) -> list[Values]:
        """Decrypt the ciphertexts of one message, each as ``decrypt`` does, all in one call if the library can."""
        native = native_encoding(encoding, self.capabilities, who="ClientSession.decrypt_many")
        many = self._decryptor.decrypt_many(ciphertexts, encoding=native)
        return [self._read(values, each, encoding, native) for values, each in zip(many, ciphertexts, strict=True)]

    def _read(self, values: Values, ciphertext: Ciphertext, encoding: Encoding, native: Encoding) -> Values:
        if native is encoding:
            return values
        scale = self._decryptor.scale(ciphertext)
        return from_native(values, encoding, native, self.capabilities, self.params, scale=scale)

    def read_result(self, payload: bytes, low_bits: LowBits) -> Ciphertext:
        """A result out of a message: ``deserialize``, for one that a plan drops low bits of.

        Raises:
            CorruptPayload: The bytes are not a ciphertext of these parameters, or one without other bits.
        """
        ciphertext = self.deserialize(payload)
        expected = low_bits if self.capabilities.short_results else ALL_KEPT
        check_low_bits(self._decryptor.low_bits(ciphertext), expected, who="ClientSession.read_result")
        return ciphertext

    def evaluation_keys(self) -> bytes:
        """The bytes that let a server compute on this client's ciphertexts: ``ServerSession.from_keys`` reads them."""
        keys = self._decryptor.evaluation_keys()
        payload = fingerprint_of(self.params) + keys
        return envelope.wrap(PayloadKind.EVALUATION_KEYS, self._decryptor.key_id, payload, self._transport.origin)

    def export_keys(self, passphrase: str) -> bytes:
        """The client's keys, encrypted; ``helora_core.restore_client`` makes a session from them after a restart.

        Raises:
            InvalidInput: The passphrase is empty.
            CapabilityMissing: The backend cannot export keys, or the package ``cryptography`` is not installed.
        """
        from helora_core.backend.key_export import sealed_keys

        return sealed_keys(self._decryptor, self.params, self._transport.origin, passphrase)

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise InvalidInput(
            "ClientSession: it holds a secret key, and is neither pickled nor copied.",
            hint="Export its keys with client.export_keys(passphrase), and use helora_core.restore_client later.",
        )


class ServerSession(Carrier):
    """Holds evaluation keys only; it has no field for a secret key, nor a way to make one.

    Attributes:
        evaluator: Its operations.
        encoder: Makes plaintexts, which also work in every other session of these parameters.
        params: The resolved parameters.
        capabilities: The backend's capabilities.
    """

    def __init__(
        self,
        evaluator: MeteredEvaluator,
        encoder: PlaintextEncoder,
        *,
        origin: Origin = UNKNOWN,
        limits: MessageLimits | None = None,
    ) -> None:
        self.evaluator = evaluator
        self.encoder = encoder
        self.params = encoder.params
        self.capabilities = encoder.capabilities
        self._transport = Transport(evaluator, origin, limits or MessageLimits.of(encoder.params))

    @classmethod
    def from_keys(
        cls,
        backend: Backend | CheckedBackend,
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
            keys: The client's bytes.
            ledger: Where operations are counted.
            limits: The largest messages accepted; if None, ``MessageLimits.of(params)``. If the plan is known,
                ``MessageLimits.of(params, rotations=len(plan.rotation_steps))`` is much tighter.

        Raises:
            CorruptPayload: The bytes are not intact evaluation keys of these parameters, or too many.
            VersionMismatch, ForeignCiphertext: Another version of helora or of the library made them, or another
                backend.
        """
        checked_backend = checked(backend)
        resolved = checked_backend.resolve(params)
        origin, limits = origin_of(checked_backend.library), limits or MessageLimits.of(resolved)
        fingerprint = fingerprint_of(resolved)
        found = envelope.opened(
            PayloadKind.EVALUATION_KEYS, None, keys, origin=origin, most_bytes=limits.key_bytes + len(fingerprint)
        )
        payload = found.payload
        if not payload.startswith(fingerprint):
            raise CorruptPayload(
                "ServerSession.from_keys: the keys were made for other parameters than the server's.",
                hint="Compile the same plan on both sides, and use the same library in the same version.",
            )
        evaluator = checked_backend.load_evaluator(resolved, payload[len(fingerprint) :])
        if evaluator.key_id != found.key_id:
            raise CorruptPayload(
                "ServerSession.from_keys: the keys belong to another key pair than the message says.",
                hint="Send the keys again.",
            )
        encoder = PlaintextEncoder(checked_backend, resolved)
        return cls(MeteredEvaluator(evaluator, ledger), encoder, origin=origin, limits=limits)

    def with_ledger(self, ledger: Ledger) -> ServerSession:
        """This session, with what is done through it entered in another ledger: one for a request."""
        return ServerSession(
            self.evaluator.with_ledger(ledger),
            self.encoder,
            origin=self._transport.origin,
            limits=self._transport.limits,
        )

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise InvalidInput(
            "ServerSession: it holds a library's objects, and is neither pickled nor copied.",
            hint="Send client.evaluation_keys() to the other process, and use ServerSession.from_keys there.",
        )

    def encrypt_public(self, values: Values, *, scale_bits: int, encoding: Encoding = Encoding.SLOTS) -> Ciphertext:
        """Encrypt with the client's public key; values and errors as ``ClientSession.encrypt``.

        Raises:
            CapabilityMissing: There is no public key.
        """
        scale = scale_of(scale_bits, self.params)
        native, taken = checked_native(
            values,
            encoding,
            self.capabilities,
            self.params,
            level=self.params.max_level,
            scale=scale,
            who="ServerSession.encrypt_public",
        )
        return self.evaluator.encrypt_public(taken, scale=scale, encoding=native)

    def sanitize(
        self, ciphertext: Ciphertext, *, encoding: Encoding, flood_bits: int, mask_bits: int, keep: Sequence[int] | None
    ) -> Ciphertext:
        """Re-randomise and flood a result, and hide places not kept; arguments and errors are those of ``sanitize``."""
        (clean,) = self.sanitize_many(
            [ciphertext], [Sanitizing(encoding, flood_bits, mask_bits, None if keep is None else tuple(keep))]
        )
        return clean

    def sanitize_many(self, ciphertexts: Sequence[Ciphertext], how: Sequence[Sanitizing]) -> list[Ciphertext]:
        """Sanitise several results, each as ``sanitize`` does, all in one call if the library can."""
        return self.evaluator.sanitize_many(ciphertexts, how, self.params, self.capabilities)

    def prepare_zeros(self, level: int, count: int) -> int:
        """Make what sanitising results of a level takes before there are any, for ``count`` of them.

        Call it while the server is idle, from any thread. Each encryption of zero is used once.

        Returns:
            How many are ready now: fewer if the library keeps no more, none if it makes them when they are needed.
        """
        return self.evaluator.unmetered.prepare_zeros(level, count)

    def uniform_mask(self, ciphertext: Ciphertext) -> tuple[Ciphertext, Residues]:
        """Hide all coefficients behind a mask, and return its residues too; arguments and errors are those of
        ``uniform_mask``.
        """
        return self.evaluator.uniform_mask(ciphertext, self.params, self.capabilities)


def open_sessions(
    backend: Backend | CheckedBackend,
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
        params: Parameters of the plan. The backend resolves them; the resolved ones are judged and used.
        rotation_steps: Steps the plans rotate by, left, 1 to N/2-1.
        ledger: Where both sessions count and time; a new one if None.
        security_bits: The security level required.
        table: The security table to judge by.
        insecure: Make keys even if the table refuses the parameters, with an ``InsecureParametersWarning``.
        public_key: Give the server a public key, so that it can encrypt.
        seed: Reproduce the keys and the noise; only emulations allow it.

    Raises:
        InsecureParameters: The table refuses what the backend would use.
        InvalidParameters: The backend cannot realise the parameters.
        InvalidInput: A rotation step is out of range.
        CapabilityMissing: A seed or a public key was asked for, and the backend cannot provide it.
    """
    backend = checked(backend)
    resolved = backend.resolve(params)
    check_keys_asked(
        resolved,
        rotation_steps,
        backend.capabilities,
        public_key=public_key,
        seeded=seed is not None,
        who="open_sessions",
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
    origin, limits = origin_of(backend.library), MessageLimits.of(resolved, rotations=len(set(rotation_steps)))
    client = ClientSession(
        MeteredDecryptor(decryptor, ledger), resolved, backend.capabilities, origin=origin, limits=limits
    )
    encoder = PlaintextEncoder(backend, resolved)
    return client, ServerSession(MeteredEvaluator(evaluator, ledger), encoder, origin=origin, limits=limits)
