"""What adapters of libraries have in common: keys as they travel and are put away, and the roles made of them.

An adapter need not use it: the contract is ``helora_core.backend.protocol``, which these classes fulfil.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from importlib.metadata import version
from typing import Annotated, Any

import msgspec

from helora_core.backend.capabilities import Capabilities
from helora_core.backend.envelope import KEY_ID_BYTES
from helora_core.backend.protocol import Decryptor, Encoder, Evaluator
from helora_core.files import strict_msgpack
from helora_core.params.ckks import CKKSParams


class EvaluationKeys(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a client sends before all else: the library's bytes. No secret key is in it.

    Attributes:
        key_id: Names the key pair.
        steps: The rotations that there are keys for.
        rotation_keys: For exactly these steps; empty if there are none.
        public_key: Empty if the server is not to encrypt.
    """

    key_id: Annotated[bytes, msgspec.Meta(min_length=KEY_ID_BYTES, max_length=KEY_ID_BYTES)]
    steps: tuple[int, ...]
    rotation_keys: bytes
    public_key: bytes


class ClientKeys(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a client puts away: the library's bytes, in the clear, for core to encrypt at once.

    Attributes:
        secret_key: The secret key.
        public_key: The one that the client itself encrypts with; empty if it needs none.
        sent: What the server got. Rotation keys may be left out by libraries that make them anew of the secret key.
    """

    secret_key: bytes
    public_key: bytes = b""
    sent: EvaluationKeys


class KeySender:
    """The part of a client that sends its evaluation keys.

    Attributes:
        keys: Those.
    """

    keys: EvaluationKeys

    def evaluation_keys(self) -> bytes:
        """What ``LibraryBackend.load_evaluator`` reads."""
        return msgspec.msgpack.encode(self.keys)


class LibraryBackend(ABC):
    """A backend whose keys travel as ``EvaluationKeys`` and are put away as ``ClientKeys``.

    Attributes:
        name: As users type it.
        library: The distribution that does the arithmetic, whose version messages carry.
        capabilities: What it can do.
    """

    name: str
    library: str
    capabilities: Capabilities

    @property
    def library_version(self) -> str:
        """Such as ``tenseal 0.3.16``."""
        return f"{self.library} {version(self.library)}"

    @abstractmethod
    def resolve(self, params: CKKSParams) -> CKKSParams:
        """The parameters with the primes that the library takes; see ``with_primes``."""

    @abstractmethod
    def encoder(self, params: CKKSParams) -> Encoder:
        """An encoder, without keys."""

    @abstractmethod
    def client(
        self, params: CKKSParams, steps: tuple[int, ...], *, public_key: bool, restored: ClientKeys | None
    ) -> Decryptor:
        """A client with rotation keys for ``steps``, ascending, and a public key for the server if it is to have one.

        Its keys are new, or those that were put away.
        """

    @abstractmethod
    def server(self, params: CKKSParams, keys: EvaluationKeys) -> Evaluator:
        """A server with these keys and no others, or an error of any type."""

    def generate_keys(
        self,
        params: CKKSParams,
        rotation_steps: Collection[int],
        *,
        public_key: bool = False,
        seed: int | None = None,
    ) -> tuple[Any, Any]:
        """A client, and a server made of what it sends."""
        client = self.client(params, tuple(sorted(rotation_steps)), public_key=public_key, restored=None)
        return client, self.load_evaluator(params, client.evaluation_keys())

    def load_evaluator(self, params: CKKSParams, evaluation_keys: bytes) -> Evaluator:
        """A server of what a client sent."""
        return self.server(params, strict_msgpack.decode(evaluation_keys, EvaluationKeys))

    def restore_keys(self, params: CKKSParams, exported: bytes) -> Decryptor:
        """A client of what one put away."""
        keys = strict_msgpack.decode(exported, ClientKeys)
        return self.client(params, keys.sent.steps, public_key=bool(keys.sent.public_key), restored=keys)


def with_primes(params: CKKSParams, primes: Sequence[int]) -> CKKSParams:
    """The parameters with the primes of the whole chain, the special ones last, and their real lengths."""
    data = len(params.data_bits)
    bits = tuple(prime.bit_length() for prime in primes)
    return msgspec.structs.replace(
        params,
        data_bits=bits[:data],
        special_bits=bits[data:],
        data_primes=tuple(primes[:data]),
        special_primes=tuple(primes[data:]),
    )
