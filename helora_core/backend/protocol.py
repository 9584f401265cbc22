"""The contract that a CKKS library's adapter fulfils.

Everything is out-of-place: no call alters its arguments. Ciphertexts and plaintexts are opaque to helora. *Level* is
the number of rescales still possible (a fresh ciphertext has ``params.max_level``, a spent one 0); *scale* is the exact
factor between a value and its integer encoding, as the library tracks it.

``rotate(ct, k)`` moves slot i+k to slot i, cyclically: left, as ``np.roll(v, -k)`` does.

Backends do not count or time their operations (the ledger does), nor judge their security (``open_sessions`` does, on
what ``resolve`` reports).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from helora_core.backend.capabilities import Capabilities
from helora_core.params.ckks import CKKSParams

Ciphertext: TypeAlias = Any
Plaintext: TypeAlias = Any
Values: TypeAlias = NDArray[np.float64]


class CiphertextCodec(Protocol):
    """What both roles can do with ciphertexts: look at them and turn them into bytes and back.

    Attributes:
        key_id: 16 random bytes that name the key pair; equal in both roles, fresh for each key generation.
    """

    key_id: bytes

    def level(self, ciphertext: Ciphertext) -> int:
        """Rescales still possible."""
        ...

    def scale(self, ciphertext: Ciphertext) -> float:
        """Exact scale, as the library tracks it."""
        ...

    def serialize(self, ciphertext: Ciphertext) -> bytes:
        """Bytes that ``deserialize`` of the same parameters reads; no secret is in them."""
        ...

    def deserialize(self, payload: bytes) -> Ciphertext:
        """Read a ciphertext of this key pair; the session has checked the bytes' integrity and key id.

        Raises:
            CorruptPayload: The bytes are not a ciphertext of these parameters.
        """
        ...


class Decryptor(CiphertextCodec, Protocol):
    """The client's side: it alone holds the secret key."""

    def encrypt(self, values: Values, *, scale: float) -> Ciphertext:
        """Encrypt up to N/2 real values, symmetrically and with fresh randomness, at the highest level.

        Raises:
            InvalidInput: Not finite, not one-dimensional, or not float64.
            SlotOverflow: More values than slots.
            PrecisionLost: A value times the scale does not fit the modulus.
        """
        ...

    def decrypt(self, ciphertext: Ciphertext) -> Values:
        """Decrypt to N/2 real values (float64, shape (N/2,)).

        Raises:
            ForeignCiphertext: It was not made with this key.
        """
        ...

    def evaluation_keys(self) -> bytes:
        """The rotation keys, serialised for ``Backend.load_evaluator``. No secret key is in them."""
        ...


class Evaluator(CiphertextCodec, Protocol):
    """The server's side: evaluation keys only. A type that holds a secret key must not implement it."""

    def encode(self, values: Values, *, level: int, scale: float) -> Plaintext:
        """Encode up to N/2 real values for operations with ciphertexts at ``level``.

        Raises:
            InvalidInput, SlotOverflow, PrecisionLost: As for ``encrypt``.
        """
        ...

    def add(self, left: Ciphertext, right: Ciphertext) -> Ciphertext:
        """Slot-wise sum.

        Raises:
            ScaleMismatch, LevelMismatch, ForeignCiphertext: The operands do not go together.
        """
        ...

    def multiply_plain(self, ciphertext: Ciphertext, plaintext: Plaintext) -> Ciphertext:
        """Slot-wise product with a plaintext of the same level; scales multiply, the level stays.

        Raises:
            LevelMismatch, ForeignCiphertext: The operands do not go together.
            PrecisionLost: The product's scale does not fit the modulus.
        """
        ...

    def rotate(self, ciphertext: Ciphertext, steps: int) -> Ciphertext:
        """Rotate left by ``steps`` (mod N/2) with one key switch; by 0 with none.

        Raises:
            MissingRotationKey: No key was made for exactly this step. Composing it from others is a fault.
        """
        ...

    def rescale(self, ciphertext: Ciphertext) -> Ciphertext:
        """Divide by the last prime: one level less, scale divided by that prime.

        Raises:
            LevelExhausted: The ciphertext is at level 0.
        """
        ...


class Backend(Protocol):
    """One CKKS library."""

    name: str
    capabilities: Capabilities

    def resolve(self, params: CKKSParams) -> CKKSParams:
        """The parameters the library will really use, primes included.

        Raises:
            InvalidParameters: The library cannot realise them.
        """
        ...

    def generate_keys(
        self, params: CKKSParams, rotation_steps: Collection[int], *, seed: int | None = None
    ) -> tuple[Decryptor, Evaluator]:
        """Make a key pair and rotation keys for exactly ``rotation_steps`` (left, 1 to N/2-1), no more.

        The evaluator shares no object with the decryptor from which the secret key can be reached.

        Raises:
            CapabilityMissing: ``seed`` was given to a backend whose keys cannot be reproduced.
        """
        ...

    def load_evaluator(self, params: CKKSParams, evaluation_keys: bytes) -> Evaluator:
        """Make a server's evaluator from what a client sent.

        Raises:
            CorruptPayload: The bytes are not evaluation keys of these parameters.
        """
        ...
