"""No index is used twice, whatever crashes, is put back from a backup, is copied, or runs twice."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from helora_core.parties.marks import Mark, Ownership
from helora_core.parties.store import MemoryStore
from tests.conftest import examples
from tests.parties.once import UsedTwice, World
from tests.parties.places import Directory, Faults, Memory, Place

WHO = st.sampled_from(["client", "server"])
SIZES = st.integers(1, 60)


class Once(RuleBasedStateMachine):
    """The eavesdroppers of the world raise ``UsedTwice``."""

    @initialize(anchored=st.sampled_from([True, True, False]), sealed=st.booleans(), seed=st.integers(0, 1 << 16))
    def start(self, anchored: bool, sealed: bool, seed: int) -> None:
        self.anchored = anchored
        self.begin(anchored=anchored, sealed=sealed, seed=seed)
        self.prepare(60)

    def begin(self, *, anchored: bool, sealed: bool, seed: int) -> None:
        faults = Faults()
        self.world = World(lambda: Memory(faults), faults, anchored=anchored, sealed=sealed, ahead=8, seed=seed)

    @rule(size=SIZES)
    def prepare(self, size: int) -> None:
        self.world.prepare(size)

    @rule(tokens=st.integers(1, 20), deviating=st.booleans())
    def request(self, tokens: int, deviating: bool) -> None:
        self.world.request(tokens)
        if deviating:
            self.world.deviate()

    @rule(who=WHO, steps=st.integers(0, 8))
    def crash(self, who: str, steps: int) -> None:
        self.world.crash(who, steps)

    @rule(who=WHO)
    def replicate(self, who: str) -> None:
        self.world.replicate(who)

    @rule(who=WHO)
    def back_up(self, who: str) -> None:
        self.world.back_up(who)

    @rule(who=WHO)
    def put_back(self, who: str) -> None:
        if self.anchored:
            self.world.put_back(who)

    @rule(who=WHO)
    def clone(self, who: str) -> None:
        if self.anchored:
            self.world.clone(who)


class OnceInDirectories(Once):
    """The same with directories, in which a process ends at any system call."""

    def begin(self, *, anchored: bool, sealed: bool, seed: int) -> None:
        self.open = ExitStack()
        folder, faults = Path(self.open.enter_context(tempfile.TemporaryDirectory())), Faults()
        count = 0

        def make() -> Place:
            nonlocal count
            count += 1
            return Directory(folder / f"place{count}")

        self.open.enter_context(faults.at_system_calls())
        self.world = World(make, faults, anchored=anchored, sealed=sealed, ahead=8, seed=seed)
        self.open.callback(self.world.close)

    def teardown(self) -> None:
        if hasattr(self, "open"):
            self.world.faults.left = None
            self.open.close()


Once.TestCase.settings = examples(60, stateful_step_count=60)
TestOnce = Once.TestCase
OnceInDirectories.TestCase.settings = examples(8, stateful_step_count=40)
TestOnceInDirectories = OnceInDirectories.TestCase


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 100)), max_size=8))
def test_marks_move_together_by_one_put_as_they_would_one_by_one(ends: list[tuple[int, int]]) -> None:
    puts = []

    class Counting(MemoryStore):
        def put_many(self, writes: Any) -> None:
            puts.append([key for key, _ in writes])
            super().put_many(writes)

    stores = Counting(), MemoryStore()
    owners = [Ownership(store, "owner") for store in stores]
    together, alone = ([Mark(owner, f"mark.{i}", 100, ahead=10) for i in range(3)] for owner in owners)
    puts.clear()
    Mark.cover_all([(together[i], end) for i, end in ends])
    for i, end in ends:
        alone[i].cover(end)
    assert [mark.reserved for mark in together] == [mark.reserved for mark in alone]
    assert [stores[0].get(f"mark.{i}") for i in range(3)] == [stores[1].get(f"mark.{i}") for i in range(3)]
    assert puts == ([[f"mark.{i}" for i in dict.fromkeys(i for i, _ in ends)]] if ends else [])


class TestWithoutAnchor:
    """What an anchor is for, and that the eavesdroppers would hear it."""

    def world(self, *, anchored: bool) -> World:
        faults = Faults()
        world = World(lambda: Memory(faults), faults, anchored=anchored, sealed=False, ahead=8)
        world.prepare(60)
        return world

    @pytest.mark.parametrize("who", ["client", "server"])
    def test_a_store_that_is_put_back_uses_indices_twice(self, who: str) -> None:
        def use(world: World) -> None:
            world.back_up(who)
            world.request(20)
            world.put_back(who)
            for _ in range(20):
                world.request(3)
                world.deviate()

        with pytest.raises(UsedTwice):
            use(self.world(anchored=False))
        anchored = self.world(anchored=True)
        use(anchored)
        assert anchored.events["copies refused"] == anchored.events["stores voided"] == 1

    def test_a_clone_uses_indices_twice(self) -> None:
        def use(world: World) -> None:
            world.clone("client")
            for _ in range(20):
                world.request(3)

        with pytest.raises(UsedTwice):
            use(self.world(anchored=False))
        anchored = self.world(anchored=True)
        use(anchored)
        assert anchored.events["writes refused (rolled-back)"] == 1
