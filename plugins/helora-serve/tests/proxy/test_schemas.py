"""A request is honoured to the letter, or refused by the name of the field that is not."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies

from helora_serve.proxy.asked import Asked
from helora_serve.proxy.failures import Failure
from helora_serve.proxy.schemas import ChatRequest, CompletionRequest, read

ASK: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}


def chat(**fields: Any) -> Asked:
    return read(json.dumps({**ASK, **fields}).encode(), ChatRequest).asked()


def refusal(**fields: Any) -> Failure:
    with pytest.raises(Failure) as caught:
        chat(**fields)
    assert caught.value.status == 400
    return caught.value


def test_what_is_given_is_what_is_asked() -> None:
    asked = chat(
        messages=[
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "H"}, {"type": "text", "text": "i"}], "name": None},
            {"role": "assistant", "content": "Yes?", "refusal": None, "tool_calls": None, "audio": None},
            {"role": "user", "content": "é✓\U0001f600"},
        ],
        max_completion_tokens=7, temperature=1, top_p=0.5, seed=-3, stop="X", stream=True,
        stream_options={"include_usage": True, "include_obfuscation": None},
    )  # fmt: skip
    assert [(each["role"], each["content"]) for each in asked.messages] == [
        ("system", "Be brief."), ("user", "Hi"), ("assistant", "Yes?"), ("user", "é✓\U0001f600"),
    ]  # fmt: skip
    assert (asked.max_tokens, asked.temperature, asked.top_p, asked.seed, asked.stop) == (7, 1.0, 0.5, -3, ("X",))
    assert chat(max_tokens=7, max_completion_tokens=7).max_tokens == 7
    assert chat().temperature is None
    prompt = read(b'{"model": "m", "prompt": "Once", "best_of": 1}', CompletionRequest).asked()
    assert (prompt.prompt, prompt.messages) == ("Once", ())


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 1}, {"n": None}, {"logprobs": False}, {"tools": []}, {"tool_choice": "none"}, {"store": False},
        {"frequency_penalty": 0}, {"presence_penalty": 0.0}, {"response_format": {"type": "text"}}, {"anything": None},
    ],
)  # fmt: skip
def test_what_asks_for_nothing_is_taken(fields: dict[str, Any]) -> None:
    assert chat(**fields) == chat()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n", 2), ("n", True), ("tools", [{"type": "function"}]), ("tool_choice", "auto"), ("logprobs", True),
        ("top_logprobs", 2), ("response_format", {"type": "json_object"}), ("frequency_penalty", 0.1),
        ("presence_penalty", -1), ("logit_bias", {"50256": -100}), ("user", "me"), ("metadata", {}), ("store", True),
        ("functions", [{}]), ("modalities", ["text", "audio"]), ("audio", {}), ("prediction", {}), ("top_k", 5),
        ("reasoning_effort", "low"), ("service_tier", "auto"), ("parallel_tool_calls", True), ("temprature", 0.1),
    ],
)  # fmt: skip
def test_what_is_not_supported_is_refused_by_name(name: str, value: Any) -> None:
    failure = refusal(**{name: value})
    assert (failure.param, failure.code, failure.type) == (name, "unsupported_parameter", "invalid_request_error")
    assert f"`{name}`" in failure.message


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "assistant", "content": None}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": "x", "name": "me"}]}, "messages[0].name"),
        ({"messages": [{"role": "assistant", "content": "x", "tool_calls": []}]}, "messages[0].tool_calls"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, "messages"),
        ({"messages": "Hi"}, "messages"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": "1"}, "temperature"),
        ({"top_p": -0.1}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_tokens": 1, "max_completion_tokens": 2}, "max_completion_tokens"),
        ({"seed": 1 << 63}, "seed"),
        ({"stop": ""}, "stop"),
        ({"stop": ["a", ""]}, "stop"),
        ({"stop": list("abcde")}, "stop"),
        ({"stream": 1}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": {"include_obfuscation": True}}, "stream_options.include_obfuscation"),
        ({"model": None}, "model"),
    ],
)  # fmt: skip
def test_what_is_not_as_it_should_be_is_refused_by_its_place(fields: dict[str, Any], param: str) -> None:
    assert (refusal(**fields).param or "").startswith(param)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b"nonsense", b'{"model": "m", "model": "n"}', b"\xff\xfe", b'{"model": "\\ud800"}',
        b'{"temperature": NaN}', b'{"model": "m"} {}', b"[" * 100_000, b'{"a":' * 100_000, b'{"model": "\xc3"}',
    ],
)  # fmt: skip
def test_what_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(Failure) as caught:
        read(body, ChatRequest)
    assert (caught.value.status, caught.value.code) == (400, "invalid_json")


json_values = strategies.recursive(
    strategies.none() | strategies.booleans() | strategies.integers() | strategies.floats() | strategies.text(),
    lambda inner: strategies.lists(inner, max_size=3) | strategies.dictionaries(strategies.text(), inner, max_size=3),
    max_leaves=8,
)
fields_of_chat = strategies.sampled_from(["model", "messages", "n", "stop", "seed", "stream", "tools", "max_tokens"])


@hypothesis.given(strategies.dictionaries(fields_of_chat | strategies.text(), json_values))
def test_whatever_comes_is_read_or_refused(document: dict[str, Any]) -> None:
    with suppress(Failure):
        assert chat(**document).model
