"""Prompts with their answers, packed into one sequence that shares the tokens all prompts begin with.

Every prompt starts with the same system message, which is more than half of a short question. A pack holds it once.
Each example after it sees that beginning and itself, at the positions it would have alone; so the states are those of
separate passes, for about half the work.
"""

from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import torch
from base_model import Tokenizer, chat_prompt
from questions import Row

MAX_ANSWER_TOKENS = 24
"""Longer answers are cut: what the base model adds after these costs time and holds the adapter to little more."""


@dataclass(frozen=True)
class Example:
    """The tokens of a prompt and of its answer."""

    prompt: list[int]
    answer: list[int]

    def body(self, beginning: list[int]) -> list[int]:
        """The tokens a pack holds after the shared beginning: all but the last, which predicts nothing wanted."""
        return self.prompt[len(beginning) :] + self.answer[:-1]


def tokenize(tokenizer: Tokenizer, text: str) -> list[int]:
    """Return the tokens of ``text``, adding none."""
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def to_example(tokenizer: Tokenizer, row: Row) -> Example:
    """Return a row's question in the chat template and its answer, with the end mark unless that was cut off."""
    prompt = tokenize(tokenizer, chat_prompt(tokenizer, row["question"]))
    answer = tokenize(tokenizer, row["answer"] + (tokenizer.eos_token if row.get("ended", True) else ""))
    return Example(prompt, answer[:MAX_ANSWER_TOKENS])


def shared_beginning(examples: list[Example]) -> list[int]:
    """Return the tokens that all prompts begin with."""
    columns = zip(*(example.prompt for example in examples), strict=False)
    return [column[0] for column in takewhile(lambda column: len(set(column)) == 1, columns)]


def answer_states(model: Any, beginning: list[int], examples: list[Example]) -> torch.Tensor:
    """Return the last layer's states that predict the examples' answers, (all answer tokens) × (hidden size)."""
    tokens, owners, positions = list(beginning), [0] * len(beginning), list(range(len(beginning)))
    predicting: list[int] = []
    for owner, example in enumerate(examples, 1):
        body = example.body(beginning)
        end = len(tokens) + len(body)
        predicting.extend(range(end - len(example.answer), end))
        tokens += body
        owners += [owner] * len(body)
        positions += range(len(beginning), len(beginning) + len(body))
    owner_of = torch.tensor(owners)
    own = (owner_of[None, :] == owner_of[:, None]) | (owner_of[None, :] == 0)
    mask = torch.full(own.shape, torch.finfo(torch.float32).min).masked_fill(own.tril(), 0.0)
    output = model(
        input_ids=torch.tensor([tokens]),
        attention_mask=mask[None, None],
        position_ids=torch.tensor([positions]),
        use_cache=False,
    )
    states: torch.Tensor = output.last_hidden_state[0, predicting]
    return states


def answer_tokens(examples: list[Example]) -> torch.Tensor:
    """Return the tokens of the examples' answers, in the order of ``answer_states``."""
    return torch.tensor([token for example in examples for token in example.answer])
