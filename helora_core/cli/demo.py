"""``helora demo``."""

from __future__ import annotations

import click

from helora_core.cli import options
from helora_core.cli.numbers import Whole

NEXT = "Try next: helora plan --adapter DIR for your own adapter; helora doctor for what runs on this machine."


@click.command()
@options.module
@click.option(
    "--tokens",
    type=Whole(1, 32),
    default=16,
    show_default=True,
    metavar="T",
    help="Tokens of the prompt to run, 1 to 32.",
)
@options.execution
@options.wide
@options.as_json
def demo(module_name: str, tokens: int, execution: options.Execution, as_json: bool) -> None:
    """Run the bundled adapter encrypted and check every Δ.

    The adapter is a LoRA of SmolLM2-135M-Instruct on q_proj and v_proj of its 30 layers, the activations are those of
    a real prompt. Exit status 1 if any module falls below --min-bits.
    """
    from helora_core.cli.execution import run_work
    from helora_core.cli.output import print_json
    from helora_core.cli.results import show, warn_of
    from helora_core.cli.terminal import say
    from helora_core.data.bundled import bundled_activations, bundled_adapter
    from helora_core.parties.report import require_precision

    activations = {name: x[-tokens:] for name, x in bundled_activations().items()}
    results, document = run_work(bundled_adapter().select(module_name), activations, execution)
    if not as_json:
        show(results, document)
    require_precision(document["modules"], execution.min_bits)
    if not as_json:
        say(NEXT, hanging=2)
    else:  # after the check, since a command prints one JSON document, which may be a refusal
        print_json(document)
        warn_of(results, document)
