"""Anchored stores: a crash at any step bricks nothing, and no state older than one that left is accepted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helora_core.errors import CorruptPayload, InvalidInput, NotDurable, RolledBack
from helora_core.parties.anchored_store import AnchoredStore, StoreAnchor, void
from helora_core.parties.directory_store import DirectoryStore
from helora_core.parties.marks import Mark, Ownership
from helora_core.parties.sealed_store import SealedStore
from helora_core.parties.store import Deferred, MemoryStore, Store, WrappedStore, Write
from tests.parties.places import Crash, Directory, Faults

KEY = bytes(32)


def copy_of(store: Store) -> MemoryStore:
    return MemoryStore({name: store.get(name) or b"" for name in store.names("")})


def contents(store: Store) -> dict[str, bytes | None]:
    return {name: store.get(name) for name in store.names("")}


@pytest.fixture
def anchor() -> StoreAnchor:
    return StoreAnchor(MemoryStore())


class TestCopies:
    def test_every_older_copy_is_refused_and_the_newest_is_not(self, anchor: StoreAnchor, refused: Any) -> None:
        disk = MemoryStore()
        store = AnchoredStore(disk, anchor)
        older = []
        for number in range(5):
            older.append(copy_of(disk))
            store.put_many([Write("mark", bytes([number]))])
        for put, copy in enumerate(older):
            with refused(RolledBack, f"from put {put}, and its anchor stands at put 5", hint="void"):
                AnchoredStore(copy, anchor)
        assert AnchoredStore(copy_of(disk), anchor).get("mark") == b"\4"

    def test_what_was_kept_before_there_was_an_anchor_is_adopted_once(self, anchor: StoreAnchor, refused: Any) -> None:
        before = MemoryStore({"mark": b"1"})
        AnchoredStore(copy_of(before), anchor)
        with refused(RolledBack, "has no record"):
            AnchoredStore(before, anchor)

    @pytest.mark.parametrize(
        "change",
        [Write("mark.1", b"old"), Write("mark.1", None), Write("batch.2", b"old"), Write("mark.2", b"new")],
        ids=["older", "missing", "added", "exchanged"],
    )
    def test_single_values_that_are_put_back_are_found(self, anchor: StoreAnchor, change: Write, refused: Any) -> None:
        disk = MemoryStore()
        store = AnchoredStore(disk, anchor)
        store.put_many([Write("mark.1", b"old"), Write("mark.2", b"old")])
        store.put_many([Write("mark.1", b"new")])
        disk.put_many([change])
        with refused(RolledBack, "older than the others"):
            AnchoredStore(disk, anchor)

    def test_of_two_copies_the_first_to_write_goes_on_and_the_other_is_refused(
        self, anchor: StoreAnchor, refused: Any
    ) -> None:
        disk = MemoryStore()
        first = AnchoredStore(disk, anchor)
        first.put_many([Write("mark", b"1")])
        clone = AnchoredStore(copy_of(disk), anchor)
        clone.put_many([Write("mark", b"2")])
        for _ in range(2):
            with refused(RolledBack, "copy from put 1"):
                first.put_many([Write("mark", b"3")])
        with refused(RolledBack, "copy from put 1"):
            AnchoredStore(disk, anchor)
        clone.put_many([Write("mark", b"4")])

    def test_a_put_that_a_crash_left_without_its_anchor_is_refused_once_another_copy_went_on(
        self, anchor: StoreAnchor, refused: Any
    ) -> None:
        """Both copies are at the same number: what they follow tells them apart."""
        disk = MemoryStore()
        store = AnchoredStore(disk, anchor)
        store.put_many([Write("mark", b"1")])
        backup = copy_of(disk)
        held = anchor.read()
        disk_after, anchor_after = copy_of(disk), StoreAnchor(MemoryStore())
        anchor_after.replace(None, held or b"")
        AnchoredStore(disk_after, anchor_after).put_many([Write("mark", b"2")])  # the real anchor did not move
        assert AnchoredStore(copy_of(disk_after), _copied(anchor)).get("mark") == b"2"
        AnchoredStore(backup, anchor).put_many([Write("mark", b"3")])
        with refused(RolledBack, "another copy"):
            AnchoredStore(disk_after, anchor)

    def test_a_process_that_opens_the_store_in_the_middle_of_a_put_is_the_one_that_goes_on(
        self, anchor: StoreAnchor
    ) -> None:
        """Ownership alone looks before it writes, and would miss this; the anchor moves by compare-and-set."""

        class Slow(WrappedStore):
            meanwhile: Callable[[], None] | None = None

            def put_many(self, writes: Any) -> None:
                meanwhile, self.meanwhile = self.meanwhile, None
                if meanwhile:
                    meanwhile()
                super().put_many(writes)

        disk = Slow(MemoryStore())
        mark = Mark(Ownership(AnchoredStore(disk, anchor), "owner"), "mark", 100, ahead=10)
        others = []

        def take_over() -> None:
            others.append(Mark(Ownership(AnchoredStore(disk, anchor), "owner"), "mark", 100, ahead=10))

        disk.meanwhile = take_over
        with pytest.raises(RolledBack):
            mark.cover(1)
        assert (mark.reserved, others[0].reserved) == (0, 0)
        others[0].cover(1)
        with pytest.raises((RolledBack, NotDurable)):
            mark.cover(1)

    def test_a_sealed_store_is_not_put_together_from_old_and_new_files(self, anchor: StoreAnchor, refused: Any) -> None:
        disk = MemoryStore()
        store = AnchoredStore(SealedStore(disk, KEY), anchor)
        store.put_many([Write("mark", b"1")])
        old = copy_of(disk)
        store.put_many([Write("mark", b"2")])
        for name in ("mark", "anchored"):
            mixed = copy_of(disk)
            mixed.put_many([Write(name, old.get(name))])
            with refused(RolledBack):
                AnchoredStore(SealedStore(mixed, KEY), anchor)


def _copied(anchor: StoreAnchor) -> StoreAnchor:
    copied = StoreAnchor(MemoryStore())
    copied.replace(None, anchor.read() or b"")
    return copied


class TestCrashes:
    """Directories, and a process that ends at its n-th fsync, replace or unlink, for every n until it comes through."""

    @pytest.mark.parametrize("action", ["first put", "put", "void"])
    def test_at_every_step(self, tmp_path: Path, action: str) -> None:
        faults = Faults()
        old = {"mark.1": b"old", "mark.2": b"old"}
        new = {
            "put": {"mark.1": b"new", "batch": b"new", "mark.2": b"old"},
            "first put": {"mark.1": b"new"},
            "void": {},
        }
        finals = []
        for step in range(80):
            place, anchor_place = Directory(tmp_path / f"store{step}"), Directory(tmp_path / f"anchor{step}")
            if action != "first put":
                AnchoredStore(place.open(), StoreAnchor(anchor_place.open())).put_many(
                    [Write(key, value) for key, value in old.items()]
                )
                place.close(), anchor_place.close()
            before, ended = place.copy(), False
            with faults.at_system_calls():
                faults.left = step
                try:
                    store, anchor = place.open(), StoreAnchor(anchor_place.open())
                    if action == "void":
                        void(store, anchor)
                    else:
                        writes = new[action].items() - old.items()
                        AnchoredStore(store, anchor).put_many([Write(key, value) for key, value in sorted(writes)])
                except Crash:
                    ended = True
                faults.left = None
            place.close(), anchor_place.close()

            anchor = StoreAnchor(anchor_place.open())
            found = contents(AnchoredStore(place.open(), anchor))  # never bricked
            assert found in (new[action], old if action != "first put" else {})
            finals.append(found == new[action])
            if finals[-1] and action != "first put":
                with pytest.raises(RolledBack):
                    AnchoredStore(before.open(), anchor)
            if not ended:
                break
            for each in (place, before, anchor_place):
                each.close()
        assert finals == sorted(finals)
        assert finals[-1]
        assert (action == "void") or not finals[0]
        assert len(finals) > 8

    def test_an_error_leaves_the_store_usable_and_the_next_put_finds_out_how_far_it_came(
        self, anchor: StoreAnchor
    ) -> None:
        class Failing(WrappedStore):
            fails = ""

            def put_many(self, writes: Any) -> None:
                fails, self.fails = self.fails, ""
                if fails != "before":
                    super().put_many(writes)
                if fails:
                    raise InvalidInput("The disk is full.", hint="Make room.")

        for what in ("store", "anchor"):
            for when in ("before", "after"):
                disk, held = Failing(MemoryStore()), Failing(MemoryStore())
                store = AnchoredStore(disk, StoreAnchor(held))
                store.put_many([Write("mark", b"1")])
                (disk if what == "store" else held).fails = when
                with pytest.raises(InvalidInput):
                    store.put_many([Write("mark", b"2")])
                store.put_many([Write("other", b"3")])
                kept = b"1" if (what, when) == ("store", "before") else b"2"
                assert contents(AnchoredStore(disk, StoreAnchor(held))) == {"mark": kept, "other": b"3"}


class TestVoid:
    def test_it_deletes_everything_and_refuses_every_copy_made_before(self, anchor: StoreAnchor, refused: Any) -> None:
        disk = MemoryStore()
        store = AnchoredStore(disk, anchor)
        store.put_many([Write("mark", b"1")])
        running, backup, epoch = store, copy_of(disk), store.epoch
        store.put_many([Write("mark", b"2")])
        with pytest.raises(RolledBack):
            AnchoredStore(backup, anchor)
        for put_back in (backup, MemoryStore(), disk):
            void(put_back, anchor)
            fresh = AnchoredStore(put_back, anchor)
            assert (contents(fresh), fresh.epoch != epoch) == ({}, True)
        fresh.put_many([Write("mark", b"0")])
        with refused(RolledBack, "voided"):
            running.put_many([Write("mark", b"3")])
        with refused(RolledBack, "no record"):
            AnchoredStore(MemoryStore(), anchor)

    def test_it_needs_no_anchor_and_mends_what_is_damaged(self, anchor: StoreAnchor, refused: Any) -> None:
        disk = MemoryStore()
        owner = Ownership(disk, "owner")
        void(disk)
        with refused(NotDurable, "Another party"):
            owner.put(Write("mark", b"1"))
        held = MemoryStore()
        anchor = StoreAnchor(held)
        AnchoredStore(disk, anchor)
        for damaged, key in ((disk, "anchored"), (held, "anchor.store")):
            damaged.put_many([Write(key, b"?")])
            with refused(CorruptPayload, "damaged", hint="void"):
                AnchoredStore(disk, anchor)
            void(disk, anchor)
            AnchoredStore(disk, anchor)

    def test_a_lost_anchor_is_not_replaced_by_itself(self, anchor: StoreAnchor, refused: Any) -> None:
        disk = MemoryStore()
        AnchoredStore(disk, anchor).put_many([Write("mark", b"1")])
        with refused(RolledBack, "anchor is empty"):
            AnchoredStore(disk, StoreAnchor(MemoryStore()))


def test_writes_that_are_given_out_cannot_be_anchored(anchor: StoreAnchor, refused: Any) -> None:
    for store in (Deferred(), SealedStore(Deferred(), KEY)):
        for use in (lambda store=store: AnchoredStore(store, anchor), lambda store=store: void(store, anchor)):
            with refused(InvalidInput, "Deferred", hint="DirectoryStore"):
                use()


def test_the_clone_of_a_directory_is_found_out(tmp_path: Path, refused: Any) -> None:
    """Two servers: each has its own copy, and both have one anchor."""
    place = Directory(tmp_path / "store")
    with DirectoryStore(tmp_path / "anchor") as held:
        anchor = StoreAnchor(held)
        first = Mark(Ownership(AnchoredStore(place.open(), anchor), "owner"), "mark", 1000, ahead=64)
        first.cover(10)
        clone = place.copy()
        second = Mark(Ownership(AnchoredStore(clone.open(), anchor), "owner"), "mark", 1000, ahead=64)
        first.cover(first.reserved)  # what it had reserved is its own: the other one begins after it
        assert second.reserved == first.reserved
        second.cover(second.reserved + 1)
        with refused(RolledBack, "stands at"):
            first.cover(first.reserved + 1)
        with refused(InvalidInput, "in use"):
            DirectoryStore(tmp_path / "anchor")  # another process cannot even read it meanwhile
    place.close(), clone.close()
