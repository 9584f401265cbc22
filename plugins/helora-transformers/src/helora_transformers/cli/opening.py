"""Opens what the commands talk to: the base model, and its adapter here or at a host."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from helora_core.errors import InvalidInput, LeakageRefused
from helora_transformers.cli.options import Asked

if TYPE_CHECKING:
    from helora_core.adapter.lora import LoRAAdapter
    from helora_transformers.modes import Variant, Variants
    from helora_transformers.private import PrivateModel


@dataclass(frozen=True)
class Opened:
    """What is talked to.

    Attributes:
        model, tokenizer: The base model's.
        private: The model with the encrypted adapter; None in mode plaintext.
        variants: Makes the model one of its variants.
        shown: The variants that answer, in the order in which they are shown.
        protects: What the mode protects, in a sentence.
    """

    model: Any
    tokenizer: Any
    private: PrivateModel | None
    variants: Variants
    shown: tuple[Variant, ...]
    protects: str


@contextmanager
def opened(
    asked: Asked, *, plaintext_too: bool, check: Callable[[Any, Any], object], confirm: bool = False
) -> Iterator[Opened]:
    """Load, compile, connect and prepare, with progress on standard error.

    Args:
        asked: The options.
        plaintext_too: Whether the plaintext adapter answers beside the encrypted one, if it is at hand.
        check: Refuses a base model and its tokenizer, before the adapter is compiled and prepared, which may take long.
        confirm: Whether somebody at a terminal may be asked to accept an assumption.

    Raises:
        HeloraError: As ``load_base``, ``connect``, ``load_adapter`` and ``attach`` raise it.
    """
    from helora_transformers.connecting import connect
    from helora_transformers.models import load_base, require_libraries
    from helora_transformers.modes import Mode, PlaintextModel, Variant, Variants, require_runnable

    require_runnable(asked.mode, asked.host)
    _refuse_of_host(asked)
    adapter = None if asked.host else _adapter(asked)
    require_libraries()
    if asked.ahead and asked.host is None and asked.mode is Mode.CLIENT_KEY:
        asked = _accepted(asked, confirm=confirm)
    with ExitStack() as stack:
        host = None
        if asked.host is not None:
            host = connect(asked.host)
            stack.callback(host.close)
        with working("loading torch") as stage:
            model, tokenizer = load_base(asked.base, on_stage=stage)
        check(model, tokenizer)
        plaintext = None
        if adapter is not None and (plaintext_too or asked.mode is Mode.PLAINTEXT):
            plaintext = PlaintextModel(model, adapter)
            stack.callback(plaintext.close)
        private = None
        if asked.mode is Mode.CLIENT_KEY:
            private = _attached(model, host if adapter is None else adapter, asked)
            stack.callback(private.close)
            _warn(private)
        wanted = Variant.ENCRYPTED if private else Variant.PLAINTEXT
        shown = [wanted]
        if asked.compare:
            both = [Variant.PLAINTEXT] if plaintext and private else []
            shown = [Variant.BASE, *both, wanted]
        variants = Variants(private, plaintext)
        yield Opened(model, tokenizer, private, variants, tuple(shown), asked.mode.protects(asked.host))


def _refuse_of_host(asked: Asked) -> None:
    """Refuse options that a host elsewhere has decided."""
    if asked.host is None:
        if asked.adapter_name is not None:
            raise InvalidInput(
                "--adapter-name chooses among the adapters of a host; here there is one.", hint="Leave it out."
            )
        return
    context = click.get_current_context()
    for name in ("backend", "packing", "allow_emulation"):
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            option = name.replace("_", "-")
            raise InvalidInput(f"--{option} was decided at {asked.host}.", hint="Leave it out.")


def _adapter(asked: Asked) -> LoRAAdapter:
    from helora_core.adapter.load import load_adapter
    from helora_core.data.bundled import bundled_adapter

    return bundled_adapter() if asked.adapter is None else load_adapter(Path(asked.adapter))


def _accepted(asked: Asked, *, confirm: bool) -> Asked:
    """With what precomputed plans assume, which the adapter's owner has to accept; here that is whoever runs this."""
    from dataclasses import replace

    from helora_core.privacy.leakage import Assumption

    assumption = Assumption.HONEST_KEYS
    if assumption in asked.assume:
        return asked
    if confirm:
        click.echo(f"--ahead assumes {assumption.value}: {assumption.explanation}", err=True)
        if click.confirm("Do you accept that of every client?", default=False, err=True):
            return replace(asked, assume=asked.assume | {assumption})
    raise LeakageRefused(
        f"--ahead assumes {assumption.value}: {assumption.explanation}",
        hint=f"If you accept that of every client, add --assume {assumption.option}; otherwise leave --ahead out.",
    )


def _attached(model: Any, adapter: Any, asked: Asked) -> PrivateModel:
    from helora_core.cli.output import progress
    from helora_core.compiler.request import Constraints
    from helora_transformers.attaching import attach

    wishes: dict[str, Any] = {"adapter_name": asked.adapter_name, "fallback": asked.fallback}
    if asked.host is None:
        constraints = Constraints(assume=asked.assume)
        wishes |= {"packing": asked.packing, "backend": asked.backend, "constraints": constraints}
        wishes["allow_emulation"] = asked.allow_emulation
    if not asked.ahead:
        with working("compiling the adapter" if asked.host is None else f"opening a session at {asked.host}"):
            return attach(model, adapter, **wishes)
    with progress("tokens prepared", asked.ahead) as advance:
        return attach(model, adapter, ahead=asked.ahead, on_prepared=Share(advance, asked.ahead), **wishes)


class Share:
    """Advances a bar to a share of its whole."""

    def __init__(self, advance: Callable[[float], object], total: int) -> None:
        self._advance, self._total, self._done = advance, total, 0.0

    def __call__(self, share: float) -> None:
        self._advance(share * self._total - self._done)
        self._done = share * self._total


def _warn(private: PrivateModel) -> None:
    from helora_core.cli.output import warn_of_security
    from helora_core.host.manager import get_manager

    plans = [plan for each in private.client.modules for plan in private.client.plans_of(each)]
    backend = private.report().backend
    known = get_manager().backends().get(backend)
    warn_of_security(plans, backend=backend, secure=known is None or known.spec.provides_security)


@contextmanager
def working(what: str) -> Iterator[Callable[[str], None]]:
    """A note of what is being done, on standard error if that is a terminal; yields what changes it."""
    if not sys.stderr.isatty():
        yield lambda stage: None
        return
    from rich.console import Console

    with Console(stderr=True).status(what) as status:
        yield lambda stage: status.update(stage)
