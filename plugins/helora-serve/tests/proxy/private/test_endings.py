"""Answers end when nobody reads them, or with what failed; never with tokens of another model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest

import helora_core as helora
from helora_transformers.link.host import Host
from helora_transformers.link.relay import Relay
from helora_transformers.tiny import adapted


def test_whoever_leaves_is_not_answered_further_than_one_token(asking: Any, hosting: Any, until: Any) -> None:
    with Relay(hosting().address, delay_ms=25) as slow:  # two round trips a token: 100 ms
        asked = asking(slow)
        alone = asked.text("w9")
        before = asked.attachment.private.report().tokens
        chunks = asked.client.chat.completions.create(**asked.fields("w7", stream=True, max_tokens=100))
        seen = [next(chunks) for _ in range(4)]
        chunks.close()
        until(lambda: asked.proxy.noted[-1]["event"] == "cancelled")  # the proxy knows of it, as soon as it may be
        ran = asked.attachment.private.report().tokens - before
        assert ran < 100
        assert asked.text("w9") == alone
        extra = asked.attachment.private.report().tokens - before - ran
        assert extra <= 4 + 5 + 2  # the next answer's, the token on its way, and one that began meanwhile
        assert seen[-1].choices[0].delta.content
        with pytest.raises(openai.APITimeoutError):  # not streamed, by somebody who waits for a second
            asked.client.with_options(timeout=1).chat.completions.create(**asked.fields("w8", max_tokens=100))
        until(lambda: [each["event"] for each in asked.proxy.noted].count("cancelled") == 2)
        assert asked.text("w9") == alone


def test_a_host_that_is_gone_ends_the_answer_and_no_other_model_goes_on(asking: Any, hosting: Any) -> None:
    host = hosting()
    asked = asking(host.address)
    alone, base = asked.text("w7"), asked.text("w7", model="base")
    chunks = iter(asked.client.chat.completions.create(**asked.fields("w7", stream=True, max_tokens=100)))
    next(chunks)
    host.stop()
    with pytest.raises(openai.APIError) as broken:
        list(chunks)
    assert broken.value.code == "connection-lost"
    for stream in (False, True):
        with pytest.raises(openai.APIStatusError) as refused:
            asked.client.chat.completions.create(**asked.fields("w7", stream=stream))
        assert (refused.value.status_code, refused.value.code) == (502, "connection-lost")
    assert asked.text("w7", model="base") == base  # to whoever asks for it
    hosting(address=host.address)
    assert asked.text("w7") == alone
    assert asked.text("w7") == alone


def test_a_host_that_was_gone_when_another_adapter_was_asked_for_comes_back(asking: Any, hosting: Any) -> None:
    host = hosting("one", "two")
    asked = asking(host.address)
    alone = asked.text("w7", model="base:one")
    host.stop()
    for model in ("base:two", "base:one"):
        with pytest.raises(openai.APIStatusError) as refused:
            asked.text("w7", model=model)
        assert refused.value.code == "connection-lost"
    hosting("one", "two", address=host.address)
    assert [asked.text("w7", model=model) for model in ("base:two", "base:one")] == [alone, alone]


def test_another_offer_at_the_same_address_is_not_taken_for_the_first(
    asking: Callable[..., Any], hosting: Any, tmp_path: Path
) -> None:
    host = hosting()
    asked = asking(host.address)
    asked.text("w7")
    host.stop()
    with pytest.raises(openai.APIStatusError):
        asked.text("w7")
    adapted("llama", tmp_path, targets=["q_proj"])
    other = helora.Server(helora.compile(tmp_path, backend="rns", packing="rank_bsgs"))
    with Host(other, host.address), pytest.raises(openai.APIStatusError) as refused:
        asked.text("w7")
    assert refused.value.status_code == 502
    assert "offers something else" in refused.value.message


@pytest.mark.parametrize("stream", [False, True])
def test_a_module_without_its_delta_ends_the_answer(asking: Any, hosting: Any, place: Any, stream: bool) -> None:
    model, tokenizer = place.loaded()
    asked = asking(hosting().address, loaded=(model, tokenizer))
    model.model.layers[0].self_attn.q_proj._forward_hooks.clear()
    with pytest.raises(openai.InternalServerError) as refused:
        asked.client.with_options(max_retries=2).chat.completions.create(**asked.fields("w7", stream=stream))
    assert refused.value.code == "delta-missing"
    assert len(asked.proxy.noted) == 1  # not tried again: each try is encrypted
