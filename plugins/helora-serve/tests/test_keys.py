"""Evaluation keys on disk: whole and under their own digest, or not at all; within a budget of bytes."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helora_core.errors import UnexpectedMessage
from helora_serve.auth import Identity
from helora_serve.keys import KeyStore
from helora_serve.limits import Limits
from helora_serve.refusals import Refusing

ALICE, BOB = Identity("alice"), Identity("bob")


async def _chunks(parts: Iterable[bytes]) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


def put(store: KeyStore, data: bytes, *, who: Identity = ALICE, digest: str = "", length: int = -1, **how: Any) -> str:
    digest = digest or hashlib.sha256(data).hexdigest()
    parts = how.get("parts") or [data[i : i + 7] for i in range(0, len(data), 7)]
    asyncio.run(store.put(who, digest, len(data) if length < 0 else length, how.get("most", 1 << 20), _chunks(parts)))
    return digest


def files(root: Path) -> list[str]:
    return sorted(path.name for path in root.glob("*/*"))


@pytest.fixture
def store(tmp_path: Path) -> KeyStore:
    return KeyStore(tmp_path / "keys", Limits(key_store_bytes=100, keys_ttl_s=50))


@given(data=st.binary(min_size=1, max_size=100), parts=st.integers(1, 9))
def test_what_was_put_is_read(tmp_path_factory: pytest.TempPathFactory, data: bytes, parts: int) -> None:
    store = KeyStore(tmp_path_factory.mktemp("keys"), Limits(key_store_bytes=1000))
    digest = put(store, data, parts=[data[i::1][:parts] for i in range(0, len(data), parts)])
    assert store.has(ALICE, digest)
    assert store.read(ALICE, digest) == data


@pytest.mark.parametrize(
    ("wrong", "status"),
    [
        ({"digest": "0" * 64}, None),  # other bytes than were named
        ({"length": 9}, None),  # more than announced
        ({"length": 11}, None),  # fewer
        ({"length": 2000, "most": 1000}, 413),
        ({"length": 101}, 429),  # more than the whole store
    ],
)
def test_what_is_wrong_leaves_nothing_behind(store: KeyStore, tmp_path: Path, wrong: Any, status: int | None) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - which one is looked at below
        put(store, b"0123456789", **wrong)
    assert status is None or (isinstance(caught.value, Refusing) and caught.value.status == status)
    assert files(tmp_path / "keys") == []
    assert store.used_bytes == 0


def test_an_upload_that_is_refused_by_its_length_is_not_read(store: KeyStore) -> None:
    async def never() -> AsyncIterator[bytes]:
        raise AssertionError("it was read")
        yield b""

    with pytest.raises(Refusing):
        asyncio.run(store.put(ALICE, "0" * 64, 1001, 1000, never()))


def test_an_upload_that_stands_still_ends(tmp_path: Path) -> None:
    store = KeyStore(tmp_path / "keys", Limits(stall_s=0.05))

    async def slow() -> AsyncIterator[bytes]:
        yield b"01234"
        await asyncio.Event().wait()

    with pytest.raises(Refusing) as caught:
        asyncio.run(store.put(ALICE, "0" * 64, 10, 1000, slow()))
    assert caught.value.status == 408
    assert files(tmp_path / "keys") == []


def test_keys_are_their_owners(store: KeyStore) -> None:
    digest = put(store, b"0123456789")
    assert not store.has(BOB, digest)
    with pytest.raises(UnexpectedMessage):
        store.read(BOB, digest)


def test_the_budget_is_kept_and_those_used_longest_ago_go(store: KeyStore) -> None:
    digests = [put(store, bytes([i]) * 30) for i in range(3)]
    assert store.has(ALICE, digests[0])  # used now
    put(store, b"x" * 30)
    assert [store.has(ALICE, each) for each in digests] == [True, False, True]
    assert store.used_bytes <= 100


def test_files_are_bounded_as_bytes_are(tmp_path: Path) -> None:
    budget, most = 1 << 20, 1 << 16
    store = KeyStore(tmp_path / "keys", Limits(key_store_bytes=budget))
    for number in range(3):
        put(store, number.to_bytes(8, "big"))
    assert store.used_bytes == 3 * budget // most  # and not 24
    assert KeyStore(tmp_path / "keys", Limits(key_store_bytes=budget)).used_bytes == store.used_bytes
    one = KeyStore(tmp_path / "one", Limits(key_store_bytes=budget))
    again = [put(one, b"0123456789") for _ in range(2)]
    assert (len(set(again)), one.used_bytes) == (1, budget // most)


def test_keys_outlive_the_store_and_half_uploads_do_not(tmp_path: Path) -> None:
    root = tmp_path / "keys"
    digest = put(KeyStore(root, Limits()), b"0123456789")
    (root / ALICE.place / f".{digest}.00.part").write_bytes(b"half")
    again = KeyStore(root, Limits())
    assert again.read(ALICE, digest) == b"0123456789"
    assert files(root) == [digest]


def test_damage_is_noticed_and_removed(store: KeyStore, tmp_path: Path) -> None:
    digest = put(store, b"0123456789")
    (tmp_path / "keys" / ALICE.place / digest).write_bytes(b"0123456780")
    with pytest.raises(UnexpectedMessage):
        store.read(ALICE, digest)
    assert not store.has(ALICE, digest)


def test_what_nobody_uses_goes(tmp_path: Path) -> None:
    now = [1000.0]
    store = KeyStore(tmp_path / "keys", Limits(keys_ttl_s=50), clock=lambda: now[0])
    digest = put(store, b"0123456789")
    now[0] += 49
    store.sweep()
    assert store.has(ALICE, digest)
    now[0] += 51
    store.sweep()
    assert not store.has(ALICE, digest)
    assert files(tmp_path / "keys") == []
