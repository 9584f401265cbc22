"""New versions are offered while old ones are served until their sessions end; a stop finishes what is in hand."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from helora_core.errors import ArtifactInvalid, ConnectionLost
from helora_core.parties.client import Client
from helora_core.parties.session import Session


def replace(world: Any, folder: Path, number: int) -> None:
    """Another version of an artifact, in its place."""
    world.lora().save(folder.with_name(f"new{number}"))
    folder.rename(folder.with_name(f"old{number}"))
    folder.with_name(f"new{number}").rename(folder)


def test_open_sessions_end_with_what_they_began_with(
    serving: Any, world: Any, other: Any, tmp_path: Path, until: Any
) -> None:
    folder, x = tmp_path / "served", world.x(2)
    world.lora().save(folder)
    served = serving({"": folder})
    client, old = served.session()
    assert world.right(client.run("q", x, old), x)
    first = served.service.catalogue.current.name
    replace(other, folder, 1)
    assert served.host.reload()
    assert served.service.catalogue.current.name != first
    assert len(served.service.catalogue.versions) == 2
    assert world.right(client.run("q", x, old), x)
    newer, session = served.session()
    assert other.right(newer.run("q", x, session), x)
    old.close()
    until(lambda: len(served.service.catalogue.versions) == 1)
    assert other.right(newer.run("q", x, session), x)


def test_a_second_session_may_join_the_first_ones_version(serving: Any, world: Any, other: Any, tmp_path: Path) -> None:
    folder = tmp_path / "served"
    world.lora().save(folder)
    served = serving({"": folder})
    remote = served.connect()
    client = Client(remote.offer())
    first = remote.open(client.evaluation_keys())
    replace(other, folder, 1)
    served.host.reload()
    second = remote.open(client.evaluation_keys())
    for session in (first, second):
        assert world.right(client.run("q", world.x(1), session), world.x(1))


def test_what_cannot_be_loaded_changes_nothing(serving: Any, world: Any, tmp_path: Path) -> None:
    folder = tmp_path / "served"
    world.lora().save(folder)
    served = serving({"": folder})
    manifest = (folder / "manifest.json").read_bytes()
    (folder / "manifest.json").unlink()
    (folder / "manifest.json").write_bytes(manifest[:-20])
    with pytest.raises(ArtifactInvalid):
        served.host.reload()
    client, session = served.session()
    assert world.right(client.run("q", world.x(1), session), world.x(1))


def test_a_stop_finishes_what_is_in_hand(serving: Any, world: Any, monkeypatch: pytest.MonkeyPatch, until: Any) -> None:
    served = serving()
    client, session = served.session(restart=0.5)
    begun, stopping, answer = threading.Event(), threading.Event(), Session.answer

    def slow(self: Session, message: bytes) -> bytes:
        begun.set()
        assert stopping.wait(120)
        return answer(self, message)

    monkeypatch.setattr(Session, "answer", slow)
    with ThreadPoolExecutor(1) as thread:
        asking = thread.submit(client.run, "q", world.x(1), session)
        assert begun.wait(120)
        served.host.stop()
        until(lambda: served.service.sessions.draining)
        stopping.set()
        assert world.right(asking.result(120), world.x(1))
    served.host._thread.join(120)
    assert not served.host._thread.is_alive()
    with pytest.raises(ConnectionLost):
        client.delta("q", world.x(1), session)
