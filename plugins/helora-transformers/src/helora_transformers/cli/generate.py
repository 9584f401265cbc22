"""``helora generate``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from helora_core.cli import options
from helora_transformers.cli.options import Asked, asking, checked_text

if TYPE_CHECKING:
    from helora_transformers.cli.figures import Answer
    from helora_transformers.cli.opening import Opened


@click.command()
@click.option("--prompt", required=True, metavar="TEXT", help="What to ask; as a message, if the model has a template.")
@click.option("--raw", is_flag=True, help="Give the prompt as it is, without the model's chat template.")
@asking
@options.as_json
def generate(prompt: str, raw: bool, asked: Asked, as_json: bool) -> None:
    """Ask a language model whose LoRA is encrypted.

    The base model answers, then the adapter in plaintext, then the adapter encrypted, and the tokens of the last two
    are compared. Every token is the most probable one. Times are those of the answer: loading, compiling and preparing
    come before.
    """
    from helora_core.cli.output import print_json
    from helora_transformers.cli.opening import opened
    from helora_transformers.cli.showing import say, viewing

    checked_text(prompt)
    inputs: dict[str, Any] = {}

    def check(model: Any, tokenizer: Any) -> None:
        from helora_transformers.generate import require_room

        inputs.update(_inputs(tokenizer, prompt, raw=raw))
        require_room(model, inputs["input_ids"], asked.max_new_tokens)

    with opened(asked, plaintext_too=asked.compare, check=check) as talked_to:
        say(talked_to.protects, err=True)
        with viewing(talked_to.shown, hidden=as_json) as view:
            answers = []
            for variant in talked_to.shown:
                view.begin(variant)
                answers.append(_answer(talked_to, variant, inputs, asked.max_new_tokens, view.add))
                view.end()
        adapter = talked_to.private.active_adapter if talked_to.private else None
    if as_json:
        print_json(_document(asked, adapter, prompt, talked_to, answers))
    else:
        _show(asked, answers)


def _inputs(tokenizer: Any, prompt: str, *, raw: bool) -> dict[str, Any]:
    import torch

    from helora_transformers.conversation import chat_ids

    if raw or not tokenizer.chat_template:
        ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
    else:
        ids = chat_ids(tokenizer, [{"role": "user", "content": prompt}])
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def _answer(talked_to: Opened, variant: Any, inputs: dict[str, Any], max_new_tokens: int, on_piece: Any) -> Answer:
    from helora_transformers.cli.answering import answered
    from helora_transformers.generate import stream

    def begin(on_token: Any) -> Any:
        how = {"max_new_tokens": max_new_tokens, "do_sample": False, "on_token": on_token}
        return stream(talked_to.model, inputs, tokenizer=talked_to.tokenizer, **how)

    return answered(talked_to, variant, begin, on_piece)


def _show(asked: Asked, answers: list[Answer]) -> None:
    from helora_transformers.cli.showing import say

    click.echo()
    for answer in answers:
        for line in answer.lines():
            say(line)
    if len(answers) == 3:
        from helora_transformers.cli.figures import identical_from

        differing = identical_from(*answers[1:])
        if differing is None:
            click.secho(f"encrypted and plaintext LoRA: all {len(answers[2].tokens)} tokens identical", fg="green")
        else:
            click.secho(f"encrypted and plaintext LoRA differ from token {differing} on", fg="yellow")
    elif asked.host and asked.compare:
        click.echo("plaintext LoRA: not compared, for the adapter stays at its host")


def _document(
    asked: Asked, adapter: str | None, prompt: str, talked_to: Opened, answers: list[Answer]
) -> dict[str, Any]:
    from helora_transformers.cli.figures import identical_from

    return {
        "mode": asked.mode.value,
        "protects": talked_to.protects,
        "host": asked.host,
        "adapter": adapter,
        "prompt": prompt,
        "answers": [each.to_dict() for each in answers],
        "identical": identical_from(*answers[1:]) is None if len(answers) == 3 else None,
    }
