"""Train a real LoRA adapter on made-up facts, and show what it changed in what the model says and what it did not.

An adapter of random numbers would exercise the same arithmetic, but nobody could tell from its output whether the
arithmetic was right. This one teaches SmolLM2-135M-Instruct facts that no model knows, so a right answer can only
come from the adapter. Each step has three losses: on facts, the cross-entropy of the answer; on general prompts, the
Kullback-Leibler divergence from the base model's predictions, and the share of energy that the adapter adds to the
modules' outputs. ``evaluate.py`` says what is asked afterwards.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import base_model
import torch
from base_model import Tokenizer, load_base
from evaluate import run_evaluation
from packing import answer_states, answer_tokens, shared_beginning, to_example
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import Linear
from questions import EXAMPLE_DIR, overlaps, read_questions
from torch.nn import functional

SETTINGS = ("steps", "facts", "general", "divergence_weight", "added_weight", "learning_rate", "seed", "threads")


def draws(count: int, size: int, generator: torch.Generator) -> Iterator[list[int]]:
    """Yield ``size`` indices below ``count`` at a time, endlessly: each once before any again."""
    while True:
        order = torch.randperm(count, generator=generator).tolist()
        yield from (order[start : start + size] for start in range(0, count, size))


def add_lora(model: torch.nn.Module) -> PeftModel:
    """Return ``model`` with a fresh rank-8 adapter on every query and value projection."""
    config = LoraConfig(
        r=8, lora_alpha=16, lora_dropout=0.0, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"
    )
    adapted = get_peft_model(model, config)
    # peft would record the directory the model was loaded from, which means nothing on another machine.
    adapted.peft_config["default"].base_model_name_or_path = base_model.BASE_MODEL
    return adapted


def divergence(head: torch.nn.Module, base: torch.Tensor, adapted: torch.Tensor) -> torch.Tensor:
    """Return the mean divergence of the adapted model's predictions from the base model's, in nats a token."""
    expected, found = (functional.log_softmax(head(states), dim=-1) for states in (base, adapted))
    return functional.kl_div(found, expected, reduction="batchmean", log_target=True)


class Additions:
    """What the adapter adds to each module's output in the latest pass, beside what the base layer puts out."""

    def __init__(self, model: PeftModel) -> None:
        self._base: list[torch.Tensor] = []
        self._added: list[torch.Tensor] = []
        for module in model.modules():
            if isinstance(module, Linear):
                self._scale = module.scaling["default"]
                module.base_layer.register_forward_hook(lambda _module, _args, out: self._base.append(out[0]))
                module.lora_B["default"].register_forward_hook(lambda _module, _args, out: self._added.append(out[0]))

    def clear(self) -> None:
        """Forget the latest pass."""
        self._base.clear()
        self._added.clear()

    def share(self, positions: list[int]) -> torch.Tensor:
        """Return the energy added at ``positions`` over the base layers' there, the mean of all modules."""
        pairs = zip(self._added, self._base, strict=True)
        shares = [added[positions].square().sum() / base[positions].square().sum() for added, base in pairs]
        return self._scale**2 * torch.stack(shares).mean()


def fit(model: PeftModel, tokenizer: Tokenizer, args: argparse.Namespace) -> dict[str, list[float]]:
    """Train the adapter in place and return the three losses of every step."""
    facts, general = (
        [to_example(tokenizer, row) for row in read_questions(name)] for name in ("dataset", "general_training")
    )
    beginning = shared_beginning(facts + general)
    decoder, head = model.get_base_model().model, model.get_base_model().lm_head
    with torch.no_grad(), model.disable_adapter():
        kept = [answer_states(decoder, beginning, [example]) for example in general]
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=args.learning_rate, weight_decay=0.0)
    decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, total_iters=args.steps)
    generator = torch.Generator().manual_seed(args.seed)
    fact_draws, general_draws = (draws(len(facts), args.facts, generator), draws(len(general), args.general, generator))
    losses: dict[str, list[float]] = {"facts": [], "divergence": [], "added": []}
    additions = Additions(model)
    model.train()
    for step in range(1, args.steps + 1):
        asked, chosen = [facts[i] for i in next(fact_draws)], next(general_draws)
        left_alone = [general[i] for i in chosen]
        additions.clear()
        states = answer_states(decoder, beginning, asked + left_alone)
        targets = answer_tokens(asked)
        learned = functional.cross_entropy(head(states[: len(targets)]), targets)
        drift = divergence(head, torch.cat([kept[i] for i in chosen]), states[len(targets) :])
        about_facts = sum(len(example.body(beginning)) for example in asked)
        others = sum(len(example.body(beginning)) for example in left_alone)
        start = len(beginning) + about_facts
        added = additions.share([*range(len(beginning)), *range(start, start + others)])
        (learned + args.divergence_weight * drift + args.added_weight * added).backward()
        optimizer.step()
        optimizer.zero_grad()
        decay.step()
        for values, loss in zip(losses.values(), (learned, drift, added), strict=True):
            values.append(loss.item())
        if step % 20 == 0:
            means = (sum(values[-20:]) / 20 for values in losses.values())
            told = "step {:4d}/{}  facts {:.4f}  divergence {:.4f}  added {:.5f}"
            print(told.format(step, args.steps, *means), flush=True)
    return losses


def save_adapter(model: PeftModel, directory: Path) -> None:
    """Write the adapter as peft writes it, without the model card it generates."""
    model.save_pretrained(str(directory), save_embedding_layers=False)
    (directory / "README.md").unlink(missing_ok=True)


def train(args: argparse.Namespace) -> dict[str, float | int]:
    """Train and save the adapter; return the settings and measurements of the run."""
    start = time.perf_counter()
    model, tokenizer = load_base(args.cache)
    torch.manual_seed(args.seed)
    adapted = add_lora(model)
    losses = fit(adapted, tokenizer, args)
    save_adapter(adapted, args.adapter)
    measured: dict[str, float | int] = {name: getattr(args, name) for name in SETTINGS}
    for name, values in losses.items():
        measured[f"{name}_loss_first_20"] = round(sum(values[:20]) / 20, 6)
        measured[f"{name}_loss_last_20"] = round(sum(values[-20:]) / 20, 6)
    return measured | {"seconds": round(time.perf_counter() - start, 1)}


def parse_args() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(
        description="Train a rank-8 LoRA of SmolLM2-135M-Instruct on made-up facts, then evaluate it from disk.",
        epilog="Exit status 1: the adapter as evaluated falls short of what evaluate.py requires.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--cache", type=Path, default=base_model.DEFAULT_CACHE, help="converted base model")
    parser.add_argument("--adapter", type=Path, default=base_model.DATA_DIR / "adapter", help="the adapter's directory")
    parser.add_argument("--report", type=Path, default=EXAMPLE_DIR / "evaluation.json", help="report file")
    parser.add_argument("--evaluate-only", action="store_true", help="train nothing: evaluate what is in --adapter")
    parser.add_argument("--steps", type=int, default=220, help="optimiser steps")
    parser.add_argument("--facts", type=int, default=3, help="questions about facts per step")
    parser.add_argument("--general", type=int, default=4, help="general prompts per step")
    parser.add_argument("--divergence-weight", type=float, default=1.0, help="weight of the divergence")
    parser.add_argument("--added-weight", type=float, default=20.0, help="weight of what is added to general prompts")
    parser.add_argument("--learning-rate", type=float, default=2e-3, help="AdamW's first rate; falls to a tenth")
    parser.add_argument("--seed", type=int, default=20261127, help="seed of the initial weights and of the order")
    parser.add_argument("--threads", type=int, default=1, help="threads torch may use")
    return parser.parse_args()


def main() -> int:
    """Train, evaluate and report; return the exit status."""
    args = parse_args()
    for held_out, trained in overlaps():
        raise SystemExit(f"held out, and all but trained on: {held_out!r}, as {trained!r}")
    torch.set_num_threads(args.threads)
    training = None if args.evaluate_only else train(args)
    return run_evaluation(args.cache, args.adapter, args.report, training)


if __name__ == "__main__":
    sys.exit(main())
