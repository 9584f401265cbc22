"""What goes wrong in the server's own stores is in its log; clients hear that something did, and of no path."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from helora_core.errors import HeloraError, LimitExceeded
from helora_core.parties.directory_store import DirectoryStore
from helora_core.parties.store import Write
from helora_serve.refusals import refusal_of
from helora_serve.stores import OwnStore


def test_errors_lose_their_particulars(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    inner = DirectoryStore(tmp_path / "private-name", most_bytes=4096)
    store = OwnStore(inner)
    store.put_many([Write("a", b"value")])
    assert (store.get("a"), list(store.names(""))) == (b"value", ["a"])
    for kind, size in ((LimitExceeded, 8192), (HeloraError, 1)):
        with caplog.at_level(logging.ERROR, "helora.serve"), pytest.raises(HeloraError) as caught:
            store.put_many([Write("b", bytes(size))])
        assert type(caught.value) is kind
        told = refusal_of(caught.value)
        assert "private-name" not in f"{told.message} {told.hint} {caught.value}"
        assert "DirectoryStore" in caplog.text
        caplog.clear()
        inner.close()  # what is written to it next is refused as the disk would refuse it
