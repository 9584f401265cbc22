"""The contract that a CKKS library's adapter fulfils.

Everything is out-of-place: no call alters its arguments. Ciphertexts and plaintexts are opaque to helora. *Level* is
the number of rescales still possible (a fresh ciphertext has ``params.max_level``, a spent one 0); *scale* is the exact
factor between a value and its integer encoding, as the library tracks it.

``rotate(ct, k)`` moves slot i+k to slot i, cyclically: left, as ``np.roll(v, -k)`` does.

Backends do not count or time their operations (the ledger does), nor judge their security (``open_sessions`` does, on
what ``resolve`` reports). They are asked for the encodings of their ``capabilities`` only. The ``Supports…`` protocols
are optional; a backend that has one says so in its capabilities.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

from numpy.typing import NDArray

from helora_core.backend.capabilities import Capabilities, Encoding
from helora_core.params.ckks import CKKSParams

Ciphertext: TypeAlias = Any
Plaintext: TypeAlias = Any
Values: TypeAlias = NDArray[Any]
"""float64, or complex128 for complex slots; one dimension."""

SLOTS = Encoding.SLOTS


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

    def encrypt(self, values: Values, *, scale: float, encoding: Encoding = SLOTS) -> Ciphertext:
        """Encrypt with fresh randomness at the highest level, symmetrically where the library can.

        Raises:
            InvalidInput, SlotOverflow: As ``check_values`` does.
            PrecisionLost: A value times the scale does not fit the modulus.
        """
        ...

    def decrypt(self, ciphertext: Ciphertext, *, encoding: Encoding = SLOTS) -> Values:
        """Decrypt to all places of the encoding: N/2 slots or N coefficients.

        Raises:
            ForeignCiphertext: It was not made with this key.
        """
        ...

    def evaluation_keys(self) -> bytes:
        """Rotation keys, and the public key if there is one, for ``Backend.load_evaluator``; no secret key."""
        ...


class Evaluator(CiphertextCodec, Protocol):
    """The server's side: evaluation keys only. A type that holds a secret key must not implement it."""

    def encode(self, values: Values, *, level: int, scale: float, encoding: Encoding = SLOTS) -> Plaintext:
        """Encode for operations with ciphertexts at ``level``.

        Raises:
            InvalidInput, SlotOverflow, PrecisionLost: As for ``encrypt``.
            LevelExhausted: There is no such level.
        """
        ...

    def add(self, left: Ciphertext, right: Ciphertext) -> Ciphertext:
        """Sum.

        Raises:
            ScaleMismatch, LevelMismatch, ForeignCiphertext: The operands do not go together.
        """
        ...

    def sub(self, left: Ciphertext, right: Ciphertext) -> Ciphertext:
        """Difference; raises what ``add`` does."""
        ...

    def negate(self, ciphertext: Ciphertext) -> Ciphertext:
        """Negative, of the same level and scale."""
        ...

    def add_plain(self, ciphertext: Ciphertext, plaintext: Plaintext) -> Ciphertext:
        """Sum with a plaintext of the same level and scale; raises what ``add`` does."""
        ...

    def multiply_plain(self, ciphertext: Ciphertext, plaintext: Plaintext) -> Ciphertext:
        """Product with a plaintext of the same level; scales multiply, the level stays.

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

        Under ``RescaleMode.AUTOMATIC`` it may return its argument.

        Raises:
            LevelExhausted: The ciphertext is at level 0.
        """
        ...


@runtime_checkable
class SupportsHoisting(Protocol):
    """An evaluator that decomposes a ciphertext once for many rotations."""

    def rotate_many(self, ciphertext: Ciphertext, steps: Sequence[int]) -> list[Ciphertext]:
        """``[rotate(ciphertext, step) for step in steps]``, cheaper; raises what ``rotate`` does."""
        ...


@runtime_checkable
class SupportsDot(Protocol):
    """An evaluator that adds products up without storing each."""

    def dot_plain(self, ciphertexts: Sequence[Ciphertext], plaintexts: Sequence[Plaintext]) -> Ciphertext:
        """Σ ciphertexts[i] · plaintexts[i], one or more; raises what ``multiply_plain`` and ``add`` do."""
        ...


@runtime_checkable
class SupportsPublicKey(Protocol):
    """An evaluator that can encrypt, if keys were generated with ``public_key=True``."""

    def encrypt_public(self, values: Values, *, scale: float, encoding: Encoding = SLOTS) -> Ciphertext:
        """Encrypt with the public key at the highest level; raises what ``Decryptor.encrypt`` does.

        Raises:
            CapabilityMissing: No public key was generated.
        """
        ...


@runtime_checkable
class SupportsKeyExport(Protocol):
    """A decryptor whose keys can be put away; its backend is a ``SupportsKeyRestore``."""

    def export_keys(self) -> bytes:
        """The secret key, and what else ``restore_keys`` needs: in the clear, for core to encrypt at once."""
        ...


@runtime_checkable
class SupportsKeyRestore(Protocol):
    """A backend that makes a decryptor again of what one exported."""

    def restore_keys(self, params: CKKSParams, exported: bytes) -> Decryptor:
        """A decryptor of the same keys and ``key_id``, rotation keys and the public key included.

        Args:
            params: Resolved, those that the keys were made for.
            exported: What ``export_keys`` returned; core has authenticated it.

        Raises:
            CorruptPayload: The bytes are not keys of these parameters.
        """
        ...


class Backend(Protocol):
    """One CKKS library.

    It may state a ``library_version``, as ``"tenseal 0.3.16"``: messages carry it, and those of another one are
    refused, naming both. Without it, the version of the plugin's distribution stands in.
    """

    name: str
    capabilities: Capabilities

    def resolve(self, params: CKKSParams) -> CKKSParams:
        """The parameters the library will really use, primes included.

        Raises:
            InvalidParameters: The library cannot realise them.
        """
        ...

    def generate_keys(
        self,
        params: CKKSParams,
        rotation_steps: Collection[int],
        *,
        public_key: bool = False,
        seed: int | None = None,
    ) -> tuple[Decryptor, Evaluator]:
        """Make a key pair and rotation keys for exactly ``rotation_steps`` (left, 1 to N/2-1), no more.

        The evaluator shares no object with the decryptor from which the secret key can be reached.

        Args:
            params: What ``resolve`` returned.
            rotation_steps: Steps to make keys for.
            public_key: Give the evaluator a public key too (``SupportsPublicKey``).
            seed: Reproduce keys and noise; refused by all but emulations.

        Raises:
            CapabilityMissing: A public key or a seed was asked of a backend that has none.
        """
        ...

    def load_evaluator(self, params: CKKSParams, evaluation_keys: bytes) -> Evaluator:
        """Make a server's evaluator from what a client sent.

        Raises:
            CorruptPayload: The bytes are not evaluation keys of these parameters.
        """
        ...
