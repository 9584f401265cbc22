"""What becomes of a LoRA that acts on the last hidden state only, or that the cache does not remember.

The reference is the bundled adapter as PEFT runs it: Δ in 60 modules, and so in the cache. Beside it, on the same
questions:

- ``cache``: the same adapter acts on the current token alone; the cache holds what the base model made.
- ``layer``: of the same adapter, the modules of the last layer alone.
- ``hidden``: one matrix of the same rank on the last hidden state, h + s · up · (down · h) before the output layer,
  trained on the same rows by the same losses for as many steps: what one Δ a token can learn.
- ``base``: no adapter.

Run it in the environment of ``examples/smollm2_lora``; it writes ``results.json`` beside itself.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "smollm2_lora"))

import base_model  # noqa: E402
from packing import answer_states, answer_tokens, shared_beginning, to_example, tokenize  # noqa: E402
from questions import Row, contains, read_questions  # noqa: E402
from train import divergence as drift  # noqa: E402
from train import draws  # noqa: E402

RANK, SCALE = 8, 2.0
TOKENS = 24
WAYS = ("cache", "layer", "hidden", "base")
SETS = {"facts": ("dataset", 20), "paraphrases": ("heldout", 10), "general": ("general_heldout", 20)}
"""Files of questions, and how many of each."""

Step = Callable[[torch.Tensor, Any], tuple[torch.Tensor, Any]]
"""From tokens (1 × count) and a cache to logits (count × words) and the cache."""


class OnHiddenState(nn.Module):
    """An output layer with a LoRA on what it reads."""

    def __init__(self, head: nn.Module, width: int) -> None:
        super().__init__()
        self.head = head
        self.down = nn.Linear(width, RANK, bias=False)
        self.up = nn.Linear(RANK, width, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits."""
        logits: torch.Tensor = self.head(hidden + SCALE * self.up(self.down(hidden)))
        return logits


def train_on_hidden_state(model: Any, tokenizer: Any, args: argparse.Namespace) -> OnHiddenState:
    """Train a LoRA on the last hidden state as ``train.py`` trains the adapter. The states themselves never change."""
    facts, general = (
        [to_example(tokenizer, row) for row in read_questions(name)] for name in ("dataset", "general_training")
    )
    beginning = shared_beginning(facts + general)
    with torch.no_grad():
        states = [[answer_states(model.model, beginning, [each]) for each in kind] for kind in (facts, general)]
    torch.manual_seed(args.seed)
    head = OnHiddenState(model.lm_head.requires_grad_(False), model.config.hidden_size)
    optimizer = torch.optim.AdamW([head.down.weight, head.up.weight], lr=args.learning_rate, weight_decay=0.0)
    decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, total_iters=args.steps)
    generator = torch.Generator().manual_seed(args.seed)
    fact_draws, general_draws = draws(len(facts), 4, generator), draws(len(general), 2, generator)
    for step in range(1, args.steps + 1):
        asked, chosen = next(fact_draws), next(general_draws)
        known = torch.cat([states[0][i] for i in asked])
        learned = functional.cross_entropy(head(known), answer_tokens([facts[i] for i in asked]))
        kept = torch.cat([states[1][i] for i in chosen])
        moved = kept + SCALE * head.up(head.down(kept))
        (learned + drift(head.head, kept, moved)).backward()
        optimizer.step()
        optimizer.zero_grad()
        decay.step()
        if step % 20 == 0:
            print(f"hidden: step {step}/{args.steps}, loss {learned.item():.3f}", flush=True)
    return head


def ordinary(model: Any) -> Step:
    """The model as it is."""

    def step(tokens: torch.Tensor, cache: Any) -> tuple[torch.Tensor, Any]:
        out = model(input_ids=tokens, cache=cache, use_cache=True)
        return out.logits[0], out.cache

    return step


def forgetful(model: Any, answer_tokens: int) -> Step:
    """The adapter acts on one token at a time, and the cache is the base model's.

    Args:
        model: PEFT's model.
        answer_tokens: Of the first call's tokens, those at the end that logits are wanted for; the others are cached in
            one pass, and their logits are zero.
    """

    def step(tokens: torch.Tensor, cache: Any) -> tuple[torch.Tensor, Any]:
        logits = []
        first = tokens[:, :-answer_tokens] if cache is None else tokens[:, :0]
        if first.shape[1]:
            with model.disable_adapter():
                out = model(input_ids=first, use_cache=True)
            cache, logits = out.cache, [torch.zeros_like(out.logits[0])]
        for i in range(first.shape[1], tokens.shape[1]):
            token = tokens[:, i : i + 1]
            logits.append(model(input_ids=token, cache=cache, use_cache=True).logits[0])
            cache.crop(-1)
            with model.disable_adapter():
                cache = model(input_ids=token, cache=cache, use_cache=True).cache
        return torch.cat(logits), cache

    return step


@contextmanager
def last_layer_only(model: Any, wanted: bool) -> Iterator[None]:
    """Of PEFT's model, Δ of the last layer alone, if that is wanted."""
    last = model.config.num_hidden_layers - 1
    kept = {}
    for name, module in model.named_modules():
        if wanted and hasattr(module, "lora_A") and f".layers.{last}." not in name:
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
def along(step: Step, prompt: torch.Tensor, answer: list[int]) -> torch.Tensor:
    """Logits along a prompt and an answer, as far as they predict its tokens or the prompt's."""
    return step(torch.cat([prompt, torch.tensor([answer[:-1]], dtype=torch.long)], dim=1), None)[0]


def divergence(logits: torch.Tensor, answer: list[int], reference: torch.Tensor) -> float:
    """Mean KL divergence from the reference's predictions of its own answer, in bits a token."""
    ours, theirs = (torch.log_softmax(each[-len(answer) :].double(), dim=-1) for each in (logits, reference))
    return float((theirs.exp() * (theirs - ours)).sum(dim=-1).mean()) / math.log(2.0)


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
    return {
        "questions": len(rows),
        "correct": sum(row[way]["correct"] for row in rows),
        "identical": positions.count(None),
        "median_first_difference": differ[len(differ) // 2] if differ else None,
        "mean_kl_bits": round(sum(row[way]["kl_bits"] for row in rows) / len(rows), 3),
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
    parser.add_argument("--steps", type=int, default=260, help="optimiser steps of the LoRA on the hidden state")
    parser.add_argument("--learning-rate", type=float, default=2e-3, help="AdamW's first rate; falls to a tenth")
    parser.add_argument("--seed", type=int, default=20261127, help="seed of the initial weights and of the order")
    parser.add_argument("--questions", type=int, default=None, help="of each set at most, to see that it works")
    parser.add_argument("--threads", type=int, default=1, help="threads torch may use")
    return parser.parse_args()


def words_of(row: Row) -> list[str]:
    """What an answer must contain."""
    return [row["answer"]] if "answer" in row else list(row["keys"])


def main() -> None:
    """Train, run every question every way, and write what came out."""
    args, start = parse_args(), time.perf_counter()
    torch.set_num_threads(args.threads)
    base, tokenizer = base_model.load_base(args.cache)
    base.eval()
    end = tokenizer.eos_token_id
    peft, _ = base_model.load_adapted(args.cache, args.adapter)
    plain_head = base.lm_head
    hidden_head = train_on_hidden_state(base, tokenizer, args)
    rows: dict[str, list[dict[str, Any]]] = {}
    for name, (file, count) in SETS.items():
        rows[name] = []
        for row in read_questions(file)[: min(count, args.questions or count)]:
            prompt = torch.tensor([tokenize(tokenizer, base_model.chat_prompt(tokenizer, row["question"]))])
            found: dict[str, Any] = {"question": row["question"]}
            reference = greedy(ordinary(peft), prompt, end)
            expected = along(ordinary(peft), prompt, reference)
            found["peft"] = tokenizer.decode(reference, skip_special_tokens=True)
            for way in WAYS:
                base.lm_head = hidden_head if way == "hidden" else plain_head
                model = base if way in ("hidden", "base") else peft
                with last_layer_only(peft, way == "layer"):
                    answer = greedy(forgetful(peft, 1) if way == "cache" else ordinary(model), prompt, end)
                    step = forgetful(peft, len(reference)) if way == "cache" else ordinary(model)
                    kl = divergence(along(step, prompt, reference), reference, expected)
                text = str(tokenizer.decode(answer, skip_special_tokens=True))
                found[way] = {
                    "answer": text,
                    "correct": all(contains(text, words) for words in words_of(row)),
                    "first_difference": first_difference(reference, answer),
                    "kl_bits": round(kl, 4),
                }
            found["peft_correct"] = all(contains(found["peft"], words) for words in words_of(row))
            rows[name].append(found)
            print(f"{name} {len(rows[name])}: {row['question']}", flush=True)
    results = {
        "model": base_model.BASE_MODEL,
        "versions": base_model.package_versions(),
        "steps": args.steps,
        "tokens": TOKENS,
        "seconds": round(time.perf_counter() - start, 1),
        "peft_correct": {name: sum(row["peft_correct"] for row in each) for name, each in rows.items()},
        "totals": {name: {way: summary(each, way) for way in WAYS} for name, each in rows.items()},
        "answers": rows,
    }
    args.out.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(json.dumps(results["totals"], indent=1))


if __name__ == "__main__":
    main()
