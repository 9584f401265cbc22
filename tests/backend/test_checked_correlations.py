"""Correlations behind core's checks: what a library gets fits, and what it says to bad bytes becomes a refusal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest

from helora_core.backend.checked_backend import checked
from helora_core.backend.checked_correlations import CheckedCorrelations
from helora_core.backend.correlations import NONCE_BYTES, SEED_BYTES, Cut, SupportsCorrelations, Switching
from helora_core.errors import CapabilityMissing, CorruptPayload, HeloraError, InvalidInput, InvalidParameters
from helora_core.host.manager import get_manager
from helora_core.params.ckks import CKKSParams

N = 1024
PARAMS = CKKSParams(
    ring_degree=N, data_bits=(42, 42), special_bits=(), scale_bits=84, wrap_bits=64,
    data_primes=(4398046472193, 4398046429189),
)  # fmt: skip
NONCES, SEED = bytes(2 * NONCE_BYTES), bytes(SEED_BYTES)
TRIM, EXACT = Switching(24, 33), Switching(64, 64, exact=True)
CUT, TWO, FEW = Cut(24, 17), np.ones(2), np.ones(2, dtype=np.float32)

Words = Any


def words(*shape: int) -> Words:
    return np.full(shape, 7, dtype=np.uint64)


def integers(*shape: int, size: int = 5) -> Any:
    return np.full(shape, size, dtype=np.int64)


class Library:
    """Takes whatever it is given, and gives what it is told to."""

    public_key = b"pk"

    def __init__(self) -> None:
        self.given: Words = None
        self.erased = 0

    def batch_key(self, params: CKKSParams, nonces: bytes) -> Library:
        return self

    def batch_sums(self, params: CKKSParams, public_key: bytes, nonces: bytes, rows: int) -> Library:
        return self._read(public_key, self)

    def online_weights(self, matrices: Any) -> Library:
        return self

    def encrypt(self, numbers: Words) -> bytes:
        assert numbers.flags.c_contiguous
        return b"ciphertexts"

    def decrypt(self, payload: bytes, count: int, how: Switching) -> Words:
        return self._read(payload, words(count, N) if self.given is None else self.given)

    def erase(self) -> None:
        self.erased += 1

    def add(self, payload: bytes, matrix: Any) -> None:
        self._read(payload, None)

    def results(self, matrix: Any, masks: Words, seed: bytes, how: Switching) -> bytes:
        return b"results"

    def answer(self, y: bytes, masks: Words, top_bits: int) -> bytes:
        return bytes((masks.size * top_bits + 7) // 8) if self.given is None else self.given

    def padded(self, x: Any, factors: Any, pads: Words) -> bytes:
        assert x.flags.c_contiguous
        assert pads.flags.c_contiguous
        return bytes(8 * x.size) if self.given is None else self.given

    def revealed(self, answers: bytes, results: bytes, cut: Cut, factors: Any, outputs: int) -> Any:
        return np.zeros((len(factors), outputs)) if self.given is None else self.given

    def pack(self, numbers: Words, bits: int) -> bytes:
        return bytes((numbers.size * bits + 7) // 8)

    def unpack(self, payload: bytes, count: int, bits: int) -> Words:
        return words(count)

    @staticmethod
    def _read(payload: bytes, found: Any) -> Any:
        if payload == b"bad":
            raise RuntimeError("secret: 1234")
        return found


@pytest.fixture
def library() -> Library:
    return Library()


@pytest.fixture
def able(library: Library) -> CheckedCorrelations:
    assert isinstance(library, SupportsCorrelations)
    return CheckedCorrelations(library, "acme")


REFUSED: dict[str, tuple[type[HeloraError], str, Callable[[CheckedCorrelations], object]]] = {
    "no wrap limb": (InvalidParameters, "wrap limb", lambda a: a.batch_key(unwrapped(), NONCES)),
    "not resolved": (InvalidParameters, "resolved", lambda a: a.batch_key(replaced(data_primes=()), NONCES)),
    "one nonce": (InvalidInput, "32 bytes of nonces", lambda a: a.batch_key(PARAMS, NONCES[:32])),
    "no rows": (InvalidInput, "count of 0", lambda a: a.batch_sums(PARAMS, b"pk", NONCES, 0)),
    "no key": (CorruptPayload, "a public key", lambda a: a.batch_sums(PARAMS, b"bad", NONCES, 2)),
    "signed numbers": (InvalidInput, "int64", lambda a: key(a).encrypt(integers(2, N))),
    "short rows": (InvalidInput, "(any, 1024)", lambda a: key(a).encrypt(words(2, N - 1))),
    "nothing to encrypt": (InvalidInput, "(any, 1024)", lambda a: key(a).encrypt(words(0, N))),
    "no results": (InvalidInput, "count of 0", lambda a: key(a).decrypt(b"", 0, TRIM)),
    "bad results": (CorruptPayload, "2 results", lambda a: key(a).decrypt(b"bad", 2, TRIM)),
    "too many bits": (InvalidInput, "65 bits", lambda a: key(a).decrypt(b"", 2, Switching(65, 33))),
    "exact and cut": (InvalidInput, "exact", lambda a: key(a).decrypt(b"", 2, Switching(63, 64, exact=True))),
    "exact with one prime": (InvalidInput, "1 primes", lambda a: key(a, one_prime()).decrypt(b"", 2, EXACT)),
    "bad ciphertexts": (CorruptPayload, "5 ciphertexts", lambda a: sums(a).add(b"bad", integers(3, 5))),
    "rows of another sum": (InvalidInput, "(3, any)", lambda a: sums(a).add(b"", integers(2, 5))),
    "doubles": (InvalidInput, "float64", lambda a: sums(a).add(b"", np.ones((3, 5)))),
    "large integers": (InvalidInput, "2^23", lambda a: sums(a).add(b"", integers(3, 5, size=1 << 23))),
    "large negative ones": (InvalidInput, "2^23", lambda a: sums(a).add(b"", integers(3, 5, size=-(1 << 23)))),
    "columns of another sum": (InvalidInput, "(any, 3)", lambda a: results(a, integers(4, 2))),
    "masks for others": (InvalidInput, "(4, 1024)", lambda a: results(a, integers(4, 3), words(3, N))),
    "short seed": (InvalidInput, "16 bytes", lambda a: results(a, integers(4, 3), seed=SEED[:16])),
    "no matrices": (InvalidInput, "no matrices", lambda a: a.online_weights([])),
    "other widths": (InvalidInput, "(any, 3)", lambda a: a.online_weights([integers(3, 5), integers(4, 2)])),
    "inputs of another width": (InvalidInput, "2 times 5", lambda a: weights(a).answer(bytes(64), words(2, 4), 24)),
    "masks of other tokens": (InvalidInput, "1 times 5", lambda a: weights(a).answer(bytes(80), words(1, 4), 24)),
    "masks of another width": (InvalidInput, "(any, 4)", lambda a: weights(a).answer(bytes(80), words(2, 5), 24)),
    "signed masks": (InvalidInput, "int64", lambda a: weights(a).answer(bytes(80), integers(2, 4), 24)),
    "no tokens": (InvalidInput, "(any, 4)", lambda a: weights(a).answer(b"", words(0, 4), 24)),
    "no bits": (InvalidInput, "0 bits", lambda a: weights(a).answer(bytes(80), words(2, 4), 0)),
    "x in integers": (InvalidInput, "int64", lambda a: a.padded(integers(2, 5), np.ones(2), words(2, 5))),
    "no x": (InvalidInput, "(0, 5)", lambda a: a.padded(np.ones((0, 5)), np.ones(0), words(0, 5))),
    "one factor": (InvalidInput, "(1,)", lambda a: a.padded(np.ones((2, 5)), np.ones(1), words(2, 5))),
    "pads of others": (InvalidInput, "(2, 4)", lambda a: a.padded(np.ones((2, 5)), np.ones(2), words(2, 4))),
    "signed pads": (InvalidInput, "int64", lambda a: a.padded(np.ones((2, 5)), np.ones(2), integers(2, 5))),
    "short factors": (InvalidInput, "float32", lambda a: a.padded(np.ones((2, 5)), FEW, words(2, 5))),
    "an answer too short": (CorruptPayload, "23 and 18", lambda a: a.revealed(bytes(23), bytes(18), CUT, TWO, 4)),
    "results in one piece": (CorruptPayload, "24 and 17", lambda a: a.revealed(bytes(24), bytes(17), CUT, TWO, 4)),
    "no outputs": (InvalidInput, "0 outputs", lambda a: a.revealed(b"", b"", CUT, TWO, 0)),
    "no factors": (InvalidInput, "(0,)", lambda a: a.revealed(b"", b"", CUT, np.ones(0), 4)),
    "a cut of nothing": (InvalidInput, "0 bits", lambda a: a.revealed(b"", bytes(18), Cut(0, 17), TWO, 4)),
    "numbers that do not fit": (InvalidInput, "below 2^2", lambda a: a.pack(words(3), 2)),
    "bytes of another count": (CorruptPayload, "8 numbers of 3 bits", lambda a: a.unpack(bytes(4), 8, 3)),
    "a negative count": (CorruptPayload, "-1 numbers", lambda a: a.unpack(b"", -1, 3)),
}  # fmt: skip


def replaced(**changes: Any) -> CKKSParams:
    return msgspec.structs.replace(PARAMS, **changes)


def unwrapped() -> CKKSParams:
    return replaced(wrap_bits=0, scale_bits=40)


def one_prime() -> CKKSParams:
    return replaced(data_bits=(42,), data_primes=PARAMS.data_primes[:1], scale_bits=42)


def key(able: CheckedCorrelations, params: CKKSParams = PARAMS) -> Any:
    return able.batch_key(params, NONCES)


def sums(able: CheckedCorrelations) -> Any:
    return able.batch_sums(PARAMS, b"pk", NONCES, 3)


def results(able: CheckedCorrelations, matrix: Any, masks: Words = None, seed: bytes = SEED) -> Any:
    return sums(able).results(matrix, words(4, N) if masks is None else masks, seed, TRIM)


def weights(able: CheckedCorrelations) -> Any:
    return able.online_weights([integers(3, 5), integers(4, 3)])


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused(able: CheckedCorrelations, refused: Any, case: str) -> None:
    kind, said, call = REFUSED[case]
    with refused(kind, "acme", said):
        call(able)


def test_a_librarys_own_words_are_not_repeated(able: CheckedCorrelations) -> None:
    for call in (lambda: key(able).decrypt(b"bad", 2, TRIM), lambda: sums(able).add(b"bad", integers(3, 5))):
        with pytest.raises(CorruptPayload) as caught:
            call()
        assert "1234" not in str(caught.value)


def test_results_of_another_kind_are_refused(able: CheckedCorrelations, library: Library, refused: Any) -> None:
    for given in (words(2, N - 1), words(2, N) << np.uint64(24), integers(2, N)):
        library.given = given
        with refused(CorruptPayload, "2 results of 24 bits"):
            key(able).decrypt(b"", 2, TRIM)


def test_answers_of_another_kind_are_refused(able: CheckedCorrelations, library: Library, refused: Any) -> None:
    for given, said, call in (
        (bytes(25), "2 times 4", lambda: weights(able).answer(bytes(80), words(2, 4), 24)),
        (bytes(79), "10 words", lambda: able.padded(np.ones((2, 5)), TWO, words(2, 5))),
        (np.zeros((4, 2)), "2 times 4", lambda: able.revealed(bytes(24), bytes(18), CUT, TWO, 4)),
        (words(2, 4), "2 times 4", lambda: able.revealed(bytes(24), bytes(18), CUT, TWO, 4)),
    ):
        library.given = given
        with refused(CorruptPayload, said):
            call()


def test_what_fits_goes_through(able: CheckedCorrelations) -> None:
    assert key(able).public_key == b"pk"
    assert key(able).encrypt(words(N, 2).T) == b"ciphertexts"
    assert key(able).decrypt(b"", 2, EXACT).shape == (2, N)
    sums(able).add(b"", integers(3, 5, size=-(1 << 23) + 1))
    assert results(able, integers(4, 3)) == b"results"
    assert len(weights(able).answer(bytes(80), words(4, 2).T, 24)) == 24
    assert len(able.padded(np.ones((5, 2)).T, np.ones(2), words(5, 2).T)) == 80
    assert able.revealed(bytes(24), bytes(18), CUT, TWO, 4).shape == (2, 4)
    assert able.unpack(able.pack(words(5), 3), 5, 3).shape == (5,)


def test_a_key_that_was_erased_does_nothing(able: CheckedCorrelations, library: Library, refused: Any) -> None:
    pair = key(able)
    pair.erase()
    pair.erase()
    assert library.erased == 1
    for call in (lambda: pair.encrypt(words(1, N)), lambda: pair.decrypt(b"", 1, TRIM)):
        with refused(InvalidInput, "erased"):
            call()


def test_backends_without_the_ability_say_so(refused: Any) -> None:
    with refused(CapabilityMissing, "tenseal", "ahead of time", hint="`correlations`"):
        _ = checked(get_manager().load_backend("tenseal")).correlations
