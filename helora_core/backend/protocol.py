"""The contract that a CKKS library's adapter fulfils: only arithmetic, by calls of the library.

Core checks everything before it calls (``helora_core.backend.checked``): values, encodings, levels, scales, keys and
that a ciphertext belongs to them. So an adapter makes no such checks, and core turns exceptions that a library raises
on bad bytes into refusals. Nor does an adapter count or time (the ledger does) or judge security (``open_sessions``
does, by the parameters that ``resolve`` returns).

Ciphertexts and plaintexts are the library's own objects; core never looks inside them. Everything is out-of-place: no
call alters its arguments. *Level* is the number of rescales still possible (a fresh ciphertext has
``params.max_level``, a spent one 0); *scale* is the exact factor between a value and its integer encoding.
``rotate(ct, k)`` moves slot i+k to slot i, cyclically: left, as ``np.roll(v, -k)`` does.

The ``Supports…`` protocols are optional; if a capability belongs to one, the backend claims it. A backend whose library
has one scale for all its plaintexts can be a ``HasUnit``.
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
    """Makes plaintexts. It has no key: they work with ciphertexts of any key pair of the same parameters."""

    def encode(self, values: Values, *, level: int, scale: float, encoding: Encoding = SLOTS) -> Plaintext:
        """A plaintext for ciphertexts at ``level``; fewer values than places are padded with zeros."""
        ...


class CiphertextCodec(Protocol):
    """The operations of both roles on ciphertexts: reading level and scale, and conversion to bytes and back.

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
        """Bytes that ``deserialize`` with the same parameters reads; they contain no secret."""
        ...

    def deserialize(self, payload: bytes) -> Ciphertext:
        """Read a ciphertext of this key pair, or raise any exception; a session has checked the bytes' integrity."""
        ...


class Decryptor(CiphertextCodec, Protocol):
    """The client's side: it alone holds the secret key."""

    def encrypt(self, values: Values, *, scale: float, encoding: Encoding = SLOTS) -> Ciphertext:
        """Encrypt with fresh randomness at the highest level, symmetrically if the library can."""
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
        """The steps, 1 to N/2 − 1, that it really has keys for. Core asks for no others."""
        ...

    def add(self, left: Ciphertext, right: Ciphertext) -> Ciphertext:
        """Sum of two ciphertexts of the same level and scale."""
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
        """Rotate left by one of ``rotation_steps``, with one key switch. It must not be composed from other steps."""
        ...

    def rescale(self, ciphertext: Ciphertext) -> Ciphertext:
        """Divide by the last prime: one level less, scale divided by that prime. The ciphertext's level is not 0.

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
    """An evaluator that adds up products without storing each of them."""

    def dot_plain(self, ciphertexts: Sequence[Ciphertext], plaintexts: Sequence[Plaintext]) -> Ciphertext:
        """Σ ciphertexts[i] · plaintexts[i], one or more, all products of the same level and scale."""
        ...


@runtime_checkable
class SupportsPublicKey(Protocol):
    """An evaluator that can encrypt, if keys were generated with ``public_key=True``."""

    @property
    def has_public_key(self) -> bool:
        """Whether keys were generated with a public key."""
        ...

    def encrypt_public(self, values: Values, *, scale: float, encoding: Encoding = SLOTS) -> Ciphertext:
        """Encrypt with the public key at the highest level."""
        ...


@runtime_checkable
class SupportsMany(Protocol):
    """A decryptor that encrypts and decrypts several vectors more cheaply than one by one."""

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
        mask_bits: For slots, log2 of the standard deviation of the noise that hides imaginary parts and slots not kept,
            in integer units; 0 if the flood alone is enough.
        keep: The slots or coefficients to be read; None for all. Coefficients that are not kept become uniform.
        dropped: Levels by which the clean result is divided down, by rescales or by all their primes at once.
        low_bits: Bits that it loses last: no task of ``SupportsSanitize``, but of ``SupportsShortening``.
    """

    encoding: Encoding
    flood_bits: int
    mask_bits: int
    keep: tuple[int, ...] | None
    dropped: int = 0
    low_bits: tuple[int, int] = (0, 0)


@runtime_checkable
class SupportsSanitize(Protocol):
    """An evaluator that sanitises itself, more cheaply than core does with public-key encryptions and plaintexts.

    Its keys were made with a public key. Randomness is the operating system's, or expanded from it, and no encryption
    of zero is used twice. Under a flood it may be as noisy as a fresh public-key encryption, whatever the level; under
    a mask, whose value comes back without a flood, no noisier than one made at the highest level and rescaled to the
    value's. Core has checked that the noise fits the modulus.
    """

    def sanitize_many(self, ciphertexts: Sequence[Ciphertext], how: Sequence[Sanitizing]) -> list[Ciphertext]:
        """Results, each plus a fresh encryption of zero and a normal flood, other places hidden, and then divided."""
        ...

    def uniform_mask(self, ciphertext: Ciphertext) -> tuple[Ciphertext, NDArray[np.uint64]]:
        """The value plus a fresh encryption of zero and integers ρ uniform modulo the level's primes; and ρ, of shape
        (primes, N).

        Called only on backends with exact integers.
        """
        ...


@runtime_checkable
class SupportsPreparedZeros(Protocol):
    """A ``SupportsSanitize`` that can encrypt zeros ahead of time, and so sanitise faster when a result is there."""

    def prepare_zeros(self, level: int, count: int) -> int:
        """Make encryptions of zero until ``count`` are ready at a level, or as many as it keeps; returns how many are.

        Each is used once, over all threads, and over processes that are forked later: those begin with none.
        """
        ...


class Executable(Protocol):
    """A tape that a library has prepared, for any weights and keys.

    Attributes:
        exact: Whether its outputs equal those of single operations bit for bit; otherwise they must not be noisier.
    """

    exact: bool

    def load(self, plaintexts: Mapping[str, Plaintext], numbers: Numbers) -> Any:
        """A module's weights as this tape reads them: every constant of the tape, plaintexts as ``Encoder`` made them.

        They are kept as long as the module is served, and work with every evaluator.
        """
        ...

    def run(self, runs: Sequence[TapeRun], *, trace: Trace | None = None) -> list[list[Ciphertext]]:
        """The outputs of one or more runs, each with its own evaluator, weights and inputs, as if it were alone.

        Args:
            runs: All runs to be done together: of tokens, clients and modules.
            trace: Called for every operation really done, under the ledger's names: rotations, keyswitches, ct_pt,
                additions, rescales. Other names are allowed, such as those of transforms.
        """
        ...


@runtime_checkable
class SupportsPrograms(Protocol):
    """A backend that runs whole tapes. It rescales explicitly, and its plaintexts have scales of their own."""

    def prepare(self, params: CKKSParams, tape: Tape) -> Executable:
        """Prepare a tape to be run at resolved parameters, once for all modules, clients and runs."""
        ...


@runtime_checkable
class SupportsKeyExport(Protocol):
    """A decryptor whose keys can be exported; its backend is a ``SupportsKeyRestore``."""

    def export_keys(self) -> bytes:
        """The secret key and whatever else ``restore_keys`` needs, in the clear, for core to encrypt immediately."""
        ...


@runtime_checkable
class SupportsKeyRestore(Protocol):
    """A backend that makes a decryptor again from exported keys."""

    def restore_keys(self, params: CKKSParams, exported: bytes) -> Decryptor:
        """A decryptor of the same keys and ``key_id``, rotation keys and the public key included.

        Args:
            params: The resolved parameters that the keys were made for.
            exported: The bytes of ``export_keys``, which core has authenticated. Other bytes may raise any exception.
        """
        ...


@runtime_checkable
class SupportsFinish(Protocol):
    """A backend whose calls may return before a device has done what they ask for."""

    def finish(self) -> None:
        """Wait until all that this thread has asked for is done."""
        ...


@runtime_checkable
class HasUnit(Protocol):
    """A backend whose library has a single scale u, its *unit*, which it assumes for everything.

    Such a library encodes a value v as the integer v·u. Given v·s/u instead, it makes the integer v·s, which is v at
    the scale s; and its later operations on integers do not depend on the scale that it assumes. So core gives it
    values in units, and tracks the true scales beside the ciphertexts. If s/u is a power of two, as for every scale of
    a plan, nothing is rounded. The backend claims ``free_plaintext_scale``.
    """

    def unit(self, params: CKKSParams) -> float:
        """The scale that ``encode`` and ``encrypt`` always get at these resolved parameters."""
        ...


class Backend(Protocol):
    """One CKKS library.

    It may state a ``library_version``, such as ``"tenseal 0.3.16"``. Messages carry it, and messages with another
    version are refused, naming both. Without it, the version of the plugin's distribution is used. A backend whose
    keys and ciphertexts are bit for bit those of another states that one's ``message_origin``
    (``helora_core.backend.origin.Origin``), so that each reads the other's.
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
            seed: Reproduce keys and noise; given only to backends that claim ``seeded_keys``.
        """
        ...

    def load_evaluator(self, params: CKKSParams, evaluation_keys: bytes) -> Evaluator:
        """Make a server's evaluator from a client's bytes, with keys for all steps it names; or raise any exception."""
        ...
