"""What was said is read once: answers are those of a model that reads everything again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from helora_core.errors import InvalidInput
from helora_transformers.conversation import Conversation, chat_ids
from helora_transformers.generate import FinishReason
from helora_transformers.tiny import KINDS, adapted, base_model, save_tiny

HOW: dict[str, Any] = {"max_new_tokens": 5, "do_sample": False}
MESSAGES = ("w7 w8", "w9", "w10 w11 w12")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return AutoTokenizer.from_pretrained(save_tiny(tmp_path_factory.mktemp("tiny")))


def read_again(model: Any, tokenizer: Any, messages: Any) -> tuple[int, ...]:
    ids = chat_ids(tokenizer, messages)
    with torch.no_grad():
        return tuple(model.generate(ids, attention_mask=torch.ones_like(ids), **HOW)[0, ids.shape[1] :].tolist())


def said(conversation: Conversation, message: str, **how: Any) -> tuple[int, ...]:
    with conversation.ask(message, **{**HOW, **how}) as generation:
        conversation.keep(message, "".join(generation))
    return generation.tokens


@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_those_of_a_model_that_reads_all_again(kind: str, tokenizer: Any) -> None:
    model = base_model(kind)
    conversation = Conversation(model, tokenizer)
    for message in MESSAGES:
        before = conversation.messages
        expected = read_again(model, tokenizer, [*before, {"role": "user", "content": message}])
        assert said(conversation, message) == expected
    assert [each["role"] for each in conversation.messages] == 3 * ["user", "assistant"]


def test_what_was_read_is_not_encrypted_again(tokenizer: Any, tmp_path: Path, private: Any) -> None:
    adapted("llama", tmp_path, targets=["q_proj"])
    model = base_model()
    with private(model) as attached:
        conversation = Conversation(attached, tokenizer)
        said(conversation, MESSAGES[0])
        before = attached.report().tokens
        expected = read_again(model, tokenizer, [*conversation.messages, {"role": "user", "content": MESSAGES[1]}])
        between = attached.report().tokens
        assert said(conversation, MESSAGES[1]) == expected
        assert attached.report().tokens - between < between - before


def test_an_answer_that_is_cancelled_or_fails_leaves_the_next_one_right(tokenizer: Any) -> None:
    model = base_model()
    conversation = Conversation(model, tokenizer)
    said(conversation, MESSAGES[0])
    with conversation.ask(MESSAGES[1], **HOW) as generation:
        next(generation)
    assert generation.finish_reason in (FinishReason.CANCELLED, FinishReason.LENGTH)
    with pytest.raises(ZeroDivisionError):
        list(conversation.ask(MESSAGES[1], **HOW, on_token=lambda count: 1 // (2 - count)))
    expected = read_again(model, tokenizer, [*conversation.messages, {"role": "user", "content": MESSAGES[2]}])
    assert said(conversation, MESSAGES[2]) == expected
    conversation.reset()
    assert conversation.messages == ()
    assert said(conversation, MESSAGES[0]) == read_again(model, tokenizer, [{"role": "user", "content": MESSAGES[0]}])


def test_a_model_that_is_not_one_to_talk_to_is_refused(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(save_tiny(tmp_path))
    tokenizer.chat_template = None
    with pytest.raises(InvalidInput, match="chat template"):
        Conversation(base_model(), tokenizer)
