"""What becomes of a LoRA that acts on the last hidden state only, or that the cache does not remember.

The reference is the bundled adapter as PEFT runs it: Δ in 60 modules, and so in the cache. Beside it, on the same
questions:

- ``cache``: the same adapter acts on the current token alone; the cache holds what the base model made.
- ``layer``: of the same adapter, the modules of the last layer alone.
- ``hidden``: one matrix of the same rank on the last hidden state, h + s · up · (down · h) before the output layer, trained
  on the same questions for as many steps, which is the best that one Δ a token can learn.

Run it after ``examples/smollm2_lora`` is set up; it writes ``results.json`` beside itself.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "smollm2_lora"))

import base_model  # noqa: E402
import train  # noqa: E402

RANK, ALPHA = 8, 16
TOKENS = 24

Step = Callable[[torch.Tensor, Any], tuple[torch.Tensor, Any]]
"""From tokens and a cache to logits (tokens × words) and the cache."""


class OnHiddenState(nn.Module):
    """The output layer, with a LoRA on what it reads."""

    def __init__(self, head: nn.Module, width: int) -> None:
        super().__init__()
        self.head = head
        self.down = nn.Linear(width, RANK, bias=False)
        self.up = nn.Linear(RANK, width, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits."""
        return self.head(hidden + ALPHA / RANK * self.up(self.down(hidden)))


def trained_on_hidden_state(model: Any, tokenizer: Any, rows: list[dict[str, str]], args: argparse.Namespace) -> None:
    """Put a trained ``OnHiddenState`` in the model, by the settings of the bundled adapter's training."""
    torch.manual_seed(args.seed)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    model.lm_head = OnHiddenState(model.lm_head, model.config.hidden_size)
    trained = [*model.lm_head.down.parameters(), *model.lm_head.up.parameters()]
    optimizer = torch.optim.AdamW(trained, lr=args.learning_rate, weight_decay=0.0)
    decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, total_iters=args.epochs)
    generator = torch.Generator().manual_seed(args.seed)
    for epoch in range(args.epochs):
        losses = []
        for batch in train.shuffled_batches(tokenizer, rows, args.batch_size, generator):
            loss = model(**batch).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        decay.step()
        print(f"hidden: epoch {epoch + 1}/{args.epochs}, loss {sum(losses) / len(losses):.3f}", flush=True)


def ordinary(model: Any) -> Step:
    """The model as it is."""

    def step(tokens: torch.Tensor, cache: Any) -> tuple[torch.Tensor, Any]:
        out = model(input_ids=tokens, past_key_values=cache, use_cache=True)
        return out.logits[0], out.past_key_values

    return step


def forgetful(model: Any) -> Step:
    """The adapter acts on the last token; the cache is the base model's."""

    def step(tokens: torch.Tensor, cache: Any) -> tuple[torch.Tensor, Any]:
        logits = []
        for i in range(tokens.shape[1]):
            token = tokens[:, i : i + 1]
            adapted = model(input_ids=token, past_key_values=copy.deepcopy(cache), use_cache=True)
            logits.append(adapted.logits[0])
            with model.disable_adapter():
                cache = model(input_ids=token, past_key_values=cache, use_cache=True).past_key_values
        return torch.cat(logits), cache

    return step


@contextmanager
def last_layer_only(model: Any) -> Iterator[None]:
    """Of PEFT's model, Δ of the last layer alone."""
    last = model.config.num_hidden_layers - 1
    kept = {}
    for name, module in model.named_modules():
        if hasattr(module, "scaling") and f".layers.{last}." not in name:
            kept[module] = dict(module.scaling)
            module.scaling = dict.fromkeys(module.scaling, 0.0)
    try:
        yield
    finally:
        for module, scaling in kept.items():
            module.scaling = scaling


@torch.inference_mode()
def greedy(step: Step, prompt: torch.Tensor, end: int) -> list[int]:
    """The greedy continuation of a prompt, of ``TOKENS`` at most, its end included."""
    logits, cache = step(prompt, None)
    found = [int(logits[-1].argmax())]
    while found[-1] != end and len(found) < TOKENS:
        logits, cache = step(torch.tensor([[found[-1]]]), cache)
        found.append(int(logits[-1].argmax()))
    return found


@torch.inference_mode()
def divergence(step: Step, prompt: torch.Tensor, answer: list[int], reference: torch.Tensor) -> float:
    """Mean KL divergence from the reference's next-token distributions along its answer, in bits."""
    logits, _ = step(torch.cat([prompt, torch.tensor([answer[:-1]], dtype=torch.long)], dim=1), None)
    ours = torch.log_softmax(logits[-len(answer) :].double(), dim=-1)
    theirs = torch.log_softmax(reference.double(), dim=-1)
    return float((theirs.exp() * (theirs - ours)).sum(dim=-1).mean() / torch.log(torch.tensor(2.0)))


def first_difference(one: list[int], other: list[int]) -> int | None:
    """Position of the first token that differs; None if none does."""
    for i, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return i
    return None if len(one) == len(other) else min(len(one), len(other))


def summary(rows: list[dict[str, Any]], way: str) -> dict[str, Any]:
    """What a way of running did on a set of questions."""
    positions = [row[way]["first_difference"] for row in rows]
    differ = sorted(each for each in positions if each is not None)
    known = [row[way]["correct"] for row in rows if row[way]["correct"] is not None]
    return {
        "questions": len(rows),
        "identical": positions.count(None),
        "median_first_difference": differ[len(differ) // 2] if differ else None,
        "mean_kl_bits": round(sum(row[way]["kl_bits"] for row in rows) / len(rows), 3),
        "correct": sum(known) if known else None,
    }


def parse_args() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(
        description="Compare LoRA in every module with one Δ on the last hidden state, and with a cache without Δ.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--cache", type=Path, default=base_model.DEFAULT_CACHE, help="converted base model")
    parser.add_argument("--adapter", type=Path, default=base_model.DATA_DIR / "adapter", help="adapter to load")
    parser.add_argument("--out", type=Path, default=HERE / "results.json", help="where the results go")
    parser.add_argument("--epochs", type=int, default=25, help="passes over the training questions")
    parser.add_argument("--batch-size", type=int, default=5, help="questions per optimiser step")
    parser.add_argument("--learning-rate", type=float, default=2e-3, help="AdamW's first rate; falls to a tenth")
    parser.add_argument("--seed", type=int, default=20261121, help="seed of the initial weights and of the order")
    parser.add_argument("--threads", type=int, default=2, help="threads torch may use")
    return parser.parse_args()
