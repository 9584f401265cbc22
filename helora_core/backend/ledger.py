"""The one place where homomorphic operations are counted and timed.

The ledger wraps the backend's two roles; a backend never counts its own operations. The counts are compared with the
plan's prediction after every execution, so the two use the same type.

The ledger counts the calls of the server's program, and of the client's encryptions and decryptions, not what they
consist of: sanitising a result is one operation, whatever encryptions of zero and floods it takes. Encoding and key
generation are not counted, and work inside a library's call shows only in its time.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from time import perf_counter_ns

import msgspec

from helora_core.backend.capabilities import Capabilities, Encoding
from helora_core.backend.checked import CheckedDecryptor, CheckedRole
from helora_core.backend.checked_evaluator import CheckedEvaluator
from helora_core.backend.handles import Ciphertext, Plaintext
from helora_core.backend.ntt import Residues
from helora_core.backend.protocol import Sanitizing, Values
from helora_core.backend.sanitize import sanitize_many, uniform_mask
from helora_core.params.ckks import CKKSParams


class OperationCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How often each operation runs in one execution of a program.

    Attributes:
        rotations: Rotations by a step other than 0.
        keyswitches: Key switches, the expensive part of a rotation (one each, since every step has its own key).
        ct_pt: Products of a ciphertext with an encoded plaintext.
        additions: Sums, differences and negatives of ciphertexts, including sums with plaintexts.
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
        """The sum of both counts."""
        return OperationCounts(**{name: getattr(self, name) + getattr(other, name) for name in self.__struct_fields__})

    def minus(self, earlier: OperationCounts) -> OperationCounts:
        """The operations since ``earlier``."""
        return OperationCounts(
            **{name: getattr(self, name) - getattr(earlier, name) for name in self.__struct_fields__}
        )


class InnerCounts(msgspec.Struct, frozen=True, kw_only=True):
    """What whole programs took inside, as their libraries traced it; zeros if a library does not say.

    They depend on how a library switches keys, so that no plan predicts them. Key switches themselves, which budgets
    are for, are in ``OperationCounts``.

    Attributes:
        decompositions: Polynomials decomposed for products with keys.
        mod_downs: Polynomials divided by the special primes.
        transforms: NTTs, of one polynomial modulo one prime each.
    """

    decompositions: int = 0
    mod_downs: int = 0
    transforms: int = 0

    @classmethod
    def traced(cls, done: Mapping[str, int], runs: int) -> InnerCounts:
        """The counts of one of ``runs`` runs of a program that were traced together."""
        return cls(**{name: done.get(name, 0) // runs for name in cls.__struct_fields__})

    def plus(self, other: InnerCounts) -> InnerCounts:
        """The sum of both counts."""
        return InnerCounts(**{name: getattr(self, name) + getattr(other, name) for name in self.__struct_fields__})

    def minus(self, earlier: InnerCounts) -> InnerCounts:
        """What was done since ``earlier``."""
        return InnerCounts(**{name: getattr(self, name) - getattr(earlier, name) for name in self.__struct_fields__})


class Ledger:
    """Counts and times of the operations done through the metered roles that share it."""

    def __init__(self) -> None:
        self.reset()

    def counts(self) -> OperationCounts:
        """Everything counted since the ledger was made or reset."""
        return OperationCounts(**self._counts)

    def inner(self) -> InnerCounts:
        """What whole programs took inside, likewise."""
        return self._inner

    def elapsed_ns(self) -> dict[str, int]:
        """Wall time per kind of operation, in nanoseconds; key switches are part of ``rotations``.

        The time of whole programs is under ``programs``, since their operations cannot be timed one by one.
        """
        return {kind: elapsed for kind, elapsed in self._elapsed_ns.items() if elapsed}

    def reset(self) -> None:
        """Start again at zero."""
        self._counts = dict.fromkeys(OperationCounts.__struct_fields__, 0)
        self._inner = InnerCounts()
        self._elapsed_ns = dict.fromkeys((*OperationCounts.__struct_fields__, "programs"), 0)

    def add(self, kind: str, times: int = 1) -> None:
        """Count ``kind`` without timing it."""
        self._counts[kind] += times

    def credit(self, counts: OperationCounts, elapsed_ns: int, inner: InnerCounts) -> None:
        """Count the operations of a program that a library ran as a whole, and what it says they took."""
        self._inner = self._inner.plus(inner)
        for kind in counts.__struct_fields__:
            self._counts[kind] += getattr(counts, kind)
        self._elapsed_ns["programs"] += elapsed_ns

    def enter(self, kind: str, start_ns: int, times: int = 1) -> None:
        """Count ``times`` of ``kind`` that succeeded, and the time they took together since ``start_ns``.

        This is not a context manager, which would double the cost of everything else around an operation.
        """
        self._elapsed_ns[kind] += perf_counter_ns() - start_ns
        self._counts[kind] += times


class _Metered:
    """The calls of both roles that are not counted: looking at ciphertexts and transport are not part of a program."""

    def __init__(self, role: CheckedRole, ledger: Ledger) -> None:
        self._ledger = ledger
        self.key_id = role.key_id
        self.encoder = role.encoder
        self.level = role.level
        self.scale = role.scale
        self.low_bits = role.low_bits
        self.serialize = role.serialize
        self.deserialize = role.deserialize


class MeteredEvaluator(_Metered):
    """An evaluator whose operations are entered in a ledger, with core's fallback for fused sums."""

    def __init__(self, evaluator: CheckedEvaluator, ledger: Ledger) -> None:
        super().__init__(evaluator, ledger)
        self._evaluator = evaluator
        self._slots = evaluator.params.slots
        self.encrypt_public = evaluator.encrypt_public  # not counted: no program has it

    @property
    def unmetered(self) -> CheckedEvaluator:
        """The same operations without counting, for the parts of an operation that counts as one."""
        return self._evaluator

    def with_ledger(self, ledger: Ledger) -> MeteredEvaluator:
        """The same evaluator, with another ledger."""
        return MeteredEvaluator(self._evaluator, ledger)

    def credit(self, counts: OperationCounts, elapsed_ns: int, inner: InnerCounts) -> None:
        """Count the operations of a program that was run as a whole, the time it took, and what it did inside."""
        self._ledger.credit(counts, elapsed_ns, inner)

    def add(self, left: Ciphertext, right: Ciphertext) -> Ciphertext:
        """Sum, counted."""
        start = perf_counter_ns()
        total = self._evaluator.add(left, right)
        self._ledger.enter("additions", start)
        return total

    def sub(self, left: Ciphertext, right: Ciphertext) -> Ciphertext:
        """Difference, counted as an addition."""
        start = perf_counter_ns()
        difference = self._evaluator.sub(left, right)
        self._ledger.enter("additions", start)
        return difference

    def negate(self, ciphertext: Ciphertext) -> Ciphertext:
        """Negative, counted as an addition."""
        start = perf_counter_ns()
        negative = self._evaluator.negate(ciphertext)
        self._ledger.enter("additions", start)
        return negative

    def add_plain(self, ciphertext: Ciphertext, plaintext: Plaintext) -> Ciphertext:
        """Sum with a plaintext, counted as an addition."""
        start = perf_counter_ns()
        total = self._evaluator.add_plain(ciphertext, plaintext)
        self._ledger.enter("additions", start)
        return total

    def multiply_plain(self, ciphertext: Ciphertext, plaintext: Plaintext) -> Ciphertext:
        """Product with a plaintext, counted."""
        start = perf_counter_ns()
        product = self._evaluator.multiply_plain(ciphertext, plaintext)
        self._ledger.enter("ct_pt", start)
        return product

    def dot_plain(self, ciphertexts: Sequence[Ciphertext], plaintexts: Iterable[Plaintext]) -> Ciphertext:
        """Sum of products, each counted; computed one after another if the backend cannot fuse them.

        Args:
            ciphertexts: One or more.
            plaintexts: As many; taken one by one if they are not fused, so that they may be made on the fly.
        """
        if not self._evaluator.fuses:
            products = map(self.multiply_plain, ciphertexts, plaintexts)
            return functools.reduce(self.add, products)
        taken = list(plaintexts)
        start = perf_counter_ns()
        total = self._evaluator.dot_plain(ciphertexts, taken)
        self._ledger.enter("ct_pt", start, len(ciphertexts))
        self._ledger.add("additions", len(ciphertexts) - 1)
        return total

    def rotate(self, ciphertext: Ciphertext, steps: int) -> Ciphertext:
        """Rotation, counted with its key switch unless it is by a multiple of the slots."""
        if steps % self._slots == 0:
            return self._evaluator.rotate(ciphertext, 0)
        start = perf_counter_ns()
        rotated = self._evaluator.rotate(ciphertext, steps)
        self._ledger.enter("rotations", start)
        self._ledger.add("keyswitches")
        return rotated

    def rotate_many(self, ciphertext: Ciphertext, steps: Sequence[int]) -> list[Ciphertext]:
        """One rotation per step, hoisted if the backend can, each counted with its key switch unless it is by 0."""
        rotations = sum(step % self._slots != 0 for step in steps)
        start = perf_counter_ns()
        rotated = self._evaluator.rotate_many(ciphertext, steps)
        self._ledger.enter("rotations", start, rotations)
        self._ledger.add("keyswitches", rotations)
        return rotated

    def rescale(self, ciphertext: Ciphertext) -> Ciphertext:
        """Rescale, counted; under automatic rescaling this counts the program's rescales, not the library's."""
        start = perf_counter_ns()
        lower = self._evaluator.rescale(ciphertext)
        self._ledger.enter("rescales", start)
        return lower

    def sanitize_many(
        self,
        ciphertexts: Sequence[Ciphertext],
        how: Sequence[Sanitizing],
        params: CKKSParams,
        capabilities: Capabilities,
    ) -> list[Ciphertext]:
        """Re-randomise, flood and mask results, each counted as one; see ``helora_core.backend.sanitize``.

        Low bits are dropped last: what is left is a function of the clean result alone.
        """
        start = perf_counter_ns()
        clean = sanitize_many(self._evaluator, params, capabilities, ciphertexts, how)
        clean = [self._evaluator.shortened(each, asked.low_bits) for each, asked in zip(clean, how, strict=True)]
        self._ledger.enter("sanitizes", start, len(clean))
        return clean

    def uniform_mask(
        self, ciphertext: Ciphertext, params: CKKSParams, capabilities: Capabilities
    ) -> tuple[Ciphertext, Residues]:
        """Mask a value, counted as sanitised, and return it and the mask; see ``helora_core.backend.sanitize``."""
        start = perf_counter_ns()
        masked = uniform_mask(self._evaluator, params, capabilities, ciphertext)
        self._ledger.enter("sanitizes", start)
        return masked


class MeteredDecryptor(_Metered):
    """A decryptor whose operations are entered in a ledger."""

    def __init__(self, decryptor: CheckedDecryptor, ledger: Ledger) -> None:
        super().__init__(decryptor, ledger)
        self._decryptor = decryptor
        self.evaluation_keys = decryptor.evaluation_keys
        self.export_keys = decryptor.export_keys

    def with_ledger(self, ledger: Ledger) -> MeteredDecryptor:
        """The same decryptor, with another ledger."""
        return MeteredDecryptor(self._decryptor, ledger)

    def encrypt_many(self, many: Sequence[Values], *, scale: float, encoding: Encoding) -> list[Ciphertext]:
        """Encryptions, each counted."""
        start = perf_counter_ns()
        made = self._decryptor.encrypt_many(many, scale=scale, encoding=encoding)
        self._ledger.enter("encrypts", start, len(made))
        return made

    def decrypt_many(self, ciphertexts: Sequence[Ciphertext], *, encoding: Encoding) -> list[Values]:
        """Decryptions, each counted."""
        start = perf_counter_ns()
        values = self._decryptor.decrypt_many(ciphertexts, encoding=encoding)
        self._ledger.enter("decrypts", start, len(values))
        return values

    def encrypt(self, values: Values, *, scale: float, encoding: Encoding) -> Ciphertext:
        """Encryption, counted."""
        start = perf_counter_ns()
        ciphertext = self._decryptor.encrypt(values, scale=scale, encoding=encoding)
        self._ledger.enter("encrypts", start)
        return ciphertext

    def decrypt(self, ciphertext: Ciphertext, *, encoding: Encoding) -> Values:
        """Decryption, counted."""
        start = perf_counter_ns()
        values = self._decryptor.decrypt(ciphertext, encoding=encoding)
        self._ledger.enter("decrypts", start)
        return values
