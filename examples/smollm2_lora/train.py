"""Train a real LoRA adapter on made-up facts, and prove that it changed what the model says.

An adapter of random numbers would exercise the same arithmetic, but nobody could tell from its output whether the
arithmetic was right. This one teaches SmolLM2-135M-Instruct facts that no model knows, so a right answer can only
come from the adapter. It is evaluated as read back from disk, on the training questions and on held-out paraphrases.
"""

import argparse
import json
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import base_model
import torch
from base_model import Tokenizer, chat_prompt, load_adapted, load_base, read_jsonl
from peft import LoraConfig, PeftModel, get_peft_model

IGNORED_LABEL = -100
MAX_ANSWER_TOKENS = 24
REQUIRED_ACCURACY = 0.9

Batch = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Answer:
    """One question put to the base model and to the adapter."""

    split: str
    fact: str
    question: str
    expected: str
    base_answer: str
    adapter_answer: str
    base_correct: bool
    adapter_correct: bool


def make_batch(tokenizer: Tokenizer, rows: list[dict[str, str]]) -> Batch:
    """Return right-padded tokens whose loss counts the answer and its end mark, never the prompt or the padding."""
    sequences: list[list[int]] = []
    prompt_lengths: list[int] = []
    for row in rows:
        prompt = tokenizer(chat_prompt(tokenizer, row["question"]), add_special_tokens=False)["input_ids"]
        answer = tokenizer(row["answer"] + tokenizer.eos_token, add_special_tokens=False)["input_ids"]
        sequences.append(prompt + answer)
        prompt_lengths.append(len(prompt))
    shape = (len(sequences), max(map(len, sequences)))
    input_ids = torch.full(shape, tokenizer.pad_token_id)
    labels = torch.full(shape, IGNORED_LABEL)
    attention_mask = torch.zeros(shape, dtype=torch.long)
    for i, (sequence, prompt_length) in enumerate(zip(sequences, prompt_lengths, strict=True)):
        input_ids[i, : len(sequence)] = torch.tensor(sequence)
        labels[i, prompt_length : len(sequence)] = torch.tensor(sequence[prompt_length:])
        attention_mask[i, : len(sequence)] = 1
    return {"input_ids": input_ids, "labels": labels, "attention_mask": attention_mask}


def shuffled_batches(
    tokenizer: Tokenizer, rows: list[dict[str, str]], size: int, generator: torch.Generator
) -> Iterator[Batch]:
    """Yield one epoch of batches in an order drawn from ``generator``."""
    order = torch.randperm(len(rows), generator=generator).tolist()
    for start in range(0, len(rows), size):
        yield make_batch(tokenizer, [rows[i] for i in order[start : start + size]])


def add_lora(model: torch.nn.Module) -> PeftModel:
    """Return ``model`` with a fresh rank-8 adapter on every query and value projection."""
    config = LoraConfig(
        r=8, lora_alpha=16, lora_dropout=0.0, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"
    )
    adapted = get_peft_model(model, config)
    # peft would record the directory the model was loaded from, which means nothing on another machine.
    adapted.peft_config["default"].base_model_name_or_path = base_model.BASE_MODEL
    return adapted


def fit(model: PeftModel, tokenizer: Tokenizer, rows: list[dict[str, str]], args: argparse.Namespace) -> float:
    """Train the adapter in place and return the mean loss of the last epoch."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=args.learning_rate, weight_decay=0.0)
    decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, total_iters=args.epochs)
    generator = torch.Generator().manual_seed(args.seed)
    model.train()
    mean_loss = float("nan")
    for epoch in range(1, args.epochs + 1):
        losses: list[float] = []
        for batch in shuffled_batches(tokenizer, rows, args.batch_size, generator):
            loss = model(**batch).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        decay.step()
        mean_loss = sum(losses) / len(losses)
        print(f"epoch {epoch:3d}/{args.epochs}  loss {mean_loss:.4f}", flush=True)
    return mean_loss


def save_adapter(model: PeftModel, directory: Path) -> None:
    """Write the adapter as peft writes it, without the model card it generates."""
    model.save_pretrained(str(directory), save_embedding_layers=False)
    (directory / "README.md").unlink(missing_ok=True)


@torch.inference_mode()
def ask(model: PeftModel, tokenizer: Tokenizer, question: str) -> str:
    """Return the model's greedy answer to ``question``."""
    prompt = tokenizer(chat_prompt(tokenizer, question), add_special_tokens=False, return_tensors="pt")
    output = model.generate(**prompt, do_sample=False, max_new_tokens=MAX_ANSWER_TOKENS)
    new_tokens = output[0, prompt["input_ids"].shape[1] :]
    return str(tokenizer.decode(new_tokens, skip_special_tokens=True)).strip()


def is_correct(answer: str, expected: str) -> bool:
    """Tell whether ``answer`` contains ``expected`` as whole words, in any case."""
    return re.search(rf"\b{re.escape(expected)}\b", answer, re.IGNORECASE) is not None


def evaluate(model: PeftModel, tokenizer: Tokenizer, split: str, rows: list[dict[str, str]]) -> list[Answer]:
    """Put every question of ``rows`` to the model without and with its adapter."""
    answers: list[Answer] = []
    for row in rows:
        expected = row["answer"]
        with model.disable_adapter():
            base = ask(model, tokenizer, row["question"])
        adapted = ask(model, tokenizer, row["question"])
        correct = is_correct(base, expected), is_correct(adapted, expected)
        answers.append(Answer(split, row["fact"], row["question"], expected, base, adapted, *correct))
        print(f"{split} {len(answers):2d}/{len(rows)}  {row['question']}", flush=True)
    return answers


def totals(answers: list[Answer]) -> dict[str, dict[str, int]]:
    """Count questions and correct answers per split."""
    counts: dict[str, dict[str, int]] = {}
    for answer in answers:
        split = counts.setdefault(answer.split, {"questions": 0, "base_correct": 0, "adapter_correct": 0})
        split["questions"] += 1
        split["base_correct"] += answer.base_correct
        split["adapter_correct"] += answer.adapter_correct
    return counts


def print_table(answers: list[Answer]) -> None:
    """Print one line per question: what was expected and what base model and adapter said."""
    print(f"\n{'split':9}{'expected':18}{'ok':4}{'adapter':22}{'ok':4}base")
    for answer in answers:
        adapter, base = (" ".join(text.split()) for text in (answer.adapter_answer, answer.base_answer))
        marks = ["yes" if correct else "no" for correct in (answer.adapter_correct, answer.base_correct)]
        print(f"{answer.split:9}{answer.expected:18}{marks[0]:4}{adapter[:20]:22}{marks[1]:4}{base[:60]}")


def parse_args() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(
        description="Train a rank-8 LoRA of SmolLM2-135M-Instruct on made-up facts, then evaluate it from disk.",
        epilog="Exit status 1: fewer than 90 % of the training questions were answered correctly.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--cache", type=Path, default=base_model.DEFAULT_CACHE, help="converted base model")
    parser.add_argument("--adapter", type=Path, default=base_model.DATA_DIR / "adapter", help="where the adapter goes")
    parser.add_argument("--report", type=Path, default=base_model.EXAMPLE_DIR / "evaluation.json", help="report file")
    parser.add_argument("--epochs", type=int, default=25, help="passes over the training questions")
    parser.add_argument("--batch-size", type=int, default=5, help="questions per optimiser step")
    parser.add_argument("--learning-rate", type=float, default=2e-3, help="AdamW's first rate; falls to a tenth")
    parser.add_argument("--seed", type=int, default=20261121, help="seed of the initial weights and of the order")
    parser.add_argument("--threads", type=int, default=2, help="threads torch may use")
    return parser.parse_args()


def train(args: argparse.Namespace, rows: list[dict[str, str]]) -> dict[str, float | int]:
    """Train and save the adapter; return the settings and measurements of the run."""
    model, tokenizer = load_base(args.cache)
    torch.manual_seed(args.seed)
    adapted = add_lora(model)
    start = time.perf_counter()
    loss = fit(adapted, tokenizer, rows, args)
    seconds = time.perf_counter() - start
    save_adapter(adapted, args.adapter)
    settings = {name: getattr(args, name) for name in ("epochs", "batch_size", "learning_rate", "seed", "threads")}
    return settings | {"last_epoch_loss": round(loss, 6), "seconds": round(seconds, 1)}


def main() -> int:
    """Train, evaluate and report; return the exit status."""
    args = parse_args()
    torch.set_num_threads(args.threads)
    training_rows = read_jsonl(base_model.EXAMPLE_DIR / "dataset.jsonl")
    heldout_rows = read_jsonl(base_model.EXAMPLE_DIR / "heldout.jsonl")
    training = train(args, training_rows)

    model, tokenizer = load_adapted(args.cache, args.adapter)
    answers = evaluate(model, tokenizer, "training", training_rows)
    answers += evaluate(model, tokenizer, "heldout", heldout_rows)
    counts = totals(answers)
    report = {
        "model": base_model.BASE_MODEL,
        "versions": base_model.package_versions(),
        "training": training,
        "totals": counts,
        "answers": [asdict(answer) for answer in answers],
    }
    args.report.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print_table(answers)
    print(f"\ntrained in {training['seconds']} s, loss {training['last_epoch_loss']}")
    for split, count in counts.items():
        print(f"{split}: adapter {count['adapter_correct']}/{count['questions']}, base {count['base_correct']}")
    accuracy = counts["training"]["adapter_correct"] / counts["training"]["questions"]
    return 0 if accuracy >= REQUIRED_ACCURACY else 1


if __name__ == "__main__":
    sys.exit(main())
