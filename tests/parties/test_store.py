"""Stores: what is written is there after a crash, whole, and nothing of what was not."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from helora_core.errors import CorruptPayload, InvalidInput
from helora_core.parties.store import Deferred, DirectoryStore, MemoryStore, Store, Write
from tests.conftest import examples


@pytest.fixture(params=["memory", "directory", "deferred"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """One of each kind."""
    if request.param == "directory":
        with DirectoryStore(tmp_path / "store") as opened:
            yield opened
    else:
        yield MemoryStore() if request.param == "memory" else Deferred()


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

    @pytest.mark.parametrize("writes", ["one", "many"])
    def test_a_process_killed_at_any_call_loses_nothing_earlier_and_writes_all_or_nothing(
        self, tmp_path: Path, writes: str
    ) -> None:
        """The child kills itself at its n-th call of fsync, replace or unlink, for every n until it survives."""
        code = textwrap.dedent(
            """
            import os, signal, sys
            from pathlib import Path
            from helora_core.parties.store import DirectoryStore, Write

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


class Directory(RuleBasedStateMachine):
    """A directory does what a dictionary does, through any number of restarts."""

    def __init__(self) -> None:
        super().__init__()
        import tempfile

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
