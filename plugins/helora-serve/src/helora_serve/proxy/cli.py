"""``helora proxy``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from helora_core.cli import options
from helora_core.cli.numbers import Real, Whole
from helora_transformers.cli import options as talking

_EXPOSED = (
    "OPEN BEYOND THIS MACHINE: whoever reaches this port can ask the adapter, and reads and writes in plain HTTP, "
    "without a key (docs/proxy.md)."
)
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("adapter", metavar="ADDRESS|ADAPTER")
@talking.base
@click.option("--name", metavar="NAME", help="What the base model is called; by default its folder's name.")
@click.option("--port", type=Whole(0, 65535), default=8080, show_default=True, help="0: any that is free.")
@click.option(
    "--max-tokens", type=Whole(1, 1 << 16), default=512, show_default=True, metavar="N",
    help="The most tokens of an answer whose request does not say.",
)  # fmt: skip
@click.option(
    "--temperature", type=Real(0, 2), default=0.0, show_default=True, metavar="T",
    help="Of answers whose request does not say; 0: always the most probable token.",
)  # fmt: skip
@click.option(
    "--waiting", type=Whole(0, 1024), default=8, show_default=True, metavar="N",
    help="Requests that may wait while one is answered; further ones are told to come again (429).",
)  # fmt: skip
@click.option(
    "--drain", "drain_s", type=Real(0, 3600), default=30.0, show_default=True, metavar="SECONDS",
    help="How long an answer on its way may take after Ctrl-C.",
)  # fmt: skip
@click.option("--token-file", type=_FILE, metavar="FILE", help="The token that the host asks for, in a file.")
@click.option("--ca", type=_FILE, metavar="PEM", help="The authority of the host's certificate, if not the system's.")
@click.option("--certificate", type=_FILE, metavar="PEM", help="Your own certificate, if the host asks for one.")
@click.option("--key", type=_FILE, metavar="PEM", help="Its key.")
@talking.ahead
@talking.fallback
@options.assume
@options.backend
@options.packing
@options.allow_emulation
@click.option(
    "--allow-origin", "origins", multiple=True, metavar="ORIGIN",
    help="Let pages of this origin use it, as http://localhost:3000; none may by default.",
)  # fmt: skip
@click.option(
    "--allow-host", "hosts", multiple=True, metavar="NAME",
    help="Answer by this name too, besides 127.0.0.1, localhost and [::1]: a container's, for instance.",
)  # fmt: skip
@click.option(
    "--insecure-listen", "anywhere", metavar="IP",
    help="Listen at this address instead of 127.0.0.1, in plain HTTP and for whoever reaches it.",
)  # fmt: skip
@options.as_json
def proxy(as_json: bool, anywhere: str | None, **given: Any) -> None:
    """Serve OpenAI's API on this machine, from a model whose adapter is encrypted.

    ADDRESS is that of the adapter's host, as `helora serve` or `helora link` prints it. ADAPTER, a path, runs both
    parties in this process, for a try. Base model, text and keys are here; the host computes on ciphertexts. API keys
    are not needed, and go nowhere. With --json one document a line is printed: what is served, then each answer's
    counts and times.
    """
    from helora_serve.proxy.commanding import Command, Options

    if anywhere is not None:
        click.secho(_EXPOSED, fg="red", bold=True, err=True)
    Command(Options(address=anywhere, ahead=given.pop("ahead") or 0, **given), as_json=as_json).run()
