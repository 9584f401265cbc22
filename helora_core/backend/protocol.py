"""The contract that a CKKS library's adapter fulfils: calls of the library, and arithmetic only.

Core checks everything before it calls (``helora_core.backend.checked``): values, encodings, levels, scales, keys and
whose a ciphertext is. An adapter refuses nothing of that; what a library raises of bytes, core turns into a refusal.
Nor does it count or time (the ledger does), or judge security (``open_sessions`` does, on what ``resolve`` reports).

Ciphertexts and plaintexts are the library's own objects, which core never looks into. Everything is out-of-place: no
call alters its arguments. *Level* is the number of rescales still possible (a fresh ciphertext has
``params.max_level``, a spent one 0); *scale* is the exact factor between a value and its integer encoding.
``rotate(ct, k)`` moves slot i+k to slot i, cyclically: left, as ``np.roll(v, -k)`` does.

The ``Supports…`` protocols are optional; where a capability goes with one, the backend claims it. A library that has
one scale for all its plaintexts can be a ``HasUnit``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from helora_core.backend.capabilities import Capabilities, Encoding
from helora_core.backend.tape import Numbers, Tape, TapeRun, Trace
from helora_core.params.ckks import CKKSParams

Ciphertext: TypeAlias = Any
Plaintext: TypeAlias = Any
Values: TypeAlias = NDArray[Any]
"""float64, or complex128 for complex slots; one dimension."""

SLOTS = Encoding.SLOTS


class Encoder(Protocol):
    """Makes plaintexts. It has no key: they go with ciphertexts of any key pair of the same parameters."""

    def encode(self, values: Values, *, level: int, scale: float, encoding: Encoding = SLOTS) -> Plaintext:
        """A plaintext for ciphertexts at ``level``; fewer values than places are padded with zeros."""
        ...


class CiphertextCodec(Protocol):
    """What both roles can do with ciphertexts: look at them and turn them into bytes and back.

    Attributes:
        key_id: 16 random bytes that name the key pair; equal in both roles, fresh for each key generation.
    """

    key_id: bytes

    def level(self, ciphertext: Ciphertext) -> int:
        """Rescales still possible, as the library tracks it."""
        ...

    def scale(self, ciphertext: Ciphertext) -> float:
        """Exact scale, as the library tracks it."""
        ...

    def serialize(self, ciphertext: Ciphertext) -> bytes:
        """Bytes that ``deserialize`` of the same parameters reads; no secret is in them."""
        ...

    def deserialize(self, payload: bytes) -> Ciphertext:
        """Read a ciphertext of this key pair, or raise anything; a session has checked the bytes' integrity."""
        ...


class Decryptor(CiphertextCodec, Protocol):
    """The client's side: it alone holds the secret key."""

    def encrypt(self, values: Values, *, scale: float, encoding: Encoding = SLOTS) -> Ciphertext:
        """Encrypt with fresh randomness at the highest level, symmetrically where the library can."""
        ...

    def decrypt(self, ciphertext: Ciphertext, *, encoding: Encoding = SLOTS) -> Values:
        """Decrypt to all places of the encoding: N/2 slots, N coefficients, one scalar."""
        ...

    def evaluation_keys(self) -> bytes:
        """Rotation keys, and the public key if there is one, for ``Backend.load_evaluator``; no secret key."""
        ...


class Evaluator(CiphertextCodec, Protocol):
    """The server's side: evaluation keys only. A type that holds a secret key must not implement it."""

    @property
    def rotation_steps(self) -> Collection[int]:
        """The steps, 1 to N/2 − 1, that it really has keys for. No other is asked for."""
        ...

    def add(self, left: Ciphertext, right: Ciphertext) -> Ciphertext:
        """Sum of two of one level and scale."""
        ...

    def sub(self, left: Ciphertext, right: Ciphertext) -> Ciphertext:
        """Difference."""
        ...

    def negate(self, ciphertext: Ciphertext) -> Ciphertext:
        """Negative, of the same level and scale."""
        ...

    def add_plain(self, ciphertext: Ciphertext, plaintext: Plaintext) -> Ciphertext:
        """Sum with a plaintext of the same level and scale."""
        ...

    def multiply_plain(self, ciphertext: Ciphertext, plaintext: Plaintext) -> Ciphertext:
        """Product with a plaintext of the same level; scales multiply, the level stays."""
        ...

    def rotate(self, ciphertext: Ciphertext, steps: int) -> Ciphertext:
        """Rotate left by one of ``rotation_steps`` with one key switch. Composing it from others is a fault."""
        ...

    def rescale(self, ciphertext: Ciphertext) -> Ciphertext:
        """Divide by the last prime: one level less, scale divided by that prime. The level is not 0.

        Under ``RescaleMode.AUTOMATIC`` it may return its argument.
        """
        ...


@runtime_checkable
class SupportsHoisting(Protocol):
    """An evaluator that decomposes a ciphertext once for many rotations."""

    def rotate_many(self, ciphertext: Ciphertext, steps: Sequence[int]) -> list[Ciphertext]:
        """``[rotate(ciphertext, step) for step in steps]``, cheaper; one or more of ``rotation_steps``."""
        ...


@runtime_checkable
class SupportsDot(Protocol):
    """An evaluator that adds products up without storing each."""

    def dot_plain(self, ciphertexts: Sequence[Ciphertext], plaintexts: Sequence[Plaintext]) -> Ciphertext:
        """Σ ciphertexts[i] · plaintexts[i], one or more, all products of one level and scale."""
        ...


@runtime_checkable
class SupportsPublicKey(Protocol):
    """An evaluator that can encrypt, if keys were generated with ``public_key=True``."""

    @property
    def has_public_key(self) -> bool:
        """Whether they were."""
        ...

    def encrypt_public(self, values: Values, *, scale: float, encoding: Encoding = SLOTS) -> Ciphertext:
        """Encrypt with the public key at the highest level."""
        ...


@runtime_checkable
class SupportsMany(Protocol):
    """A decryptor that encrypts and decrypts several vectors for less than one by one."""

    def encrypt_many(self, many: Sequence[Values], *, scale: float, encoding: Encoding = SLOTS) -> list[Ciphertext]:
        """``[encrypt(values, …) for values in many]``, each with randomness of its own; one or more."""
        ...

    def decrypt_many(self, ciphertexts: Sequence[Ciphertext], *, encoding: Encoding = SLOTS) -> list[Values]:
        """``[decrypt(ciphertext, …) for ciphertext in ciphertexts]``, of any levels and scales."""
        ...


class Sanitizing(NamedTuple):
    """How one result is sanitised; ``helora_core.backend.sanitize`` says what each is for.

    Attributes:
        encoding: SLOTS or COEFFICIENTS: what the client reads.
        flood_bits: log2 of the standard deviation of the noise added to every coefficient, in integer units.
        mask_bits: For slots, log2 of that of what drowns imaginary parts and slots not kept, in integer units; 0 where
            there is nothing to drown but by the flood.
        keep: The slots or coefficients to be read; None for all. Coefficients that are not kept become uniform.
    """

    encoding: Encoding
    flood_bits: int
    mask_bits: int
    keep: tuple[int, ...] | None


@runtime_checkable
class SupportsSanitize(Protocol):
    """An evaluator that sanitises by itself, for less than core does it of public encryptions and plaintexts.

    Its keys were made with a public key. Randomness is the operating system's, or is expanded from its; no encryption
    of zero is used twice, and none is noisier than one made at the highest level and rescaled to the result's. Whether
    noise fits the modulus, core has checked.
    """

    def sanitize_many(self, ciphertexts: Sequence[Ciphertext], how: Sequence[Sanitizing]) -> list[Ciphertext]:
        """Each with a fresh encryption of zero, a normal flood, and what it does not keep drowned; one or more."""
        ...

    def uniform_mask(self, ciphertext: Ciphertext) -> tuple[Ciphertext, NDArray[np.uint64]]:
        """With a fresh encryption of zero and integers ρ uniform modulo the level's primes; and ρ, shape (primes, N).

        Asked of backends with exact integers only.
        """
        ...


class Executable(Protocol):
    """A tape that a library has prepared, for any weights and keys.

    Attributes:
        exact: Whether its outputs are those of the operations one by one, bit for bit. If not, as with a division that
            waits for the end of a sum, they are no noisier.
    """

    exact: bool

    def load(self, plaintexts: Mapping[str, Plaintext], numbers: Numbers) -> Any:
        """A module's weights as this tape reads them: every constant of the tape, plaintexts as ``Encoder`` made them.

        They are kept as long as the module is served, and go with every evaluator.
        """
        ...

    def run(self, runs: Sequence[TapeRun], *, trace: Trace | None = None) -> list[list[Ciphertext]]:
        """The outputs of one or more runs, each with its own evaluator, weights and inputs, as if it were alone.

        Args:
            runs: All that is to be done at once: tokens, clients, modules.
            trace: Told of every operation really done, under the ledger's names: rotations, keyswitches, ct_pt,
                additions, rescales. Other names are allowed, such as those of transforms.
        """
        ...


@runtime_checkable
class SupportsPrograms(Protocol):
    """A backend that runs whole tapes. It rescales explicitly, and its plaintexts have scales of their own."""

    def prepare(self, params: CKKSParams, tape: Tape) -> Executable:
        """Make ready to run a tape at resolved parameters: once for all modules, clients and runs."""
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
            exported: What ``export_keys`` returned; core has authenticated it. What is none may raise anything.
        """
        ...


@runtime_checkable
class HasUnit(Protocol):
    """A backend whose library has one scale, its *unit*, at which it takes everything to be.

    Such a library encodes a value v as the integer v·u. Given v·s/u instead, it makes the integer v·s, which is v at
    the scale s; and nothing that it does to integers afterwards depends on what it takes their scale to be. So core
    gives it values in units, and keeps what scales really are beside the ciphertexts. Where s/u is a power of two,
    which every scale of a plan is, nothing is rounded. The backend claims ``free_plaintext_scale``.
    """

    def unit(self, params: CKKSParams) -> float:
        """The scale that ``encode`` and ``encrypt`` are asked for at these resolved parameters."""
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
            InvalidParameters, ValueError: The library cannot realise them.
        """
        ...

    def encoder(self, params: CKKSParams) -> Encoder:
        """An encoder for what ``resolve`` returned, without keys."""
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
            seed: Reproduce keys and noise; asked of backends that claim ``seeded_keys`` only.
        """
        ...

    def load_evaluator(self, params: CKKSParams, evaluation_keys: bytes) -> Evaluator:
        """Make a server's evaluator from what a client sent, or raise anything; it has keys for all steps it names."""
        ...
