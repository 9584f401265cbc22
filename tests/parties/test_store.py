"""Stores: what is written is there after a crash, whole, and nothing of what was not."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from helora_core.errors import CorruptPayload, InvalidInput, LimitExceeded
from helora_core.parties.anchored_store import AnchoredStore, StoreAnchor
from helora_core.parties.directory_store import DirectoryStore
from helora_core.parties.marks import Mark, Ownership
from helora_core.parties.sealed_store import SealedStore
from helora_core.parties.store import Deferred, MemoryStore, Store, Write
from tests.conftest import examples


@pytest.fixture(params=["memory", "directory", "deferred", "sealed", "anchored"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """One of each kind."""
    with DirectoryStore(tmp_path / "store") as directory:
        yield {
            "memory": MemoryStore,
            "directory": lambda: directory,
            "deferred": Deferred,
            "sealed": lambda: SealedStore(directory, bytes(32)),
            "anchored": lambda: AnchoredStore(SealedStore(directory, bytes(32)), StoreAnchor(MemoryStore())),
        }[request.param]()


def test_values_are_found_by_key_and_prefix_until_they_are_deleted(store: Store) -> None:
    store.put_many([Write("a.1", b"one"), Write("a.2", b""), Write("b", b"x" * 100_000)])
    assert (store.get("a.1"), store.get("a.2"), store.get("b"), store.get("c")) == (b"one", b"", b"x" * 100_000, None)
    assert store.names("a.") == ["a.1", "a.2"]
    store.put_many([Write("a.1", None), Write("a.2", b"two"), Write("c", None)])
    store.put_many([])
    assert (store.names(""), store.get("a.1"), store.get("a.2")) == (["a.2", "b"], None, b"two")


def test_names_that_could_leave_the_directory_are_refused_and_nothing_is_written(store: Store, refused: Any) -> None:
    for key in ("", ".", "..", ".lock", "a/b", "../a", "A", "a\0", "a\n", "ä", "a" * 201):
        with refused(InvalidInput, "key"):
            store.put_many([Write("fine", b""), Write(key, b"")])
    assert store.names("") == [] or not isinstance(store, DirectoryStore)


class TestDeferred:
    def test_writes_wait_in_order_until_they_are_acknowledged(self) -> None:
        store = Deferred({"a": b"0"})
        first, second, third = Write("a", b"1"), Write("b", b"2"), Write("a", None)
        store.put_many([first, second])
        until = store.put
        store.put_many([third])
        assert store.get("a") is None
        assert (store.pending(until), store.pending()) == ((first, second), (first, second, third))
        store.written(until)
        assert (store.pending(until), store.pending()) == ((), (third,))
        store.written(until)
        assert store.pending() == (third,)
        store.written()
        assert store.pending() == ()


class TestDirectory:
    def test_only_the_user_can_read_it(self, tmp_path: Path) -> None:
        with DirectoryStore(tmp_path / "new" / "store") as store:
            store.put_many([Write("a", b"secret"), Write("b", b"secret")])
        for path in (tmp_path / "new" / "store").rglob("*"):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
        assert stat.S_IMODE((tmp_path / "new" / "store").stat().st_mode) == 0o700

    def test_another_store_waits_for_the_first_to_be_closed(self, tmp_path: Path, refused: Any) -> None:
        store = DirectoryStore(tmp_path)
        with refused(InvalidInput, "in use", hint="close"):
            DirectoryStore(tmp_path)
        store.close()
        with refused(InvalidInput, "closed"):
            store.put_many([Write("a", b"")])
        DirectoryStore(tmp_path).close()

    def test_a_place_that_cannot_be_used_is_refused(self, tmp_path: Path, refused: Any) -> None:
        (tmp_path / "file").write_bytes(b"")
        with refused(InvalidInput, "cannot be used"):
            DirectoryStore(tmp_path / "file")

    @pytest.mark.parametrize("damage", ["cut", "flip", "empty", "longer"])
    def test_a_torn_file_is_refused(self, tmp_path: Path, damage: str, refused: Any) -> None:
        with DirectoryStore(tmp_path) as store:
            store.put_many([Write("a", b"value")])
            data = (tmp_path / "a").read_bytes()
            damaged = {"cut": data[:-1], "flip": data[:-1] + b"?", "empty": b"", "longer": data + b"?"}[damage]
            (tmp_path / "a").write_bytes(damaged)
            with refused(CorruptPayload, "torn or was altered", hint="never put back"):
                store.get("a")
            os.replace(tmp_path / "a", tmp_path / ".journal")
        with refused(CorruptPayload, "torn"):
            DirectoryStore(tmp_path)
        (tmp_path / ".journal").unlink()
        DirectoryStore(tmp_path).close()  # what was refused left no lock

    def test_a_file_is_synced_before_it_takes_its_place_and_its_name_before_the_write_returns(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        told: list[str] = []
        fsync, replace = os.fsync, os.replace

        def sync(file: int) -> None:
            told.append("directory" if stat.S_ISDIR(os.fstat(file).st_mode) else "file")
            fsync(file)

        def rename(source: Any, target: Any) -> None:
            told.append(Path(target).name)
            replace(source, target)

        monkeypatch.setattr(os, "fsync", sync)
        monkeypatch.setattr(os, "replace", rename)
        with DirectoryStore(tmp_path) as store:
            store.put_many([Write("a", b"1")])
            assert told == ["file", "a", "directory"]
            told.clear()
            store.put_many([Write("a", b"2"), Write("b", b"3")])
            journal = ["file", ".journal", "directory"]
            assert told == [*journal, "file", "a", "file", "b", "directory"]

    @pytest.mark.parametrize("looks", [True, False])
    def test_a_put_that_an_error_interrupts_is_done_or_not_and_undoes_no_later_one(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looks: bool
    ) -> None:
        """The disk fails at the n-th call of fsync, replace or unlink, for every n, and works again afterwards."""
        before, many = {"a": b"1", "b": b"1"}, [Write("a", b"2"), Write("b", None), Write("c", b"2")]
        calls = {"fsync": os.fsync, "replace": os.replace}
        for step in range(40):
            left = step

            def failing(call: Any) -> Any:
                def counted(*arguments: Any) -> Any:
                    nonlocal left
                    left -= 1
                    if left == -1:
                        raise OSError(28, "No space left on device")
                    return call(*arguments)

                return counted

            with DirectoryStore(tmp_path / str(step)) as store:
                store.put_many([Write(key, value) for key, value in before.items()])
                with monkeypatch.context() as patch:
                    for name, call in calls.items():
                        patch.setattr(os, name, failing(call))
                    try:
                        store.put_many(many)
                    except InvalidInput:
                        failed = True
                    else:
                        failed = False
                if looks:
                    assert {name: store.get(name) for name in store.names("")} in (before, {"a": b"2", "c": b"2"})
                store.put_many([Write("a", b"3")])  # alone, it takes no journal: none may be left
                expected = {name: store.get(name) for name in store.names("")}
                assert expected in ({"a": b"3", "b": b"1"}, {"a": b"3", "c": b"2"})
                assert store.used_bytes == sum(path.stat().st_size for path in (tmp_path / str(step)).iterdir())
            with DirectoryStore(tmp_path / str(step)) as store:
                assert {name: store.get(name) for name in store.names("")} == expected
            if not failed:
                break
        assert step == len(["journal", "its name", "a", "c", "names"]) + len(["journal", "a", "c"])

    @pytest.mark.parametrize("writes", ["one", "many"])
    def test_a_process_killed_at_any_call_loses_nothing_earlier_and_writes_all_or_nothing(
        self, tmp_path: Path, writes: str
    ) -> None:
        """The child kills itself at its n-th call of fsync, replace or unlink, for every n until it survives."""
        code = textwrap.dedent(
            """
            import os, signal, sys
            from pathlib import Path
            from helora_core.parties.directory_store import DirectoryStore
            from helora_core.parties.store import Write

            store = DirectoryStore(sys.argv[1])
            left = int(sys.argv[3])
            def deadly(call):
                def counted(*arguments, **options):
                    global left
                    if left == 0:
                        os.kill(os.getpid(), signal.SIGKILL)
                    left -= 1
                    return call(*arguments, **options)
                return counted
            os.fsync, os.replace, Path.unlink = map(deadly, (os.fsync, os.replace, Path.unlink))
            writes = [Write("a", b"new"), Write("b", None), Write("c", b"new")]
            store.put_many(writes if sys.argv[2] == "many" else writes[:1])
            """
        )
        before = {"a": b"old", "b": b"old"}
        after = {"a": b"new", "c": b"new"} if writes == "many" else {"a": b"new", "b": b"old"}
        seen = []
        for step in range(40):
            path = tmp_path / str(step)
            with DirectoryStore(path) as store:
                store.put_many([Write(key, value) for key, value in before.items()])
            child = subprocess.run([sys.executable, "-c", code, path, writes, str(step)], check=False, timeout=60)
            with DirectoryStore(path) as store:
                found = {name: store.get(name) for name in store.names("")}
                assert not list(path.glob(".*.part"))
                assert not (path / ".journal").exists()
            assert found in (before, after)
            seen.append(found == after)
            if child.returncode == 0:
                break
        assert seen == sorted(seen)
        assert not seen[0]
        assert seen[-1]


BIG = 100_000


class TestBudget:
    @examples(15)
    @example([[("a", BIG)], [("a", BIG), ("b", 500)]], 300_000)  # the old value is there until the new one is whole
    @given(
        st.lists(
            st.lists(st.tuples(st.sampled_from("abcd"), st.none() | st.sampled_from([0, 8, 500, BIG])), max_size=4),
            max_size=12,
        ),
        st.integers(1, 500_000),
    )
    def test_files_never_take_more_and_what_is_refused_changes_nothing(
        self, puts: list[list[tuple[str, int | None]]], most_bytes: int
    ) -> None:
        """Looked at before every call of replace and unlink, the journal and unfinished files included."""
        replace, peak = os.replace, 0
        with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:

            def used() -> int:
                return sum(path.stat().st_size for path in Path(folder).iterdir())

            def looked(source: Any, target: Any) -> None:
                nonlocal peak
                peak = max(peak, used())
                replace(source, target)

            patch.setattr(os, "replace", looked)
            with DirectoryStore(folder, most_bytes=most_bytes) as store:
                for put in puts:
                    writes = [Write(key, None if size is None else bytes(size)) for key, size in put]
                    before, was, peak = {name: store.get(name) for name in store.names("")}, used(), 0
                    try:
                        store.put_many(writes)
                    except LimitExceeded:
                        assert {name: store.get(name) for name in store.names("")} == before
                        assert peak == 0
                        model = MemoryStore({name: value or b"" for name, value in before.items()})
                        model.put_many(writes)
                        values = [model.get(name) or b"" for name in model.names("")]
                        assert sum(map(len, values)) + 44 * len(values) > was, "what does not grow is never refused"
                    else:
                        assert peak <= most_bytes or used() <= was
                    assert store.used_bytes == used()
            with DirectoryStore(folder, most_bytes=1) as store:
                assert store.used_bytes == used()
                store.put_many([Write(name, None) for name in store.names("")])
                assert store.used_bytes == 0

    def test_a_full_store_still_moves_marks_and_deletes_batches(self, tmp_path: Path, refused: Any) -> None:
        most, size = 10 * BIG, 5000
        with DirectoryStore(tmp_path, most_bytes=most) as directory:
            store = AnchoredStore(SealedStore(directory, bytes(32)), StoreAnchor(MemoryStore()))
            owner, full = Ownership(store, "owner"), 0
            with refused(LimitExceeded, str(most), hint="discard"):
                while True:
                    owner.put(Write(f"batch.{full}", bytes(size)))
                    full += 1
            assert full > 150
            marks = [Mark(owner, f"mark.{batch}", 100, ahead=1) for batch in range(full)]
            for mark in marks:
                mark.cover(50)
            assert directory.used_bytes < most
            for batch, mark in enumerate(marks[:5]):
                owner.put(*mark.erasing(f"batch.{batch}"))
            owner.put(Write("batch.new", bytes(size)))


class Directory(RuleBasedStateMachine):
    """A directory does what a dictionary does, through any number of restarts."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.store = DirectoryStore(self.folder.name)
        self.model = MemoryStore()

    @rule(writes=st.lists(st.builds(Write, st.sampled_from("abc"), st.none() | st.binary(max_size=9)), max_size=4))
    def write(self, writes: list[Write]) -> None:
        self.store.put_many(writes)
        self.model.put_many(writes)

    @rule()
    def restart(self) -> None:
        self.store.close()
        self.store = DirectoryStore(self.folder.name)

    @invariant()
    def alike(self) -> None:
        names = self.model.names("")
        assert self.store.names("") == names
        assert [self.store.get(name) for name in names] == [self.model.get(name) for name in names]

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()


Directory.TestCase.settings = examples(10, stateful_step_count=10)
TestDirectoryAsADictionary = Directory.TestCase
