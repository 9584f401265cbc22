"""Mode hosted by OpenAI's own client: tokens are those of PEFT, drawing is repeatable, and everything says its mode."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import click.testing
import openai
import pytest

from helora_core.cli.main import main
from helora_serve.hosted.torch_whole import TorchWhole
from helora_serve.mode import HOSTED_WARNING

SAID: Any = [{"role": "user", "content": "w7 w20 w33"}]
VARIANTS = ["base", "base:default", "base:default:encrypted"]


@pytest.fixture
def asking(serving: Any, both: Any) -> Iterator[Callable[..., tuple[Any, openai.OpenAI]]]:
    """``asking(…)``: a server with these options, and OpenAI's client of it."""
    with ExitStack() as stack:

        def start(key: str = "none", **options: Any) -> tuple[Any, openai.OpenAI]:
            served = serving(layers=both, hosted=TorchWhole(both), **options)
            client = openai.OpenAI(base_url=f"{served.host.url}/v1", api_key=key, max_retries=0, timeout=60)
            return served, stack.enter_context(client)

        yield start


def asked(client: openai.OpenAI, **fields: Any) -> Any:
    return client.chat.completions.create(**{"model": VARIANTS[1], "messages": SAID, "max_tokens": 5, **fields})


def test_whole_and_streamed_the_tokens_are_those_of_the_model_that_was_asked(
    asking: Any, place: Any, both: Any
) -> None:
    served, client = asking()
    prompt = TorchWhole(both).tokens(SAID)
    assert [each.id for each in client.models.list()][:3] == VARIANTS
    for name in VARIANTS:
        right = both.tokenizer.decode(place.greedy(prompt, 5, adapter=name != "base"), skip_special_tokens=True)
        raw = client.chat.completions.with_raw_response.create(model=name, messages=SAID, max_tokens=5)
        whole: Any = raw.parse()
        assert (whole.choices[0].message.content, whole.choices[0].finish_reason) == (right, "length")
        assert (raw.headers["x-helora-mode"], raw.headers["x-helora-warning"]) == ("hosted", HOSTED_WARNING)
        assert whole.helora == {"mode": "hosted", "warning": HOSTED_WARNING}
        assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (len(prompt), 5)
        chunks = list(asked(client, model=name, stream=True))
        assert "".join(each.choices[0].delta.content or "" for each in chunks) == right
        assert chunks[-1].helora == whole.helora
    assert served.metric("helora_hosted_requests_total", code="") == 6
    assert served.metric("helora_hosted_tokens_total", kind="completion") == 30
    assert served.metric("helora_hosted_tokens_total", kind="prompt") == 6 * len(prompt)


def test_what_is_drawn_depends_on_the_seed_alone_and_a_stop_text_is_not_said(asking: Any) -> None:
    _, client = asking()
    texts = [
        asked(client, temperature=1.5, seed=seed, max_tokens=12).choices[0].message.content for seed in (1, 1, 2, 3)
    ]
    assert texts[0] == texts[1]
    assert len(set(texts)) > 1
    greedy = asked(client, max_tokens=12).choices[0].message.content
    assert asked(client, temperature=1.5, top_p=0, max_tokens=12).choices[0].message.content == greedy
    stop = greedy.split()[2]
    cut = asked(client, stop=[stop], max_tokens=12).choices[0]
    assert (cut.message.content, cut.finish_reason) == (greedy[: greedy.index(stop)], "stop")


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"model": "other"}, 404, "model_not_found"),
        ({"max_tokens": 1025}, 400, "limit-exceeded"),
        ({"max_tokens": 1000}, 400, "context_length_exceeded"),
        ({"user": "w7"}, 400, "unsupported_parameter"),
    ],
)
def test_what_is_wrong_is_refused_in_openais_shape(asking: Any, fields: Any, status: int, code: str) -> None:
    served, client = asking()
    with pytest.raises(openai.APIStatusError) as refused:
        asked(client, **fields)
    assert (refused.value.status_code, refused.value.code) == (status, code)
    assert refused.value.response.headers["x-helora-mode"] == "hosted"
    assert served.metric("helora_http_refusals_total", code=code) == 1


def test_a_client_has_its_token_and_as_many_tokens_as_the_owner_allows(asking: Any, both: Any, alice: Any) -> None:
    tokens, token = alice
    given = len(TorchWhole(both).tokens(SAID))
    served, client = asking(token, tokens=tokens, queries=given + 6)
    with pytest.raises(openai.AuthenticationError):
        asked(client.with_options(api_key="none"))
    assert len(asked(client, max_tokens=5).choices[0].message.content.split()) == 5  # the last one is not run
    for stream in (False, True):
        with pytest.raises(openai.RateLimitError) as refused:
            asked(client, stream=stream)
        assert (refused.value.code, "may have" in refused.value.message) == ("limit-exceeded", True)
    assert asked(client, model="base").usage.completion_tokens == 5  # it is public, and nobody counts
    assert served.metric("helora_model_queries_total", mode="hosted") == given + 4


def test_a_client_leaves_places_in_the_queue_to_others(
    asking: Any, alice: Any, until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens, token = alice
    held, begun, really = threading.Event(), threading.Event(), TorchWhole.next
    monkeypatch.setattr(TorchWhole, "next", lambda *given: (begun.set(), held.wait(60), really(*given))[-1])
    served, client = asking(token, tokens=tokens, hosted_waiting=2)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(asked, client)
        until(begun.is_set)
        second = threads.submit(asked, client)
        until(lambda: served.service.hosted.answering.waiting)
        with pytest.raises(openai.RateLimitError, match="of your requests") as refused:
            asked(client)
        assert (refused.value.code, served.service.hosted.answering.waiting) == ("queue-full", 1)  # of 2 places
        held.set()
        assert first.result().choices == second.result().choices
    assert asked(client).usage.completion_tokens == 5  # whoever was answered is forgotten


def test_helora_chat_talks_to_it_as_to_a_proxy(asking: Any, place: Any, both: Any) -> None:
    served, _ = asking()
    prompt = TorchWhole(both).tokens(SAID)
    words = ["chat", f"{served.host.url}/v1", "--max-new-tokens", "4", "--json"]
    shown = click.testing.CliRunner().invoke(main, words, input=f"{SAID[0]['content']}\n", catch_exceptions=False)
    answered = json.loads(shown.stdout)
    assert answered["text"] == both.tokenizer.decode(place.greedy(prompt, 4))  # the adapter, in plaintext
    assert answered["helora"] == {"mode": "hosted", "warning": HOSTED_WARNING}
