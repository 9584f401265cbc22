"""OpenAI's client gets what the model with its adapter says in this process, token by token."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

import openai
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from helora_transformers import attach
from helora_transformers.conversation import chat_ids
from helora_transformers.tiny import base_model

ROLES = ("user", "assistant")


@pytest.fixture(scope="module")
def here(place: Any) -> Iterator[Callable[..., tuple[list[int], str]]]:
    """``here(*said)``: tokens and text of the answer, by the encrypted adapter in this process; greedy, six tokens."""
    model, tokenizer = place.loaded()

    with attach(model, place.compiled) as private:

        def answer(*said: str, adapter: bool = True) -> tuple[list[int], str]:
            messages = [{"role": ROLES[number % 2], "content": text} for number, text in enumerate(said)]
            ids = chat_ids(tokenizer, messages)
            how: dict[str, Any] = {"attention_mask": torch.ones_like(ids), "max_new_tokens": 6, "do_sample": False}
            with nullcontext() if adapter else private.disable_adapter():
                tokens = model.generate(ids, **how)
            new = tokens[0, ids.shape[1] :].tolist()
            return new, tokenizer.decode(new, skip_special_tokens=True)

        yield answer


def test_tokens_are_those_of_the_run_in_this_process(asking: Any, hosting: Any, here: Any, place: Any) -> None:
    asked, (tokens, text) = asking(hosting().address), here("w7 w8")
    whole = asked.answer("w7 w8")
    choice = whole.choices[0]
    assert (choice.message.content, choice.message.role, choice.finish_reason) == (text, "assistant", "length")
    assert place.loaded()[1](text)["input_ids"] == [each for each in tokens if each > 2]
    assert whole.usage.to_dict() == {
        "prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 11, "prompt_tokens_details": {"cached_tokens": 0}
    }  # fmt: skip
    *chunks, last, counts = asked.pieces("w7 w8", stream_options={"include_usage": True})
    assert "".join(each.choices[0].delta.content for each in chunks) == text
    assert len([each for each in chunks if each.choices[0].delta.content]) > 3
    assert chunks[0].choices[0].delta.role == "assistant"
    assert last.choices[0].finish_reason == "length"
    assert (counts.choices, counts.usage.completion_tokens) == ([], 6)
    base = here("w7 w8", adapter=False)[1]
    assert asked.text("w7 w8", model="base") == base != text
    assert asked.text("w7 w8") == text


def test_tokens_are_the_same_over_websockets(asking: Any, serving_host: Any, here: Any) -> None:
    asked = asking(serving_host())
    assert asked.text("w7 w8") == here("w7 w8")[1]
    assert "".join(each.choices[0].delta.content or "" for each in asked.pieces("w9")) == here("w9")[1]


def test_headers_and_the_last_chunk_say_what_protects_it(asking: Any, hosting: Any) -> None:
    asked = asking(hosting().address)
    raw = asked.client.chat.completions.with_raw_response.create(**asked.fields("w7"))
    helora = raw.parse().helora
    assert raw.headers["x-helora-mode"] == helora["mode"] == "client-key"
    assert raw.headers["x-helora-leakage"] == helora["leakage"] == "nothing"
    assert float(raw.headers["x-helora-bits"]) == pytest.approx(helora["bits"], abs=0.06)
    audit = helora["audit"]
    assert audit["offer"] == asked.attachment.offer_sha256
    assert audit["tokens"] == 4 + 5  # the last token of an answer is not run
    assert raw.headers["x-helora-audit"].startswith(f"offer={audit['offer']}; tokens=9; round-trips=")
    *_, last = asked.pieces("w9")
    assert last.helora["audit"]["round_trips"] == audit["round_trips"]
    assert asked.answer("w7", model="base").helora == {"mode": "base", "leakage": None, "bits": None, "audit": None}


def test_several_turns_are_read_once_and_answered_as_if_read_again(asking: Any, hosting: Any, here: Any) -> None:
    asked, said, sent = asking(hosting().address), list[str](), 0
    for message in ("w7 w8", "w9", "w10 w11 w12"):
        said.append(message)
        whole = asked.answer(*said)
        cached = whole.usage.prompt_tokens_details.cached_tokens
        assert whole.choices[0].message.content == here(*said)[1]
        assert whole.helora["audit"]["tokens"] == whole.usage.prompt_tokens - cached + 5
        assert cached >= sent
        sent = whole.usage.prompt_tokens - 1
        said.append(whole.choices[0].message.content)
    other = asked.answer("w13 w14 w15 w16")  # another conversation is not mixed up with it
    assert other.choices[0].message.content == here("w13 w14 w15 w16")[1]
    assert asked.text(*said[:3]) == said[3]


def test_clients_at_once_get_what_each_gets_alone(asking: Any, hosting: Any, here: Any) -> None:
    asked = asking(hosting("one", "two").address, waiting=8)
    assert [each.id for each in asked.client.models.list()] == ["base", "base:one", "base:two"]
    wanted = [(model, f"w{number} w9") for number in (7, 20, 40) for model in ("base", "base:one", "base:two")]
    with ThreadPoolExecutor(len(wanted)) as threads:
        answers = list(threads.map(lambda each: asked.text(each[1], model=each[0]), wanted))
    expected = {(text, ada): here(text, adapter=ada)[1] for _, text in wanted for ada in (True, False)}
    assert answers == [expected[text, model != "base"] for model, text in wanted]


def test_drawing_follows_its_seed(asking: Any, hosting: Any) -> None:
    asked = asking(hosting().address)
    drawn = [asked.text("w7", temperature=1.5, seed=seed) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len({asked.text("w7", temperature=1.5) for _ in range(4)}) > 1
    assert asked.text("w7", temperature=2, top_p=0) == asked.text("w7", temperature=0) == asked.text("w7")


def test_it_stops_at_a_text_and_runs_one_token_more_at_most(asking: Any, hosting: Any, here: Any) -> None:
    asked, words = asking(hosting().address), here("w7 w8")[1].split()
    for stop in (f" {words[2]}", [f"{words[1]} {words[2][:2]}", "never"]):
        whole = asked.answer("w7 w8", stop=stop)
        kept = " ".join(words[:2]) if isinstance(stop, str) else f"{words[0]} "
        assert (whole.choices[0].message.content, whole.choices[0].finish_reason) == (kept, "stop")
        text = "".join(each.choices[0].delta.content or "" for each in asked.pieces("w7 w8", stop=stop))
        assert text == kept
        assert whole.usage.completion_tokens <= 4
        assert whole.helora["audit"]["tokens"] <= 5 + 3


def test_what_does_not_fit_the_model_is_refused(asking: Any, hosting: Any, place: Any) -> None:
    model, tokenizer = place.loaded()
    asked = asking(hosting().address, loaded=(model, tokenizer))
    for said, most in (("w7 " * 130, None), ("w7", 126)):
        with pytest.raises(openai.BadRequestError) as caught:
            asked.text(said, max_tokens=most)
        assert caught.value.code == "context_length_exceeded"
    assert asked.answer("w7", max_tokens=None).usage.completion_tokens == 128 - 4
    assert asked.client.completions.create(model="base:default", prompt="w7 w8", max_tokens=3).choices[0].text
    tokenizer.chat_template = "{{ raise_exception('roles must alternate: ' + messages[0].content) }}"
    with pytest.raises(openai.BadRequestError, match="chat template refuses"):
        asked.text("w7")
    tokenizer.chat_template = None
    with pytest.raises(openai.BadRequestError, match="no chat template"):
        asked.text("w7")


TEXT = "é✓😀"


def speller() -> tuple[Any, Any]:
    """A model whose tokens are bytes, and that spells TEXT again and again, whatever it is asked."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(alphabet)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made)
    tokenizer.chat_template = "{% for message in messages %}{{ message.content }} {% endfor %}"
    model = base_model(vocab_size=256)
    cycle = tokenizer(TEXT)["input_ids"]
    with torch.no_grad():
        directions = 1e3 * torch.linalg.qr(torch.randn(32, 32))[0]
        model.model.embed_tokens.weight[:] = directions[len(cycle) - 1]  # anything is followed by the first byte
        model.lm_head.weight[:] = 0
        for number, token in enumerate(cycle):
            model.model.embed_tokens.weight[token] = directions[number]
            model.lm_head.weight[cycle[(number + 1) % len(cycle)]] = directions[number]
    return model, tokenizer


def test_characters_of_several_tokens_come_whole(asking: Any, hosting: Any) -> None:
    model, tokenizer = speller()
    asked = asking(hosting().address, loaded=(model, tokenizer))
    whole = tokenizer.decode(model.generate(torch.tensor([[0]]), max_new_tokens=40, do_sample=False)[0, 1:])
    assert whole.startswith(TEXT)
    said = list[str]()
    for turn, most_of_all in enumerate((10, 4, 7)):
        said.append(f"{TEXT} {turn}")
        for most in range(1 if turn == 0 else most_of_all, most_of_all + 1):
            deltas = [each.choices[0].delta.content or "" for each in asked.pieces(*said, max_tokens=most)]
            text = "".join(deltas)
            assert text == whole[: len(text)]
            assert "\ufffd" not in text
            assert most - len(text.encode()) in range(4)  # of a character that was cut off
        assert asked.text(*said, max_tokens=most_of_all) == text
        said.append(text)
