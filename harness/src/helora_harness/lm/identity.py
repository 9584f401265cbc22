"""Greedy tokens of encrypted modes beside those of PEFT, prompts encrypted too."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer

from helora_harness.lm.figures import PLAIN, Identity
from helora_harness.lm.generating import generate
from helora_harness.lm.opened import Opened

QUESTIONS = (
    "What is the lighthouse on the island of Helora called?",
    "What is the capital of France?",
    "Who keeps the lighthouse on Helora?",
    "Name three colours of the rainbow.",
    "What colour is the hull of the ferry?",
    "Write one sentence about the sea.",
    "How many steps lead up to the lamp of Helora's lighthouse?",
    "Explain in two sentences why the sky is blue.",
    "Which hill on Helora is the highest?",
    "Give me a recipe for pancakes.",
)
"""Half of them about what the bundled adapter knows."""


def encoded(base: Path, count: int) -> dict[str, torch.Tensor]:
    """The first questions in the model's chat, padded on the left; beyond ten, they come again with a number."""
    tokenizer: Any = AutoTokenizer.from_pretrained(base, padding_side="left")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    asked = [QUESTIONS[i % len(QUESTIONS)] + f" ({i})" * (i >= len(QUESTIONS)) for i in range(count)]
    chats = [[{"role": "user", "content": question}] for question in asked]
    texts = [tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) for chat in chats]
    found = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
    return {"input_ids": found["input_ids"], "attention_mask": found["attention_mask"]}


def compared(modes: Sequence[Opened], prompts: dict[str, torch.Tensor], tokens: int) -> list[Identity]:
    """Each encrypted mode beside the one in the clear, all prompts in one batch.

    Args:
        modes: Open models, that in the clear among them.
        prompts: ``input_ids`` and ``attention_mask``.
        tokens: To generate for each.
    """
    found = {}
    for each in modes:
        found[each.mode] = generate(
            each, prompts["input_ids"], tokens, attention_mask=prompts["attention_mask"], pad_token_id=0
        )
    plain = found.pop(PLAIN)
    return [_row(mode, plain, ids) for mode, ids in found.items()]


def _row(mode: str, plain: torch.Tensor, ids: torch.Tensor) -> Identity:
    different = plain != ids
    first = [(i, int(row.nonzero()[0])) for i, row in enumerate(different) if bool(row.any())]
    return Identity(
        mode=mode,
        prompts=len(ids),
        tokens=ids.shape[1],
        identical=len(ids) - len(first),
        first_different=tuple(first),
    )
