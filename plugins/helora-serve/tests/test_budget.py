"""Queries are counted before anything is computed, by client and module, and through restarts."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helora_core.errors import LimitExceeded
from helora_core.parties.directory_store import DirectoryStore
from helora_core.parties.store import MemoryStore
from helora_serve.budget import AHEAD, Budget, counted

WHO = "0" * 32


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 40), st.booleans()), max_size=40))
def test_what_was_had_is_never_counted_less_after_a_crash(steps: list[tuple[str, int, bool]]) -> None:
    store, had = MemoryStore(), dict.fromkeys("abc", 0)
    account, crashes = Budget(store, 500).account(WHO), 0
    for part, tokens, crash in steps:
        if crash:
            account, crashes = Budget(store, 500).account(WHO), crashes + 1
        try:
            account.admit([part], tokens)
            had[part] += tokens
        except LimitExceeded:
            assert had[part] + tokens + crashes * AHEAD > 500
    assert max(had.values()) <= 500
    assert Budget(store, 500).account(WHO).usage({}).queries >= max(had.values())
    account.settle()
    assert crashes or Budget(store, 500).account(WHO).usage({}).queries == max(had.values())


def test_threads_do_not_get_more_than_the_limit() -> None:
    account, admitted = Budget(None, 100).account(WHO), []

    def ask() -> None:
        for _ in range(50):
            try:
                account.admit(["q"], 1)
                admitted.append(1)
            except LimitExceeded:
                return

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(admitted) == 100


def test_most_queries_cost_no_write(tmp_path: Path) -> None:
    puts = []

    class Counting(DirectoryStore):
        def put_many(self, writes: Any) -> None:
            puts.append(writes)
            super().put_many(writes)

    with Counting(tmp_path) as store:
        account = Budget(store, None).account(WHO)
        for _ in range(10 * AHEAD):
            account.admit(["q", "k", "v"], 1)
    assert len(puts) <= 11


def test_plans_that_run_ahead_count_as_the_adapter_itself() -> None:
    assert counted("legal.ahead/layers.0.q") == counted("legal/layers.0.q") == "legal/layers.0.q"
    assert counted("layers.0.q") == "layers.0.q"


def test_the_owners_limit_holds_through_sessions_and_restarts(
    serving: Any, world: Any, alice: Any, tmp_path: Path, refused: Any
) -> None:
    tokens, token = alice
    served = serving(tokens=tokens, queries=100, state=tmp_path)
    for seed in range(3):  # other keys each time: a token's owner is the same client
        client, session = served.session(token=token)
        for _ in range(3):
            client.delta("q", world.x(10, seed), session)
    assert session.notice is not None  # half is used
    assert (session.notice.queries, session.notice.limit) == (60, 100)
    assert session.notice.share_of_copy == pytest.approx(60 / 24)
    with refused(LimitExceeded, "90 queries", "100"):
        client.delta("q", world.x(11), session)
    client.delta("v", world.x(11), session)  # another module
    served.host.stop()
    served.host._thread.join()
    again = serving(tokens=tokens, queries=100, state=tmp_path)
    client, session = again.session(token=token)
    with refused(LimitExceeded):
        client.delta("q", world.x(60), session)  # at least 90 are remembered


def test_without_tokens_keys_are_who_asks(serving: Any, world: Any, refused: Any) -> None:
    served = serving(queries=15)
    client, session = served.session()
    client.delta("q", world.x(10), session)
    with refused(LimitExceeded):
        client.delta("q", world.x(10), session)
    second = served.connect().open(client.evaluation_keys())
    with refused(LimitExceeded):
        client.delta("q", world.x(10), second)  # the same keys in another session
    other, session = served.session()
    other.delta("q", world.x(10), session)  # and this is what that does not bound


def test_what_is_asked_again_counts_once(serving: Any, relayed: Any, world: Any) -> None:
    served = serving(queries=15)
    relay = relayed(served.host.port, ("KILL", False, 1, 0))
    client, session = served.session(relay.url)
    assert world.right(client.run("q", world.x(15), session), world.x(15))
    assert relay.happened
