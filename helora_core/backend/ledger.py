"""The one place where homomorphic operations are counted and timed.

The ledger wraps the backend's two roles; a backend never counts itself. What it counts is compared with the plan's
prediction after every execution, so the two use the same type.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from helora_core.backend.protocol import Ciphertext, Decryptor, Evaluator, Plaintext, Values


class OperationCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How often each operation runs in one execution of a program.

    Attributes:
        rotations: Rotations by a step other than 0.
        keyswitches: Key switches, the dear part of a rotation (one each, since every step has its own key).
        ct_pt: Products of a ciphertext with an encoded plaintext.
        additions: Sums of two ciphertexts.
        rescales: Divisions by a prime of the chain.
        encrypts: Ciphertexts that the client encrypts and sends.
        decrypts: Ciphertexts that the client receives and decrypts.
    """

    rotations: int = 0
    keyswitches: int = 0
    ct_pt: int = 0
    additions: int = 0
    rescales: int = 0
    encrypts: int = 0
    decrypts: int = 0

    def times(self, runs: int) -> OperationCounts:
        """The counts of ``runs`` executions."""
        return OperationCounts(**{name: runs * getattr(self, name) for name in self.__struct_fields__})

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
    def timed(self, kind: str) -> Iterator[None]:
        """Count one ``kind``, if it succeeds, and the time it takes."""
        start = time.perf_counter_ns()
        yield
        self._elapsed_ns[kind] += time.perf_counter_ns() - start
        self._counts[kind] += 1


class MeteredEvaluator:
    """An ``Evaluator`` whose operations are entered in a ledger."""

    def __init__(self, evaluator: Evaluator, ledger: Ledger) -> None:
        self._evaluator = evaluator
        self._ledger = ledger
        # Looking at a ciphertext, encoding and transport are not operations of a program: passed through unmetered.
        self.key_id = evaluator.key_id
        self.level = evaluator.level
        self.scale = evaluator.scale
        self.serialize = evaluator.serialize
        self.deserialize = evaluator.deserialize
        self.encode = evaluator.encode

    def add(self, left: Ciphertext, right: Ciphertext) -> Ciphertext:
        """Sum, counted."""
        with self._ledger.timed("additions"):
            return self._evaluator.add(left, right)

    def multiply_plain(self, ciphertext: Ciphertext, plaintext: Plaintext) -> Ciphertext:
        """Product with a plaintext, counted."""
        with self._ledger.timed("ct_pt"):
            return self._evaluator.multiply_plain(ciphertext, plaintext)

    def rotate(self, ciphertext: Ciphertext, steps: int) -> Ciphertext:
        """Rotation, counted with its key switch unless it is by 0."""
        if steps == 0:
            return self._evaluator.rotate(ciphertext, 0)
        with self._ledger.timed("rotations"):
            rotated = self._evaluator.rotate(ciphertext, steps)
        self._ledger.add("keyswitches")
        return rotated

    def rescale(self, ciphertext: Ciphertext) -> Ciphertext:
        """Rescale, counted."""
        with self._ledger.timed("rescales"):
            return self._evaluator.rescale(ciphertext)


class MeteredDecryptor:
    """A ``Decryptor`` whose operations are entered in a ledger."""

    def __init__(self, decryptor: Decryptor, ledger: Ledger) -> None:
        self._decryptor = decryptor
        self._ledger = ledger
        self.key_id = decryptor.key_id
        self.level = decryptor.level
        self.scale = decryptor.scale
        self.serialize = decryptor.serialize
        self.deserialize = decryptor.deserialize
        self.evaluation_keys = decryptor.evaluation_keys

    def encrypt(self, values: Values, *, scale: float) -> Ciphertext:
        """Encryption, counted."""
        with self._ledger.timed("encrypts"):
            return self._decryptor.encrypt(values, scale=scale)

    def decrypt(self, ciphertext: Ciphertext) -> Values:
        """Decryption, counted."""
        with self._ledger.timed("decrypts"):
            return self._decryptor.decrypt(ciphertext)
