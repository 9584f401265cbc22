"""Sealed stores: what lies beneath tells nothing but names and sizes, and nothing else is taken for it."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helora_core.backend.passphrase import KEY_BYTES
from helora_core.errors import CapabilityMissing, CorruptPayload, InvalidInput, NotDurable
from helora_core.parties import sealed_store
from helora_core.parties.anchored_store import void
from helora_core.parties.sealed_store import SealedStore
from helora_core.parties.store import Deferred, MemoryStore, Ticket, Write

pytest.importorskip("cryptography")
KEY, OTHER = bytes(KEY_BYTES), bytes(range(KEY_BYTES))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed_store, "SCRYPT_LOG_N", 14)


def contents(store: MemoryStore) -> dict[str, bytes]:
    return {name: store.get(name) or b"" for name in store.names("")}


def test_values_are_unreadable_and_never_sealed_alike_and_names_stay() -> None:
    disk = MemoryStore()
    store = SealedStore(disk, KEY)
    seen = set()
    for _ in range(50):
        store.put_many([Write("mark.1", b"the same secret"), Write("mark.2", b"the same secret")])
        seen |= {disk.get("mark.1"), disk.get("mark.2")}
    assert len(seen) == 100
    assert len({value[:12] for value in seen if value}) == 100, "nonces are fresh"
    assert all(value and b"secret" not in value for value in seen)
    assert disk.names("") == ["mark.1", "mark.2", "sealed"]
    assert SealedStore(disk, KEY).get("mark.1") == b"the same secret"


@given(st.data())
def test_changed_values_and_values_of_other_keys_do_not_open(data: st.DataObject) -> None:
    disk = MemoryStore()
    SealedStore(disk, KEY).put_many([Write("a", b"one"), Write("b", b"two")])
    kept = disk.get("a") or b""
    place = data.draw(st.integers(0, len(kept)))
    changed = data.draw(
        st.sampled_from([disk.get("b"), b"", kept[:place], kept[:place] + b"?" + kept[place:]])
        | st.builds(lambda flip: bytes([*kept[:-1], kept[-1] ^ flip]), st.integers(1, 255))
        | st.binary(max_size=60)
    )
    if changed == kept:
        return
    disk.put_many([Write("a", changed)])
    with pytest.raises(CorruptPayload, match="does not open"):
        SealedStore(disk, KEY).get("a")
    assert SealedStore(disk, KEY).get("b") == b"two"


def test_a_wrong_key_is_refused_before_anything_is_read_or_written(refused: Any) -> None:
    disk = MemoryStore()
    SealedStore(disk, KEY).put_many([Write("a", b"")])
    before = contents(disk)
    for again in (lambda: SealedStore(disk, OTHER), lambda: SealedStore.with_passphrase(disk, "something")):
        with refused(InvalidInput, "not the key", hint="Without it"):
            again()
    with refused(InvalidInput, "31 bytes", hint="with_passphrase"):
        SealedStore(disk, KEY[1:])
    assert contents(disk) == before


def test_a_passphrase_opens_what_it_sealed_however_it_is_typed(refused: Any) -> None:
    disk, other = MemoryStore(), MemoryStore()
    SealedStore.with_passphrase(disk, "caf\u00e9").put_many([Write("a", b"one")])
    assert SealedStore.with_passphrase(disk, "cafe\u0301").get("a") == b"one"
    SealedStore.with_passphrase(other, "caf\u00e9")
    assert disk.get("sealed") != other.get("sealed"), "salts are fresh"
    for wrong, word in (("cafe", "not the key"), ("", "empty")):
        with refused(InvalidInput, word):
            SealedStore.with_passphrase(disk, wrong)


@given(st.binary(max_size=80) | st.integers(0, 80))
def test_a_damaged_header_is_refused_by_name(damage: bytes | int) -> None:
    disk = MemoryStore()
    SealedStore(disk, KEY)
    kept = disk.get("sealed") or b""
    header = damage if isinstance(damage, bytes) else kept[:damage] + b"?" + kept[damage:]
    disk.put_many([Write("sealed", header)])
    with pytest.raises((CorruptPayload, InvalidInput)):
        SealedStore(disk, KEY)


def test_what_is_not_sealed_is_not_adopted_and_its_own_key_is_taken(refused: Any) -> None:
    disk = MemoryStore({"a": b"plain"})
    with refused(InvalidInput, "1 values", hint="empty"):
        SealedStore(disk, KEY)
    store = SealedStore(MemoryStore(), KEY)
    with refused(InvalidInput, "its own"):
        store.put_many([Write("sealed", b"")])
    assert store.get("sealed") is None


def test_a_store_that_is_void_can_be_used_with_the_same_key() -> None:
    disk = MemoryStore()
    store = SealedStore(disk, KEY)
    store.put_many([Write("a", b"one")])
    disk.put_many([Write("a", b"damaged")])
    void(store)
    assert disk.names("") == ["sealed"]
    SealedStore(disk, KEY).put_many([Write("a", b"two")])


def test_writes_that_a_deferred_store_gives_out_are_sealed_and_waited_for(refused: Any) -> None:
    deferred = Deferred()
    store = SealedStore(deferred, KEY)
    store.put_many([Write("mark", b"secret")])
    ticket = Ticket(store)
    with refused(NotDurable, "2 writes"):
        ticket.require("Client")
    header, mark = ticket.durable
    assert (header.key, mark.key) == ("sealed", "mark")
    assert mark.value is not None
    assert b"secret" not in mark.value
    ticket.written()
    ticket.require("Client")
    again = SealedStore(Deferred({key: value for key, value in (header, mark) if value is not None}), KEY)
    assert again.get("mark") == b"secret"


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, refused: Any) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "cryptography"]:
        monkeypatch.setitem(sys.modules, name, None)
    with refused(CapabilityMissing, "cryptography", hint="[keys]"):
        SealedStore(MemoryStore(), KEY)
