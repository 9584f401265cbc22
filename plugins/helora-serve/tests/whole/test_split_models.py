"""Layers of transformers, split from their ends: tokens and logits are those of PEFT's model."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from helora_core.errors import InvalidInput
from helora_serve.split.client import connect_split
from helora_serve.split.loading import load_layers
from helora_transformers.errors import ModelUnsupported
from helora_transformers.tiny import adapted

PROMPT = [3, 17, 45, 8, 60, 22, 91]
MOST = 12


@pytest.mark.parametrize("adapter", ["default", None])
@pytest.mark.parametrize("transport", ["websocket", "http"])
def test_tokens_are_those_of_plaintext_lora(
    serving: Any, place: Any, layers: Any, adapter: str | None, transport: Any
) -> None:
    served = serving(layers=layers)
    with connect_split(served.host.url, place.base, adapter=adapter, transport=transport) as split:
        made = split.generate(PROMPT, MOST)
        assert made == place.greedy(PROMPT, MOST, adapter=adapter is not None)
        again = split.generate([*PROMPT[:4], 9], 3)  # the cache goes back to what both begin with
        assert again == place.greedy([*PROMPT[:4], 9], 3, adapter=adapter is not None)
    assert place.greedy(PROMPT, MOST) != place.greedy(PROMPT, MOST, adapter=False)


def test_conversations_do_not_see_each_other(serving: Any, place: Any, layers: Any) -> None:
    served = serving(layers=layers)
    prompts = [PROMPT[start:] + PROMPT[:start] for start in range(3)]
    sessions = [connect_split(served.host.url, place.base, adapter="default") for _ in prompts]
    made: list[list[int]] = [[] for _ in prompts]
    for _ in range(4):  # a token each in turn
        for tokens, prompt, session in zip(made, prompts, sessions, strict=True):
            tokens.append(int(session.logits([*prompt, *tokens]).argmax()))
    assert made == [place.greedy(prompt, 4) for prompt in prompts]
    for session in sessions:
        session.close()


def test_encrypted_within_the_server_the_tokens_are_the_same(serving: Any, place: Any, both: Any) -> None:
    served = serving(layers=both)
    with connect_split(served.host.url, place.base, adapter="default") as split:
        assert split.offer.encrypted
        assert split.generate(PROMPT, 4) == place.greedy(PROMPT, 4)
        logits = split.logits(PROMPT)
    with torch.no_grad():
        right = place.peft(torch.tensor([PROMPT])).logits[0, -1].numpy()
    assert 0 < abs(logits - right).max() < 1e-2
    found = both.selftest("default")
    assert found.encrypted
    assert found.tokens_equal
    assert found.max_logit_difference < 1e-2


def test_the_selftest_finds_a_difference_if_there_is_one(layers: Any) -> None:
    assert layers.selftest("default").max_logit_difference < 1e-4
    run = layers.forward
    layers.forward = lambda rows, cache, position, adapter: run(rows, cache, position, None)  # the adapter is forgotten
    assert layers.selftest("default").max_logit_difference > 1e-2


def test_an_adapter_of_the_head_cannot_be_split(place: Any, tmp_path: Any, refused: Any) -> None:
    adapted("llama", tmp_path / "head", targets=["q_proj", "lm_head"])
    with refused(ModelUnsupported, "in parts"):
        load_layers(place.base, {"default": tmp_path / "head"})


def test_a_folder_that_is_no_model_is_refused(tmp_path: Any, refused: Any) -> None:
    with refused(InvalidInput, "no base model"):
        load_layers(tmp_path, {})
