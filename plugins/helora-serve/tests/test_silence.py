"""Logs, metrics and state say nothing of values, keys, messages or tokens, however one looks for them."""

from __future__ import annotations

import base64
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helora_core.errors import HeloraError
from helora_core.parties.client import Client

_WINDOW = 12


def encodings(secret: bytes) -> list[bytes]:
    """How bytes may stand in a text: as they are, in hexadecimal, in base64 at each offset, escaped, as numbers."""
    found = [secret, secret.hex().encode(), repr(secret)[2:-1].encode(), str(list(secret))[1:-1].encode()]
    for offset in range(3):
        text = base64.b64encode(secret[offset:]).rstrip(b"=")[: -2 or None]
        found += [text, text.replace(b"+", b"-").replace(b"/", b"_")]
    return [each for each in found if len(each) >= 8]


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Any:
    caplog.set_level(logging.DEBUG)
    return caplog


def test_nothing_secret_is_said(serving: Any, relayed: Any, world: Any, alice: Any, tmp_path: Path, said: Any) -> None:
    tokens, token = alice
    served = serving(tokens=tokens, state=tmp_path / "state", queries=20)
    relay = relayed(served.host.port, ("KILL", False, 2, 0))
    remote = served.connect(relay.url, token=token)
    client = Client(remote.offer())
    keys = client.evaluation_keys()
    session = remote.open(keys)
    messages, answers = [], []

    class Listening:
        def answer(self, message: bytes) -> bytes:
            messages.append(message)
            answers.append(session.answer(message))
            return answers[-1]

    xs = [world.x(3, seed) for seed in range(6)]
    for x in xs:
        client.run("q", x, Listening())
    for wrong in (b"nonsense that somebody sent", messages[0][:-5], client.begin("q", world.x(9)).message()):
        with pytest.raises(HeloraError):
            session.answer(wrong)
    text = b"\n".join([record.getMessage().encode() + repr(record.args).encode() for record in said.records])
    metrics = served.service.count()
    state = b"".join(
        path.read_bytes() for path in (tmp_path / "state").rglob("*") if path.is_file() and "keys" not in path.parts
    )
    names = b"\n".join(str(path).encode() for path in (tmp_path / "state").rglob("*"))
    secrets = [token.encode(), session._token, b"nonsense that"]
    secrets += [each[at : at + _WINDOW] for each in (keys, *messages, *answers) for at in (60, 200, len(each) // 2)]
    secrets += [np.asarray(x, kind).ravel()[:2].tobytes() for x in xs for kind in (np.float64, np.float32)]
    for secret in secrets:
        for way in encodings(secret):
            for place in (text, metrics, state, names):
                assert way not in place
    for x in xs:
        for value in x.ravel()[:4]:
            for written in (repr(float(value)), f"{value:.6g}"):
                assert written.encode() not in text + metrics
    assert b"alice" not in text + metrics + names
    assert b"session" in text  # something is said
    assert served.metric("helora_requests_total", code="corrupt-payload") == 2


def test_a_search_finds_what_is_there() -> None:
    secret = b"0123456789abcdef"
    for text in (b"x" + secret, b"x" + secret.hex().encode(), b"x" + base64.b64encode(b"yy" + secret + b"zz")):
        assert any(way in text for way in encodings(secret))
