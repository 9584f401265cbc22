"""Requests are answered one at a time and in order; whoever leaves is not answered further; what fails says so."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from helora_core.errors import ConnectionLost, CorruptPayload, HeloraError, InvalidInput, LimitExceeded, PoolEmpty
from helora_serve.proxy.sse import data_of

LONG = " ".join(f"w{number}" for number in range(400))


def begun(proxy: Any, text: str, **fields: Any) -> socket.socket:
    """A connection on which this was asked."""
    body = json.dumps({"model": "words", "messages": [{"role": "user", "content": text}], **fields}).encode()
    peer = socket.create_connection(("127.0.0.1", proxy.port), timeout=120)
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    peer.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return peer


def is_gone(proxy: Any) -> bool:
    try:
        return proxy.ask("anybody?")[0] == 200 and pytest.fail("it answers")
    except OSError:
        return True


def streamed(answer: bytes) -> tuple[str, list[Any]]:
    """The text of a stream, and its documents."""
    documents = [json.loads(each) for each in data_of(answer) if each != b"[DONE]"]
    deltas = [choice["delta"] for each in documents for choice in each.get("choices", [])]
    return "".join(delta.get("content") or "" for delta in deltas), documents


def test_models_are_listed(proxy: Any) -> None:
    status, listed, _ = proxy.request("GET", "/v1/models")
    assert status == 200
    assert [each["id"] for each in listed["data"]] == ["words", "words:again"]
    for each in listed["data"]:
        assert proxy.request("GET", f"/v1/models/{each['id']}")[1] == each
    status, document, _ = proxy.request("GET", "/v1/models/others")
    assert (status, document["error"]["code"]) == (404, "model_not_found")
    status, document, _ = proxy.ask("a", model="words:others")
    assert (status, document["error"]["param"]) == (404, "model")


def test_a_stream_says_what_the_whole_answer_says(proxy: Any) -> None:
    status, whole, headers = proxy.ask("one two three")
    assert (status, whole["choices"][0]["message"]) == (200, {"role": "assistant", "content": "one two three "})
    assert (headers["x-helora-mode"], headers["x-helora-bits"]) == ("client-key", "9.5")
    status, answer, headers = proxy.ask("one two three", stream=True)
    text, documents = streamed(answer)
    assert (status, text) == (200, "one two three ")
    assert answer.endswith(b"data: [DONE]\n\n")
    assert documents[-1]["helora"] == whole["helora"]
    assert headers["content-type"] == "text/event-stream; charset=utf-8"
    assert headers["x-helora-leakage"] == "nothing"


def test_they_are_answered_in_order_and_more_than_may_wait_come_again(proxy: Any, words: Any, until: Any) -> None:
    words.go.clear()
    with ThreadPoolExecutor(8) as threads:
        answers = []
        for number in range(3):
            answers.append(threads.submit(proxy.ask, f"n{number}"))
            until(lambda number=number: len(words.asked) == 1 and proxy.answering._turns.waiting == number)
        status, document, headers = proxy.ask("n3")
        assert (status, document["error"]["type"]) == (429, "rate_limit_error")
        assert int(headers["retry-after"]) >= 1
        words.go.set()
        assert [each.result()[0] for each in answers] == [200] * 3
    assert words.said == ["n0", "n1", "n2"]
    assert proxy.ask("n4")[0] == 200


@pytest.mark.parametrize("stream", [True, False])
def test_whoever_leaves_is_not_answered_further(proxy: Any, words: Any, until: Any, stream: bool) -> None:
    words.go.clear()
    leaving = begun(proxy, LONG, stream=stream)
    until(lambda: len(words.asked) == 1)
    waiting = begun(proxy, "waiting", stream=stream)
    until(lambda: proxy.answering._turns.waiting == 1)
    waiting.close()
    until(lambda: proxy.answering._turns.waiting == 0)
    leaving.close()
    until(lambda: any(each["event"] == "cancelled" for each in proxy.noted[1:]))
    words.go.set()
    assert proxy.ask("next")[0] == 200
    assert words.said == ["w0", "next"]  # the token that was being computed, and no other
    assert [each["event"] for each in proxy.noted] == ["cancelled", "cancelled", "answered"]


def test_a_reader_that_is_slow_holds_nobody_up(proxy: Any, words: Any, until: Any) -> None:
    with begun(proxy, " ".join(["word" * 50] * 4000), stream=True):  # and reads nothing of 2 MB
        until(lambda: words.said)
        assert proxy.ask("next")[0] == 200
    assert words.said[-1] == "next"


FAILURES: list[tuple[Exception, int, str]] = [
    (ConnectionLost("The host is gone.", hint="Connect again."), 502, "connection-lost"),
    (CorruptPayload("It is no answer.", hint="Ask again."), 502, "corrupt-payload"),
    (LimitExceeded("No more queries.", hint="Ask the owner."), 429, "limit-exceeded"),
    (PoolEmpty("Nothing is prepared.", hint="Wait."), 503, "pool-empty"),
    (InvalidInput("It does not fit.", hint="Shorten it."), 400, "invalid-input"),
    (HeloraError("Something else.", hint="Look."), 500, "helora-error"),
    (RuntimeError("the words of a prompt"), 500, "internal-error"),
]


@pytest.mark.parametrize(("error", "status", "code"), FAILURES, ids=[code for _, _, code in FAILURES])
def test_what_fails_says_so_before_the_answer_and_within_it(
    proxy: Any, words: Any, error: Exception, status: int, code: str
) -> None:
    words.fail = error
    for stream in (False, True):
        found, document, _ = proxy.ask("FAIL", stream=stream)
        assert (found, document["error"]["code"]) == (status, code)
    found, answer, _ = proxy.ask("one two FAIL three", stream=True)
    text, documents = streamed(answer)
    assert (found, text) == (200, "one two ")
    assert documents[-1] == document
    assert b"[DONE]" not in answer
    assert b"words of a prompt" not in answer
    assert [each["status"] for each in proxy.noted] == [status] * 3
    assert proxy.ask("next")[0] == 200


def test_what_is_on_its_way_ends_when_it_drains_and_nothing_else_is_answered(
    serving: Callable[..., Any], words: Any, until: Any
) -> None:
    proxy = serving(words, drain_s=120)
    words.go.clear()
    with ThreadPoolExecutor(4) as threads:
        going = threads.submit(proxy.ask, "one two", stream=True)
        until(lambda: len(words.asked) == 1)
        waiting = threads.submit(proxy.ask, "three")
        until(lambda: proxy.answering._turns.waiting == 1)
        proxy.server.should_exit = True
        status, document, _ = waiting.result(120)
        assert (status, document["error"]["code"]) == (503, "shutting-down")
        words.go.set()
        assert streamed(going.result(120)[1])[0] == "one two "
    until(lambda: is_gone(proxy))
    assert words.said == ["one", "two"]


def test_an_answer_that_takes_too_long_is_cut_when_it_drains_and_says_so(
    serving: Callable[..., Any], words: Any, until: Any
) -> None:
    proxy = serving(words, drain_s=0.2)
    words.go.clear()
    with begun(proxy, LONG, stream=True) as peer:
        until(lambda: len(words.asked) == 1)
        proxy.server.should_exit = True
        until(lambda: proxy.answering._stopped)
        words.go.set()
        response = http.client.HTTPResponse(peer)
        response.begin()
        text, documents = streamed(response.read())
    assert documents[-1]["error"]["code"] == "shutting-down"
    assert len(text.split()) == len(words.said) < 400
