"""Mode hosted: three answers side by side, errors of OpenAI's shape, and the same sentence everywhere."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from helora_serve.hosted.torch_whole import TorchWhole

SAID = [{"role": "user", "content": "w7 w20 w33"}]


@pytest.fixture
def ask(serving: Any, both: Any) -> Any:
    """``ask(body)``: status, headers and document of a comparison; by a server of its own if it has options."""
    plain: list[Any] = []

    def asking(body: Any, headers: dict[str, str] | None = None, **options: Any) -> tuple[int, Any, Any]:
        if options or not plain:
            plain[:] = [serving(layers=both, hosted=TorchWhole(both), **options)]
        connection = http.client.HTTPConnection("127.0.0.1", plain[0].host.port, timeout=120)
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection.request("POST", "/v1/chat/compare", data, {"content-type": "application/json", **(headers or {})})
        response = connection.getresponse()
        text = response.read()
        connection.close()
        return response.status, response.headers, json.loads(text)

    return asking


def test_base_plaintext_and_encrypted_side_by_side(ask: Any, place: Any, both: Any) -> None:
    status, headers, found = ask({"messages": SAID, "max_tokens": 5})
    assert (status, headers["x-helora-mode"], found["mode"]) == (200, "hosted", "hosted")
    assert found["warning"] == "The server sees everything; encryption protects nothing from it."
    prompt = TorchWhole(both).tokens(SAID)
    texts = {each["variant"]: each["text"] for each in found["answers"]}
    tokens = {"base": place.greedy(prompt, 5, adapter=False), "plaintext": place.greedy(prompt, 5)}
    assert texts["base"] == both.tokenizer.decode(tokens["base"], skip_special_tokens=True)
    assert texts["plaintext"] == texts["encrypted"] == both.tokenizer.decode(tokens["plaintext"])
    assert texts["base"] != texts["plaintext"]
    first, second = found["differences"]
    assert (first["one"], first["other"], second["one"], second["other"]) == (
        "base", "plaintext", "plaintext", "encrypted",
    )  # fmt: skip
    pairs = zip(tokens["base"], tokens["plaintext"], strict=True)
    assert first["token"] == next(number for number, (a, b) in enumerate(pairs) if a != b)
    assert (second["token"], second["character"]) == (None, None)
    assert found["prompt_tokens"] == len(prompt)
    for each in found["answers"]:
        assert (each["completion_tokens"], each["finish_reason"]) == (5, "length")
        assert each["tokens_per_s"] == pytest.approx(5e3 / each["ms"])


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        (b"no json", 400, None),
        ({"messages": []}, 400, "messages"),
        ({"messages": SAID, "max_tokens": 129}, 400, "max_tokens"),
        ({"messages": SAID, "max_tokens": 0}, 400, "max_tokens"),
        ({"messages": SAID, "adapter": "other"}, 400, "adapter"),
        ({"messages": SAID, "temperature": 0.5}, 400, "temperature"),
        ({"messages": [{"role": "user", "content": "w7 " * 200}]}, 400, "messages"),
        ({"messages": [{"role": "user", "content": "x" * (300 << 10)}]}, 413, None),
    ],
)
def test_what_is_wrong_is_refused_in_openais_shape(ask: Any, body: Any, status: int, param: str | None) -> None:
    found, headers, document = ask(body)
    assert (found, headers["x-helora-mode"]) == (status, "hosted")
    assert set(document["error"]) == {"message", "type", "param", "code"}
    assert (document["error"]["type"], document["error"]["param"]) == ("invalid_request_error", param)


def test_tokens_are_asked_for_here_too(ask: Any, alice: Any) -> None:
    tokens, token = alice
    status, headers, document = ask({"messages": SAID, "max_tokens": 1}, tokens=tokens)
    assert (status, document["error"]["code"], headers["www-authenticate"]) == (401, "access-refused", "Bearer")
    status, _, _ = ask({"messages": SAID, "max_tokens": 1}, {"authorization": f"Bearer {token}"}, tokens=tokens)
    assert status == 200


def test_a_prompt_is_read_in_pieces_and_its_last_logits_alone_are_made(
    ask: Any, both: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces: list[int] = []
    rows: list[int] = []
    really = TorchWhole.next
    hook = both.model.get_output_embeddings().register_forward_hook(lambda *seen: rows.append(seen[-1].shape[1]))
    monkeypatch.setattr(
        TorchWhole, "next", lambda self, tokens, *how: pieces.append(len(tokens)) or really(self, tokens, *how)
    )
    try:
        _, _, whole = ask({"messages": SAID, "max_tokens": 3})
        assert max(pieces) > 2
        pieces.clear()
        _, _, found = ask({"messages": SAID, "max_tokens": 3}, split_tokens=2)
    finally:
        hook.remove()
    assert max(pieces) == 2
    assert set(rows) == {1}
    assert [each["text"] for each in found["answers"]] == [each["text"] for each in whole["answers"]]


def test_a_stop_finishes_the_comparison_in_hand_and_takes_no_other(
    serving: Any, both: Any, until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, begun, really = threading.Event(), threading.Event(), TorchWhole.next
    monkeypatch.setattr(TorchWhole, "next", lambda *given: (begun.set(), held.wait(60), really(*given))[-1])
    served = serving(layers=both, hosted=TorchWhole(both))

    def compared() -> int:
        connection = http.client.HTTPConnection("127.0.0.1", served.host.port, timeout=120)
        body = json.dumps({"messages": SAID, "max_tokens": 2})
        connection.request("POST", "/v1/chat/compare", body, {"content-type": "application/json"})
        status = connection.getresponse().status
        connection.close()
        return status

    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(compared)
        until(begun.is_set)
        stopping = asyncio.run_coroutine_threadsafe(served.service.drain(), served.host._loop)
        until(lambda: served.service.draining)
        assert compared() == 429
        assert not stopping.done()
        held.set()
        assert first.result() == 200
        stopping.result(60)
