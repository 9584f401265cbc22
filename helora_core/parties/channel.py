"""A client's name at a server for plans that run ahead of time: it has no keys of a library, since each batch has its
own.

Both parties hold one in the place of a session. It names the client in envelopes, and its parameters.
"""

from __future__ import annotations

import secrets

from helora_core.backend import envelope
from helora_core.backend.capabilities import Capabilities
from helora_core.backend.checked_backend import CheckedBackend
from helora_core.backend.envelope import KEY_ID_BYTES, Form, PayloadKind
from helora_core.backend.ledger import Ledger
from helora_core.backend.limits import MessageLimits
from helora_core.backend.origin import Origin, origin_of
from helora_core.backend.transport import fingerprint_of
from helora_core.errors import CorruptPayload
from helora_core.params.ckks import CKKSParams
from helora_core.params.security import require_secure


class Channel:
    """Messages of one client under one parameter set.

    Args:
        params: Resolved.
        key_id: The client's name: 16 random bytes.
        origin: Backend and library.
        capabilities: The backend's capabilities.
    """

    def __init__(self, params: CKKSParams, key_id: bytes, origin: Origin, capabilities: Capabilities) -> None:
        self.params = params
        self.key_id = key_id
        self.capabilities = capabilities
        self._origin = origin
        # By their numbers: looking an enumeration's members up takes longer.
        self._forms = [Form(kind, key_id, origin) for kind in range(max(PayloadKind) + 1)]

    @classmethod
    def new(cls, backend: CheckedBackend, params: CKKSParams, *, security_bits: int, table: str) -> Channel:
        """A new client's.

        Raises:
            InsecureParameters: The security table refuses what the backend would use.
        """
        resolved = backend.resolve(params)
        require_secure(resolved, security_bits=security_bits, table=table)
        return cls(resolved, secrets.token_bytes(KEY_ID_BYTES), origin_of(backend.library), backend.capabilities)

    @classmethod
    def of(cls, backend: CheckedBackend, params: CKKSParams, named: bytes) -> Channel:
        """The client's that ``evaluation_keys`` names.

        Raises:
            CorruptPayload, VersionMismatch, ForeignCiphertext: The bytes are damaged, or for other parameters, or of
                another version of helora or of the library.
        """
        resolved, origin = backend.resolve(params), origin_of(backend.library)
        fingerprint = fingerprint_of(resolved)
        found = envelope.opened(PayloadKind.EVALUATION_KEYS, None, named, origin=origin, most_bytes=len(fingerprint))
        if found.payload != fingerprint:
            raise CorruptPayload(
                "Channel.of: the client's name was made for other parameters than the server's.",
                hint="Compile the same plan on both sides, and use the same library in the same version.",
            )
        return cls(resolved, found.key_id, origin, backend.capabilities)

    @property
    def ciphertext_bytes(self) -> int:
        """Most bytes of a ciphertext."""
        return MessageLimits.of(self.params).ciphertext_bytes

    def with_ledger(self, ledger: Ledger) -> Channel:
        """The same: nothing is executed through it."""
        return self

    def evaluation_keys(self) -> bytes:
        """What names the client to a server; no key, and no secret."""
        return envelope.wrap(PayloadKind.EVALUATION_KEYS, self.key_id, fingerprint_of(self.params), self._origin)

    def export_keys(self, passphrase: str) -> bytes:
        """The same: there is nothing to encrypt. Prepared correlations are in the client's store."""
        return self.evaluation_keys()

    def seal(self, kind: int, payload: bytes) -> bytes:
        """A message in its envelope; ``kind`` is a ``PayloadKind``."""
        return self._forms[kind].wrap(payload)

    def open(self, kind: int, message: bytes, *, most_bytes: int) -> bytes | memoryview:
        """The payload of a message; errors are those of ``envelope.opened``."""
        return self._forms[kind].unwrap(message, most_bytes)
