"""The one place where homomorphic operations are counted and timed.

The ledger wraps the backend's two roles; a backend never counts itself. What it counts is compared with the plan's
prediction after every execution, so the two use the same type.

It sees the operations of the server's program, and the client's encryptions and decryptions as calls. It does not see
what they consist of: to sanitise a result is one operation, whatever encryptions of zero and floods it takes. Encoding
and key generation are none, and only a clock sees what a library does inside a call.
"""

from __future__ import annotations

import functools
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import msgspec

from helora_core.backend.capabilities import Capabilities, Encoding
from helora_core.backend.ntt import Residues
from helora_core.backend.protocol import (
    Ciphertext,
    CiphertextCodec,
    Decryptor,
    Evaluator,
    Plaintext,
    SupportsDot,
    SupportsHoisting,
    SupportsKeyExport,
    SupportsPublicKey,
    Values,
)
from helora_core.backend.sanitize import sanitize, uniform_mask
from helora_core.errors import CapabilityMissing
from helora_core.params.ckks import CKKSParams


class OperationCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How often each operation runs in one execution of a program.

    Attributes:
        rotations: Rotations by a step other than 0.
        keyswitches: Key switches, the dear part of a rotation (one each, since every step has its own key).
        ct_pt: Products of a ciphertext with an encoded plaintext.
        additions: Sums, differences and negatives of ciphertexts, with plaintexts too.
        rescales: Divisions by a prime of the chain.
        sanitizes: Results re-randomised and flooded or masked, each with all that takes.
        encrypts: Ciphertexts that the client encrypts and sends.
        decrypts: Ciphertexts that the client receives and decrypts.
    """

    rotations: int = 0
    keyswitches: int = 0
    ct_pt: int = 0
    additions: int = 0
    rescales: int = 0
    sanitizes: int = 0
    encrypts: int = 0
    decrypts: int = 0

    def times(self, runs: int) -> OperationCounts:
        """The counts of ``runs`` executions."""
        return OperationCounts(**{name: runs * getattr(self, name) for name in self.__struct_fields__})

    def plus(self, other: OperationCounts) -> OperationCounts:
        """Both together."""
        return OperationCounts(**{name: getattr(self, name) + getattr(other, name) for name in self.__struct_fields__})

    def minus(self, earlier: OperationCounts) -> OperationCounts:
        """What was added since ``earlier``."""
        return OperationCounts(
            **{name: getattr(self, name) - getattr(earlier, name) for name in self.__struct_fields__}
        )


class Ledger:
    """Counts and times of the operations done through the metered roles that share it."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._elapsed_ns: Counter[str] = Counter()

    def counts(self) -> OperationCounts:
        """Everything counted since the ledger was made or reset."""
        return OperationCounts(**{name: self._counts[name] for name in OperationCounts.__struct_fields__})

    def elapsed_ns(self) -> dict[str, int]:
        """Wall time per kind of operation, in nanoseconds; key switches are part of ``rotations``."""
        return dict(self._elapsed_ns)

    def reset(self) -> None:
        """Start again at zero."""
        self._counts.clear()
        self._elapsed_ns.clear()

    def add(self, kind: str, times: int = 1) -> None:
        """Count ``kind`` without timing it."""
        self._counts[kind] += times

    @contextmanager
    def timed(self, kind: str, times: int = 1) -> Iterator[None]:
        """Count ``times`` of ``kind``, if they succeed, and the time they take together."""
        start = time.perf_counter_ns()
        yield
        self._elapsed_ns[kind] += time.perf_counter_ns() - start
        self._counts[kind] += times


class _Metered:
    """What both roles pass through unmetered: looking at a ciphertext and transport are no operations of a program."""

    def __init__(self, codec: CiphertextCodec, ledger: Ledger) -> None:
        self._ledger = ledger
        self.key_id = codec.key_id
        self.level = codec.level
        self.scale = codec.scale
        self.serialize = codec.serialize
        self.deserialize = codec.deserialize


class MeteredEvaluator(_Metered):
    """An ``Evaluator`` whose operations are entered in a ledger, with core's fallback for hoisting."""

    def __init__(self, evaluator: Evaluator, ledger: Ledger, slots: int) -> None:
        super().__init__(evaluator, ledger)
        self._evaluator = evaluator
        self._slots = slots
        self.encode = evaluator.encode

    def with_ledger(self, ledger: Ledger) -> MeteredEvaluator:
        """The same evaluator, with another ledger."""
        return MeteredEvaluator(self._evaluator, ledger, self._slots)

    def add(self, left: Ciphertext, right: Ciphertext) -> Ciphertext:
        """Sum, counted."""
        with self._ledger.timed("additions"):
            return self._evaluator.add(left, right)

    def sub(self, left: Ciphertext, right: Ciphertext) -> Ciphertext:
        """Difference, counted as an addition."""
        with self._ledger.timed("additions"):
            return self._evaluator.sub(left, right)

    def negate(self, ciphertext: Ciphertext) -> Ciphertext:
        """Negative, counted as an addition."""
        with self._ledger.timed("additions"):
            return self._evaluator.negate(ciphertext)

    def add_plain(self, ciphertext: Ciphertext, plaintext: Plaintext) -> Ciphertext:
        """Sum with a plaintext, counted as an addition."""
        with self._ledger.timed("additions"):
            return self._evaluator.add_plain(ciphertext, plaintext)

    def multiply_plain(self, ciphertext: Ciphertext, plaintext: Plaintext) -> Ciphertext:
        """Product with a plaintext, counted."""
        with self._ledger.timed("ct_pt"):
            return self._evaluator.multiply_plain(ciphertext, plaintext)

    def dot_plain(self, ciphertexts: Sequence[Ciphertext], plaintexts: Iterable[Plaintext]) -> Ciphertext:
        """Sum of products, each counted; one after the other where the backend cannot fuse them.

        Args:
            ciphertexts: One or more.
            plaintexts: As many; taken one by one where they are not fused, so that they may be made on the fly.
        """
        if isinstance(self._evaluator, SupportsDot):
            plaintexts = list(plaintexts)
            with self._ledger.timed("ct_pt", len(ciphertexts)):
                total = self._evaluator.dot_plain(ciphertexts, plaintexts)
            self._ledger.add("additions", len(ciphertexts) - 1)
            return total
        products = (self.multiply_plain(*each) for each in zip(ciphertexts, plaintexts, strict=True))
        return functools.reduce(self.add, products)

    def rotate(self, ciphertext: Ciphertext, steps: int) -> Ciphertext:
        """Rotation, counted with its key switch unless it is by a multiple of the slots."""
        if steps % self._slots == 0:
            return self._evaluator.rotate(ciphertext, 0)
        with self._ledger.timed("rotations"):
            rotated = self._evaluator.rotate(ciphertext, steps)
        self._ledger.add("keyswitches")
        return rotated

    def rotate_many(self, ciphertext: Ciphertext, steps: Sequence[int]) -> list[Ciphertext]:
        """One rotation per step, hoisted where the backend can, each counted with its key switch unless it is by 0."""
        if not isinstance(self._evaluator, SupportsHoisting):
            return [self.rotate(ciphertext, step) for step in steps]
        rotations = sum(step % self._slots != 0 for step in steps)
        with self._ledger.timed("rotations", rotations):
            rotated = self._evaluator.rotate_many(ciphertext, steps)
        self._ledger.add("keyswitches", rotations)
        return rotated

    def rescale(self, ciphertext: Ciphertext) -> Ciphertext:
        """Rescale, counted; under automatic rescaling this counts the program's rescales, not the library's."""
        with self._ledger.timed("rescales"):
            return self._evaluator.rescale(ciphertext)

    def sanitize(
        self,
        ciphertext: Ciphertext,
        params: CKKSParams,
        capabilities: Capabilities,
        *,
        encoding: Encoding,
        flood_bits: int,
        mask_bits: int,
        keep: Sequence[int] | None,
    ) -> Ciphertext:
        """A result re-randomised, flooded and masked, counted as one; see ``helora_core.backend.sanitize``."""
        with self._ledger.timed("sanitizes"):
            return sanitize(
                self._evaluator,
                params,
                capabilities,
                ciphertext,
                encoding=encoding,
                flood_bits=flood_bits,
                mask_bits=mask_bits,
                keep=keep,
            )

    def uniform_mask(
        self, ciphertext: Ciphertext, params: CKKSParams, capabilities: Capabilities
    ) -> tuple[Ciphertext, Residues]:
        """A value masked, counted as sanitised, and the mask; see ``helora_core.backend.sanitize``."""
        with self._ledger.timed("sanitizes"):
            return uniform_mask(self._evaluator, params, capabilities, ciphertext)

    def encrypt_public(self, values: Values, *, scale: float, encoding: Encoding) -> Ciphertext:
        """Encryption with the public key, uncounted: no program has it.

        Raises:
            CapabilityMissing: The backend or its keys have no public key.
        """
        if not isinstance(self._evaluator, SupportsPublicKey):
            raise CapabilityMissing(
                "This backend's evaluator cannot encrypt with a public key.",
                hint="Choose a backend with the capability public_key; `helora backends` lists them.",
            )
        return self._evaluator.encrypt_public(values, scale=scale, encoding=encoding)


class MeteredDecryptor(_Metered):
    """A ``Decryptor`` whose operations are entered in a ledger."""

    def __init__(self, decryptor: Decryptor, ledger: Ledger) -> None:
        super().__init__(decryptor, ledger)
        self._decryptor = decryptor
        self.evaluation_keys = decryptor.evaluation_keys

    def with_ledger(self, ledger: Ledger) -> MeteredDecryptor:
        """The same decryptor, with another ledger."""
        return MeteredDecryptor(self._decryptor, ledger)

    def export_keys(self) -> bytes:
        """The keys in the clear, for core to encrypt at once; uncounted.

        Raises:
            CapabilityMissing: The backend cannot.
        """
        if not isinstance(self._decryptor, SupportsKeyExport):
            raise CapabilityMissing(
                "ClientSession.export_keys: this backend cannot export its keys.",
                hint="Keep the process, or use a backend that can (numpy, tenseal, pyfhel, openfhe).",
            )
        return self._decryptor.export_keys()

    def encrypt(self, values: Values, *, scale: float, encoding: Encoding) -> Ciphertext:
        """Encryption, counted."""
        with self._ledger.timed("encrypts"):
            return self._decryptor.encrypt(values, scale=scale, encoding=encoding)

    def decrypt(self, ciphertext: Ciphertext, *, encoding: Encoding) -> Values:
        """Decryption, counted."""
        with self._ledger.timed("decrypts"):
            return self._decryptor.decrypt(ciphertext, encoding=encoding)
