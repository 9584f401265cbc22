"""What must be durable before a message leaves, and what a party that starts again goes on with."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helora_core.backend import key_export
from helora_core.errors import CorrelationUsed, NotDurable, RolledBack
from helora_core.parties.anchored_store import AnchoredStore, StoreAnchor, void
from helora_core.parties.client import Client
from helora_core.parties.directory_store import DirectoryStore
from helora_core.parties.sealed_store import SealedStore
from helora_core.parties.store import Deferred, MemoryStore, Write
from tests.parties.ahead import integer_delta
from tests.parties.pair import BACKEND, MODULES, Pair, client_of, server_of, upload_of, x_of


class TestDurable:
    """``Deferred`` stores: nothing leaves before it is acknowledged."""

    def test_a_request_waits_for_its_own_writes_and_all_before(self, refused: Any) -> None:
        server, store = server_of(), Deferred()
        client = client_of(server, store=store)
        pair = Pair(server, client, server.open(client.evaluation_keys()))
        pair.prepare("q", 200)
        first = client.begin("q", x_of(1))
        second = client.begin("q", x_of(1))  # of the chunk that the first one reserves
        third = client.begin("q", x_of(100))  # reserves another
        for request in (first, second, third):
            with refused(NotDurable, "have to be durable", hint="written()"):
                request.message()
        assert first.durable == second.durable == third.durable[:-1]
        first.written()
        first.message()
        second.message()
        with refused(NotDurable, "1 writes"):
            third.message()
        assert [write.key.split(".")[0] for write in third.durable] == ["mark"]
        third.written()
        third.receive(pair.session.answer(third.message()))

    def test_a_server_waits_as_well_and_then_answers(self, refused: Any) -> None:
        pair = Pair.of(store=Deferred())
        preparation = pair.client.prepare("q", 200)
        preparation.receive(pair.session.answer(preparation.message()))  # the nonce: nothing is kept yet
        for begin in (lambda: preparation, lambda: preparation, lambda: pair.client.begin("q", x_of(2))):
            request: Any = begin()  # the ciphertexts, of which queries are counted; the results; a use of them
            for _ in range(2):
                with refused(NotDurable, hint="written()"):
                    pair.session.answer(request.message())
            assert pair.session.durable
            pair.session.written()
            request.receive(pair.session.answer(request.message()))
        further = pair.client.begin("q", x_of(2))
        further.receive(pair.session.answer(further.message()))  # of the chunk that is reserved already

    def test_what_was_not_shown_is_not_acknowledged(self, refused: Any) -> None:
        """Another session's write may come between the two calls, and has another database to wait for."""
        store = Deferred()
        pair = Pair.of(store=store)
        preparation = pair.client.prepare("q", 2)
        preparation.receive(pair.session.answer(preparation.message()))
        with refused(NotDurable):
            pair.session.answer(preparation.message())
        assert pair.session.durable
        other = Write("other", b"value")
        store.put_many([other])
        pair.session.written()
        assert store.pending() == (other,)

    def test_a_batch_is_never_kept_without_its_mark(self) -> None:
        """Of each party's writes, as many as one likes survive a crash: the batch is gone, or marked, or unused."""
        stores = {"pool": Deferred(), "batch": Deferred()}
        server = server_of(store=stores["batch"])
        client = client_of(server, store=stores["pool"])
        pair = Pair(server, client, server.open(client.evaluation_keys()))

        def answered(exchange: Any) -> None:
            message = exchange._message  # nothing is acknowledged: all writes of the test stay pending
            with suppress(NotDurable):
                pair.session.answer(message)
            kept = [*pair.session._held.values(), *pair.session._answers._kept.values()]
            exchange.receive(kept[-1].answer)

        preparation = client.prepare("q", 3)
        while not preparation.done:
            answered(preparation)
        unused = {kind: len(store.pending()) for kind, store in stores.items()}
        for _ in range(3):
            answered(client.begin("q", x_of(1)))
        marks = {"pool": "mark", "batch": "used"}
        for kind, store in stores.items():
            writes = store.pending()
            assert [write.key.split(".")[0] for write in writes[unused[kind] :]] == [marks[kind], kind, marks[kind]]
            for count in range(unused[kind] + 1, len(writes) + 1):
                survived = MemoryStore()
                survived.put_many(writes[:count])
                assert not survived.names(f"{kind}.") or survived.names(f"{marks[kind]}.")

    def test_who_opens_a_store_later_puts_the_earlier_one_out(self, refused: Any) -> None:
        server, store = server_of(), MemoryStore()
        client = client_of(server, store=store)
        pair = Pair(server, client, server.open(client.evaluation_keys()))
        pair.prepare("q", 200)
        client.begin("q", x_of(1))
        later = client_of(server, store=store)
        later.__dict__["_keys"] = client._keys
        assert later.pools["q",].left == 200 - 64
        for each, start in ((client, 1), (later, 64)):
            (span,) = upload_of(each.begin("q", x_of(63)).message()).spans
            assert (span.start, span.count) == (start, 63)
        with refused(NotDurable, "Another party"):
            client.begin("q", x_of(1))


def test_of_two_servers_with_one_store_none_answers_what_the_other_may_have(refused: Any) -> None:
    store = MemoryStore()
    first = Pair.of(store=store)
    first.prepare("q", 200)
    message = first.client.begin("q", x_of(2)).message()
    first.session.answer(message)
    second = server_of(store=store).open(first.client.evaluation_keys())
    with refused(CorrelationUsed):
        second.answer(message)
    reserved = [first.client.begin("q", x_of(1)) for _ in range(62)]
    with refused(CorrelationUsed):  # up to 64 belong to the first one
        second.answer(reserved[0].message())
    reserved[0].receive(first.session.answer(reserved[0].message()))
    after = [first.client.begin("q", x_of(1)) for _ in range(4)]
    with refused(NotDurable, "Another party"):
        first.session.answer(after[-1].message())
    after[-2].receive(second.answer(after[-2].message()))


def test_a_server_from_a_backup_is_refused_and_void_and_its_clients_prepare_again(refused: Any) -> None:
    disk, anchor = MemoryStore(), StoreAnchor(MemoryStore())

    def anchored(disk: MemoryStore) -> AnchoredStore:
        return AnchoredStore(SealedStore(disk, bytes(32)), anchor)

    pair = Pair.of(store=anchored(disk))
    pair.prepare("q", 200)
    backup = MemoryStore({name: disk.get(name) or b"" for name in disk.names("")})
    pair.delta("q", x_of(2))
    with refused(RolledBack, "its anchor stands at", hint="void"):
        server_of(store=anchored(backup))
    void(SealedStore(backup, bytes(32)), anchor)
    server = server_of(store=anchored(backup))
    pair = Pair(server, pair.client, server.open(pair.client.evaluation_keys()))
    with refused(CorrelationUsed, hint="client.discard"):
        pair.delta("q", x_of(2))
    pair.client.discard("q")
    pair.prepare("q", 200)
    np.testing.assert_array_equal(pair.delta("q", x_of(2)), integer_delta(MODULES["q"], x_of(2)))


def test_a_client_from_a_backup_would_use_pads_twice_and_is_refused_with_an_anchor(refused: Any) -> None:
    """Against a server that lies about what was used: it answers anything, and reads x − x′ off two messages."""
    server, anchor = server_of(), StoreAnchor(MemoryStore())
    for anchored in (False, True):
        disk = MemoryStore()

        def opened(disk: MemoryStore, anchored: bool = anchored) -> Any:
            return AnchoredStore(disk, anchor) if anchored else disk

        client = client_of(server, store=opened(disk))
        pair = Pair(server, client, server.open(client.evaluation_keys()))
        pair.prepare("q", 100)
        backup = MemoryStore({name: disk.get(name) or b"" for name in disk.names("")})
        first = upload_of(client.begin("q", x_of(1, 1)).message())
        if anchored:
            with refused(RolledBack, hint="pools are dropped"):
                opened(backup)
            continue
        restored = client_of(server, store=opened(backup))
        restored.__dict__["_keys"] = client._keys
        second = upload_of(restored.begin("q", x_of(1, 2)).message())
        assert first.spans == second.spans
        y, other = (np.frombuffer(each.numbers, dtype=np.int64) for each in (first, second))
        assert np.abs(y - other).max() < 1 << 24, "no pad is left in the difference: it is x − x′ on the grid"


def test_a_client_goes_on_after_a_restart_with_its_keys_and_its_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_export, "SCRYPT_LOG_N", 14)
    server = server_of(store=MemoryStore())
    with DirectoryStore(tmp_path) as store:
        client = client_of(server, store=store)
        pair = Pair(server, client, server.open(client.evaluation_keys()))
        pair.prepare("q", 100)
        pair.delta("q", x_of(2))
        exported = client.export_keys("a passphrase")
    with DirectoryStore(tmp_path) as store:
        options = {"backend": BACKEND, "store": store}
        restored = Client.restore(server.offer(), exported, "a passphrase", **options)
        assert restored.pools["q",].left == 100 - 2 - 63
        x = x_of(35, 1)
        np.testing.assert_array_equal(restored.delta("q", x, pair.session), integer_delta(MODULES["q"], x))
        assert [name.split(".")[0] for name in store.names("")] == ["owner"], "a batch that is used up is deleted"
