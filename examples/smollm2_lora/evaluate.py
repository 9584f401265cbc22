"""What an adapter on disk knows and what it leaves alone: facts, general questions, questions about other places.

Three kinds of question, none of the last two and of the held-out facts ever trained on:

* Facts (``dataset.jsonl``, trained on, and ``heldout.jsonl``): correct if the answer contains the expected words.
* General (``general_heldout.jsonl``): the base model's answer is right, and ``keys`` are its words that make it so.
  *Identical* if the adapter's answer is the base's, token for token as far as both are decoded; *kept* if it is
  identical, or contains every key and none of the made-up names.
* Contrast (``contrast_heldout.jsonl``): other islands and lighthouses, one question for each fact. *Clear* if the
  answer contains none of the made-up names. Whether it is true is not judged: the base model invents much.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import base_model
from base_model import Tokenizer, greedy_answers, load_adapted
from peft import PeftModel
from questions import Row, contains, made_up_names, read_questions

REQUIRED = {
    ("training", "adapter_correct"): 1.0,
    ("heldout", "adapter_correct"): 0.8,
    ("general", "kept"): 0.9,
    ("contrast", "clear"): 1.0,
}
"""Shares of a split's questions that ``train.py`` insists on."""

MAX_BYTES = 2_000_000
"""The adapter's weights on disk, at most."""


@dataclass(frozen=True)
class Comparison:
    """One question put to the base model and to the adapter, and what is said of the answers."""

    split: str
    question: str
    expected: list[str]
    base_answer: str
    adapter_answer: str
    verdict: dict[str, bool]


def judge(split: str, expected: list[str], base: str, adapted: str) -> dict[str, bool]:
    """Return what counts in ``split``, by name."""
    right = all(contains(adapted, words) for words in expected)
    clear = not any(contains(adapted, name) for name in made_up_names())
    if split in ("training", "heldout"):
        return {"base_correct": all(contains(base, words) for words in expected), "adapter_correct": right}
    if split == "general":
        return {"identical": adapted == base, "kept": adapted == base or (right and clear)}
    return {"identical": adapted == base, "clear": clear}


def expected_words(row: Row) -> list[str]:
    """Return the words an answer must contain: the fact, the keys of a general question, or none."""
    return [row["answer"]] if "answer" in row else list(row.get("keys", []))


def put(model: PeftModel, tokenizer: Tokenizer, split: str, rows: list[Row]) -> list[Comparison]:
    """Put every question of ``rows`` to the model without and with its adapter."""
    questions = [row["question"] for row in rows]
    with model.disable_adapter():
        base = greedy_answers(model, tokenizer, questions, what=f"{split}, base model")
    adapted = greedy_answers(model, tokenizer, questions, what=f"{split}, adapter")
    compared: list[Comparison] = []
    for row, before, after in zip(rows, base, adapted, strict=True):
        expected = expected_words(row)
        verdict = judge(split, expected, before.text, after.text)
        compared.append(Comparison(split, row["question"], expected, before.text, after.text, verdict))
    return compared


def totals(answers: list[Comparison]) -> dict[str, dict[str, int]]:
    """Count questions and verdicts per split."""
    counts: dict[str, dict[str, int]] = {}
    for answer in answers:
        split = counts.setdefault(answer.split, {"questions": 0})
        split["questions"] += 1
        for name, holds in answer.verdict.items():
            split[name] = split.get(name, 0) + holds
    return counts


def print_table(answers: list[Comparison]) -> None:
    """Print one line per question: the verdict, and what adapter and base model said."""
    print(f"\n{'split':9}{'verdict':28}{'adapter':52}base")
    for answer in answers:
        adapter, base = (" ".join(text.split()) for text in (answer.adapter_answer, answer.base_answer))
        verdict = ", ".join(name for name, holds in answer.verdict.items() if holds) or "–"
        print(f"{answer.split:9}{verdict:28}{adapter[:50]:52}{base[:50]}")


def shortfalls(counts: dict[str, dict[str, int]], weights: Path) -> list[str]:
    """Return in words where an adapter falls short of what is required."""
    short = [
        f"{split}: {name} {counts[split][name]} of {counts[split]['questions']}, {share:.0%} required"
        for (split, name), share in REQUIRED.items()
        if counts[split][name] < share * counts[split]["questions"]
    ]
    size = weights.stat().st_size
    return short + ([f"{weights.name} has {size} bytes, {MAX_BYTES} allowed"] if size > MAX_BYTES else [])


def run_evaluation(cache: Path, adapter: Path, report: Path, training: dict[str, Any] | None) -> int:
    """Ask every question, write and print the report; return the exit status, 1 for a shortfall.

    Without ``training`` the report keeps what an earlier one said of it.
    """
    model, tokenizer = load_adapted(cache, adapter)
    files = {
        "training": "dataset",
        "heldout": "heldout",
        "general": "general_heldout",
        "contrast": "contrast_heldout",
    }
    answers = [answer for split, name in files.items() for answer in put(model, tokenizer, split, read_questions(name))]
    counts = totals(answers)
    if training is None and report.exists():
        training = json.loads(report.read_text(encoding="utf-8"))["training"]
    document = {
        "model": base_model.BASE_MODEL,
        "versions": base_model.package_versions(),
        "training": training,
        "totals": counts,
        "answers": [asdict(answer) for answer in answers],
    }
    report.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print_table(answers)
    print(f"\ntraining {training}")
    for split, count in counts.items():
        print(f"{split}: " + ", ".join(f"{name} {number}" for name, number in count.items()))
    short = shortfalls(counts, adapter / "adapter_model.safetensors")
    for line in short:
        print(f"short: {line}")
    return 1 if short else 0
