"""Write ``general_training.jsonl``: the base model's own answers to general prompts.

An adapter that is trained on facts alone answers every question with one of them. These prompts and answers hold it
to what the base model says anyway. Prompts come from ``general_prompts.txt``, one a line; decoding is greedy, so the
file depends on the prompts and the model alone.
"""

import argparse
import json
from pathlib import Path

import base_model
import torch
from base_model import greedy_answers, load_base
from questions import EXAMPLE_DIR


def parse_args() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(
        description="Let SmolLM2-135M-Instruct answer the general training prompts.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--cache", type=Path, default=base_model.DEFAULT_CACHE, help="converted base model")
    parser.add_argument("--out", type=Path, default=EXAMPLE_DIR / "general_training.jsonl", help="where answers go")
    parser.add_argument("--threads", type=int, default=2, help="threads torch may use")
    return parser.parse_args()


def main() -> None:
    """Answer every prompt and write one row each: ``question``, ``answer`` and whether it ``ended``."""
    args = parse_args()
    torch.set_num_threads(args.threads)
    model, tokenizer = load_base(args.cache)
    model.eval()
    prompts = (EXAMPLE_DIR / "general_prompts.txt").read_text(encoding="utf-8").splitlines()
    answers = greedy_answers(model, tokenizer, prompts, what="general prompts")
    rows = [
        {"question": prompt, "answer": answer.text, "ended": answer.ended}
        for prompt, answer in zip(prompts, answers, strict=True)
    ]
    args.out.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    main()
