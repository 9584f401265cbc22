"""What ``helora generate`` and ``helora chat`` share: their options, as one argument."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from helora_core.cli import options
from helora_core.cli.numbers import Whole
from helora_core.errors import InvalidInput

if TYPE_CHECKING:
    from helora_core.privacy.leakage import Assumption
    from helora_transformers.modes import Mode

_MOST_AHEAD = 1 << 20


@dataclass(frozen=True)
class Asked:
    """What is to be run.

    Attributes:
        base: Folder of the base model, or ``smollm2``.
        adapter: Path of an adapter, or address of a host; None for the bundled one.
        adapter_name: Which of a host's adapters.
        mode: Who runs what.
        max_new_tokens: The most tokens of an answer.
        ahead: Tokens to prepare for; 0 for none.
        fallback: What to do when less is prepared.
        assume: What is accepted of every client.
        backend, packing: Of the host in this process.
        allow_emulation: Whether that host may encrypt nothing.
        compare: Whether the base model, and the plaintext adapter, answer too.
    """

    base: str
    adapter: str | None
    adapter_name: str | None
    mode: Mode
    max_new_tokens: int
    ahead: int
    fallback: str
    assume: frozenset[Assumption]
    backend: str | None
    packing: str
    allow_emulation: bool
    compare: bool

    @property
    def host(self) -> str | None:
        """The address of the adapter's host; None for this process."""
        return self.adapter if self.adapter is not None and "://" in self.adapter else None


def _mode(ctx: click.Context, param: click.Parameter, value: str) -> Mode:
    from helora_transformers.modes import Mode

    return Mode(value)


base = click.option(
    "--base", default="smollm2", show_default=True, metavar="DIR",
    help="Folder of the base model, as transformers saves it; smollm2 is converted from a package when first used.",
)  # fmt: skip
ahead = click.option(
    "--ahead", type=Whole(2, _MOST_AHEAD), default=None, metavar="TOKENS",
    help="Prepare for so many tokens first, of prompts and answers: Δ takes microseconds then.",
)  # fmt: skip
fallback = click.option(
    "--fallback", type=click.Choice(["refuse", "wait", "online"]), default="wait", show_default=True,
    help="When less is prepared than is needed: fail, wait for more, or go on with plans that run online.",
)  # fmt: skip
_OPTIONS = (
    base,
    click.option(
        "--adapter", metavar="PATH|ADDRESS",
        help="Adapter on this machine, or its host: tcp://HOST:PORT or unix:///PATH (`helora link`). By default the "
        "bundled adapter of smollm2.",
    ),
    click.option("--adapter-name", metavar="NAME", help="Which adapter, if the host has several."),
    click.option(
        "--mode", type=click.Choice(["client-key", "plaintext"]), default="client-key", show_default=True,
        callback=_mode, help="Who runs what: base model and keys here and the adapter at its host; or all "
        "here without encryption.",
    ),
    click.option(
        "--max-new-tokens", type=Whole(1, 1 << 16), default=64, show_default=True, metavar="N",
        help="The most tokens of an answer.",
    ),
    ahead,
    fallback,
    options.assume,
    options.backend,
    options.packing,
    options.allow_emulation,
    click.option(
        "--compare/--no-compare", default=True, show_default=True,
        help="Let the base model answer too, or the adapter alone.",
    ),
)  # fmt: skip


def asking(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of ``Asked``, and pass them as the one argument ``asked``."""

    @functools.wraps(command)
    def with_asked(**arguments: Any) -> Any:
        given = {name: arguments.pop(name) for name in Asked.__dataclass_fields__}
        given["ahead"] = given["ahead"] or 0
        return command(asked=Asked(**given), **arguments)

    decorated: Callable[..., Any] = with_asked
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated


def checked_text(text: str) -> str:
    """A prompt or a message.

    Raises:
        InvalidInput: It is empty, or is not Unicode.
    """
    if not text.strip():
        raise InvalidInput("The prompt is empty.", hint="Ask something: --prompt 'What is a lighthouse?'")
    try:
        text.encode()
    except UnicodeEncodeError:  # bytes of the command line that are no UTF-8
        raise InvalidInput("The prompt is not UTF-8.", hint="Write it in UTF-8, and use a UTF-8 locale.") from None
    return text


def plain(text: str) -> str:
    """What a model or a host says, without what would steer a terminal."""
    return "".join(each if each.isprintable() or each in "\n\t" else "?" for each in text)
