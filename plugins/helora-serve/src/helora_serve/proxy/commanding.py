"""What ``helora proxy`` does: loads, connects, prints what it serves, and serves until Ctrl-C."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from helora_core.cli.output import progress
from helora_core.compiler.request import Constraints
from helora_core.errors import InvalidInput
from helora_serve.proxy.announcing import Serving
from helora_serve.proxy.answering import Answering
from helora_serve.proxy.app import application
from helora_serve.proxy.running import LOOPBACK, Server, heeding_signals, listening
from helora_transformers.cli.opening import Share, working
from helora_transformers.cli.options import plain
from helora_transformers.models import load_base, require_libraries
from helora_transformers.modes import Mode

if TYPE_CHECKING:
    from helora_core.privacy.leakage import Assumption
    from helora_serve.proxy.attachment import Attachment


@dataclass(frozen=True)
class Options:
    """The options of the command, as it describes them."""

    adapter: str
    base: str
    name: str | None
    port: int
    max_tokens: int
    temperature: float
    waiting: int
    drain_s: float
    ahead: int
    fallback: str
    assume: frozenset[Assumption]
    backend: str | None
    packing: str
    allow_emulation: bool
    origins: tuple[str, ...]
    hosts: tuple[str, ...]
    address: str | None
    token_file: Path | None
    ca: Path | None
    certificate: Path | None
    key: Path | None

    @property
    def host(self) -> str | None:
        """The address of the adapters' host; None for this process."""
        return self.adapter if "://" in self.adapter else None

    def connecting(self) -> dict[str, Any]:
        """What ``connect`` is told beside the address."""
        given: dict[str, Any] = {"ca": self.ca, "certificate": self.certificate, "key": self.key}
        if self.token_file is not None:
            given["token"] = self.token_file.read_text(encoding="utf-8").strip()
        return {name: value for name, value in given.items() if value is not None}


class Command:
    """The command.

    Args:
        options: Its options.
        as_json: Whether machines read what it prints.
    """

    def __init__(self, options: Options, *, as_json: bool) -> None:
        self._options, self._as_json = options, as_json

    def run(self) -> None:
        """Serve until Ctrl-C.

        Raises:
            HeloraError: There is nothing to be served, or nowhere to.
        """
        options = self._options
        require_libraries()
        with ExitStack() as stack:
            sock = stack.enter_context(listening(options.address or LOOPBACK, options.port))
            if options.host is None and not Path(options.adapter).exists():
                raise InvalidInput(
                    f"Proxy: there is no adapter {options.adapter}, and it is no address.",
                    hint="Give a directory, or the address that helora serve or helora link prints.",
                )
            adapter = options.adapter if options.host is None else self._dialling(stack, options.host)
            with working("loading torch") as stage:
                model, tokenizer = load_base(options.base, on_stage=stage)
            attachment = self._attachment(model, adapter)
            stack.callback(attachment.close)
            from helora_serve.proxy.private_models import PrivateModels

            models = PrivateModels(
                options.name or Path(options.base).resolve().name, model, tokenizer, attachment,
                max_tokens=options.max_tokens, temperature=options.temperature,
            )  # fmt: skip
            answering = Answering(models, waiting=options.waiting)
            stack.callback(answering.close)
            app = application(answering, hosts=options.hosts, origins=options.origins, noted=self._noted)
            stack.enter_context(heeding_signals())
            self._announce(attachment, models.names, sock.getsockname()[1])
            Server(app, answering, drain_s=options.drain_s).run(sockets=[sock])
            if self._as_json:
                _print({"event": "stopped"})

    def _dialling(self, stack: ExitStack, address: str) -> Callable[[], Any]:
        """What connects to the host. It is tried at once, before a model is loaded for nothing."""
        from helora_transformers import connect

        how = self._options.connecting()
        first = [connect(address, **how)]
        stack.callback(first[0].close)
        return lambda: first.pop() if first else connect(address, **how)

    def _attachment(self, model: Any, adapter: str | Callable[[], Any]) -> Attachment:
        from helora_serve.proxy.attachment import Attachment

        options, host = self._options, self._options.host
        wishes: dict[str, Any] = {"fallback": options.fallback, "ahead": options.ahead}
        if host is None:
            constraints = Constraints(assume=options.assume)
            wishes |= {"packing": options.packing, "backend": options.backend, "constraints": constraints}
            wishes["allow_emulation"] = options.allow_emulation
        if not options.ahead:
            with working("compiling the adapter" if host is None else f"opening a session at {host}"):
                return Attachment(model, adapter, where=host, options=wishes)
        with progress("tokens prepared", options.ahead) as advance:
            share = Share(advance, options.ahead)
            return Attachment(model, adapter, where=host, options={**wishes, "on_prepared": share})

    def _announce(self, attachment: Attachment, names: tuple[str, ...], port: int) -> None:
        from helora_serve.proxy.private_models import leakage_of

        options, private = self._options, attachment.private
        report = private.report() if private else None
        address = options.address or LOOPBACK
        serving = Serving(
            url=f"http://{f'[{address}]' if ':' in address else address}:{port}/v1",
            base=options.base,
            models=names,
            host=options.host,
            mode="one-process" if options.host is None else Mode.CLIENT_KEY.value,
            sees=Mode.CLIENT_KEY.protects(options.host),
            leakage=leakage_of(report) if report else "",
            offer=attachment.offer_sha256,
        )
        if self._as_json:
            _print(serving.to_dict())
            return
        for line in serving.lines():
            click.echo(plain(line))

    def _noted(self, what: dict[str, Any]) -> None:
        with suppress(OSError):  # nobody reads it any more
            if self._as_json:
                _print(what)
            else:
                click.echo(plain(_line(what)))


def _line(what: dict[str, Any]) -> str:
    """For people."""
    if what["event"] == "refused":
        return f"refused {what['status']} {what['code']}, {what['seconds']:.1f} s"
    if what["event"] == "cancelled":
        return f"{what['model']}: cancelled after {what['seconds']:.1f} s"
    return (
        f"{what['model']}: {what['prompt_tokens']} tokens given, {what['cached_tokens']} of them read before, "
        f"{what['completion_tokens']} answered in {what['seconds']:.1f} s"
    )


def _print(document: dict[str, Any]) -> None:
    click.echo(json.dumps(document, ensure_ascii=False))
