"""The ledger counts what succeeded, on a real backend, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helora_core.backend.ledger import Ledger, OperationCounts
from helora_core.backend.session import ServerSession
from helora_core.errors import HeloraError, LevelExhausted, LevelMismatch, MissingRotationKey, SlotOverflow

V = np.arange(1.0, 5.0)
FIELDS = OperationCounts.__struct_fields__

counts = st.builds(OperationCounts, **dict.fromkeys(FIELDS, st.integers(0, 10**6)))


@pytest.fixture
def ledger(sessions: Any) -> Iterator[Ledger]:
    sessions.ledger.reset()
    yield sessions.ledger
    sessions.ledger.reset()


def uploaded(sessions: Any) -> Any:
    """A ciphertext at the server, with the ledger at zero afterwards."""
    ciphertext = sessions.server.receive(sessions.client.send(sessions.client.encrypt(V, scale_bits=30)))
    sessions.ledger.reset()
    return ciphertext


def another(sessions: Any) -> Any:
    """A ciphertext of -2·V at the server, encrypted behind the ledger's back."""
    fresh = sessions.client._decryptor._decryptor.encrypt(-2 * V, scale=2.0**30)
    return sessions.server.receive(sessions.client.send(fresh))


def encoded(sessions: Any, level: int = 2) -> Any:
    return sessions.server.evaluator.encoder.encode(V, level=level, scale=2.0**30)


OPERATIONS: dict[str, tuple[str, Callable[[Any, Any], object]]] = {
    "rotate": ("rotations keyswitches", lambda sessions, ct: sessions.server.evaluator.rotate(ct, 1)),
    "multiply_plain": ("ct_pt", lambda sessions, ct: sessions.server.evaluator.multiply_plain(ct, encoded(sessions))),
    "add": ("additions", lambda sessions, ct: sessions.server.evaluator.add(ct, ct)),
    "sub": ("additions", lambda sessions, ct: sessions.server.evaluator.sub(ct, another(sessions))),
    "negate": ("additions", lambda sessions, ct: sessions.server.evaluator.negate(ct)),
    "add_plain": ("additions", lambda sessions, ct: sessions.server.evaluator.add_plain(ct, encoded(sessions))),
    "rescale": ("rescales", lambda sessions, ct: sessions.server.evaluator.rescale(ct)),
    "encrypt": ("encrypts", lambda sessions, ct: sessions.client.encrypt(V, scale_bits=30)),
    "decrypt": ("decrypts", lambda sessions, ct: sessions.client.decrypt(ct)),
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_each_operation_counts_once_and_is_timed(sessions: Any, ledger: Ledger, operation: str) -> None:
    kinds, run = OPERATIONS[operation]
    ciphertext = uploaded(sessions)
    for done in (1, 2):
        run(sessions, ciphertext)
        assert ledger.counts() == OperationCounts(**dict.fromkeys(kinds.split(), done))
    assert list(ledger.elapsed_ns()) == kinds.split()[:1]
    assert all(elapsed > 0 for elapsed in ledger.elapsed_ns().values())


FAILURES: dict[type[HeloraError], Callable[[Any, Any], object]] = {
    MissingRotationKey: lambda sessions, ct: sessions.server.evaluator.rotate(ct, 3),
    LevelMismatch: lambda sessions, ct: sessions.server.evaluator.multiply_plain(ct, encoded(sessions, level=1)),
    LevelExhausted: lambda sessions, ct: sessions.server.evaluator.rescale(ct),
    SlotOverflow: lambda sessions, ct: sessions.client.encrypt(np.ones(513), scale_bits=30),
}


@pytest.mark.parametrize("error", FAILURES)
def test_what_fails_is_not_counted(sessions: Any, ledger: Ledger, error: type[HeloraError]) -> None:
    ciphertext = uploaded(sessions)
    if error is LevelExhausted:
        evaluator = sessions.server.evaluator
        ciphertext = evaluator.rescale(evaluator.rescale(ciphertext))
        ledger.reset()
    with pytest.raises(error):
        FAILURES[error](sessions, ciphertext)
    assert ledger.counts() == OperationCounts()
    assert ledger.elapsed_ns() == {}


def test_a_failed_addition_and_a_failed_decryption_are_not_counted(
    sessions: Any, other_sessions: Any, ledger: Ledger
) -> None:
    ciphertext, foreign = uploaded(sessions), uploaded(other_sessions)
    for attempt in (
        lambda: sessions.server.evaluator.add(ciphertext, foreign),
        lambda: sessions.client.decrypt(foreign),
    ):
        with pytest.raises(HeloraError):
            attempt()
    assert ledger.counts() == OperationCounts()


def test_rotation_by_zero_is_not_counted(sessions: Any, ledger: Ledger) -> None:
    sessions.server.evaluator.rotate(uploaded(sessions), 0)
    assert ledger.counts() == OperationCounts()


def test_looking_encoding_and_transport_are_not_counted(sessions: Any, ledger: Ledger) -> None:
    client, server = sessions.client, sessions.server
    ciphertext = uploaded(sessions)
    encoded(sessions)
    server.evaluator.level(ciphertext)
    server.evaluator.scale(ciphertext)
    client.receive(server.send(ciphertext))
    client.evaluation_keys()
    assert ledger.counts() == OperationCounts()


def test_roles_share_the_ledger_they_are_given_and_no_other(sessions: Any, backend: Any, ledger: Ledger) -> None:
    own = Ledger()
    server = ServerSession.from_keys(backend, sessions.client.params, sessions.client.evaluation_keys(), ledger=own)
    ciphertext = server.receive(sessions.client.send(sessions.client.encrypt(V, scale_bits=30)))
    server.evaluator.rotate(ciphertext, 1)
    assert ledger.counts() == OperationCounts(encrypts=1)
    assert own.counts() == OperationCounts(rotations=1, keyswitches=1)


def test_reset_starts_at_zero_and_leaves_earlier_readings_alone(sessions: Any, ledger: Ledger) -> None:
    sessions.server.evaluator.rotate(uploaded(sessions), 1)
    read, elapsed = ledger.counts(), ledger.elapsed_ns()
    ledger.reset()
    assert ledger.counts() == OperationCounts()
    assert ledger.elapsed_ns() == {}
    assert read.rotations == 1
    assert elapsed


@given(counts, counts)
def test_minus_is_field_by_field(later: OperationCounts, earlier: OperationCounts) -> None:
    difference = later.minus(earlier)
    for field in FIELDS:
        assert getattr(difference, field) == getattr(later, field) - getattr(earlier, field)


@given(counts, st.integers(0, 1000))
def test_times_is_field_by_field(one: OperationCounts, runs: int) -> None:
    for field in FIELDS:
        assert getattr(one.times(runs), field) == runs * getattr(one, field)


def test_a_request_has_a_ledger_of_its_own(sessions: Any, ledger: Ledger) -> None:
    client, server = sessions.client, sessions.server
    requests = [Ledger(), Ledger()]
    for own in requests:
        ciphertext = server.receive(client.with_ledger(own).send(client.with_ledger(own).encrypt(V, scale_bits=30)))
        server.with_ledger(own).evaluator.add(ciphertext, ciphertext)
    assert all(own.counts() == OperationCounts(encrypts=1, additions=1) for own in requests)
    assert ledger.counts() == OperationCounts()
