"""``helora serve`` and ``helora token``."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from helora_core.cli import options
from helora_core.cli.numbers import Real, Whole
from helora_core.cli.output import working
from helora_core.errors import HeloraError, InvalidInput

if TYPE_CHECKING:
    from helora_core.privacy.leakage import Assumption
    from helora_serve.base.manifest import Part
    from helora_serve.host import Host

_PORT = 7460
_GIB = 1 << 30


@click.command()
@click.argument("artifacts", nargs=-1, metavar="[NAME=]ARTIFACT…")
@click.option("--host", default="127.0.0.1", show_default=True, metavar="HOST", help="Name or address to listen at.")
@click.option("--port", type=Whole(0, 65535), default=_PORT, show_default=True, help="0: any that is free.")
@click.option(
    "--state", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
    help="Keep counts of queries, prepared correlations and keys here. Without it a restart forgets them.",
)  # fmt: skip
@click.option(
    "--tokens", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE",
    help="Serve only clients with a token of this file (`helora token`).",
)  # fmt: skip
@click.option("--tls-certificate", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="PEM",
              help="The server's certificate chain.")  # fmt: skip
@click.option("--tls-key", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="PEM",
              help="Its key. HELORA_TLS_KEY_PASSWORD decrypts it.")  # fmt: skip
@click.option("--tls-client-ca", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="PEM",
              help="Serve only clients with a certificate of this authority.")  # fmt: skip
@click.option("--origin", "origins", multiple=True, metavar="URL",
              help="Origin of pages that may ask, beside the server's own; may be repeated.")  # fmt: skip
@click.option("--insecure", is_flag=True, help="Listen beyond this machine without TLS, or without asking who asks.")
@click.option("--base", metavar="ID", help="The base model that the adapters are for, stated in the offer.")
@click.option("--page", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="DIR",
              help="Serve the private page at / too, for browsers, with the base model in DIR.")  # fmt: skip
@click.option("--split", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="BASE",
              help="Serve mode split too, with a page at /split: run the layers of the base model in BASE on hidden "
                   "states that clients send, which this server SEES.")  # fmt: skip
@click.option("--adapter", "adapters", multiple=True, metavar="[NAME=]DIR",
              help="An adapter for --split, as PEFT saves it; may be repeated.")  # fmt: skip
@click.option(
    "--split-encrypted", is_flag=True, help="Compute its Δ encrypted here; protects nothing from this server."
)
@click.option(
    "--hosted",
    is_flag=True,
    help="Serve mode hosted too: OpenAI's API for text that clients send, which this server SEES.",
)
@click.option("--workers", type=Whole(1, 256), help="Threads that compute; by default one a processor.")
@click.option("--sessions", type=Whole(1, 4096), default=32, show_default=True, help="Sessions at once.")
@click.option("--client-sessions", type=Whole(1, 4096), default=8, show_default=True,
              help="Sessions of one client at once.")  # fmt: skip
@click.option("--ttl", "ttl_s", type=Real(1, 1e6), default=300.0, show_default=True, metavar="SECONDS",
              help="Drop a session that nothing comes for.")  # fmt: skip
@click.option("--credits", "credits_", type=Whole(1, 1024), default=8, show_default=True,
              help="Requests of a session in flight.")  # fmt: skip
@click.option(
    "--queries",
    type=Whole(1),
    metavar="N",
    help="Queries of each module that a client may ever have; d_in of them give it away. By default any.",
)
@click.option("--key-store", "key_store_gib", type=Real(0.001), default=4.0, show_default=True,
              metavar="GIB", help="Evaluation keys on disk.")  # fmt: skip
@click.option("--window", "window_mib", type=Whole(1, 4096), default=64, show_default=True, metavar="MIB",
              help="Answers of a session that wait to be acknowledged; requests in flight the same.")  # fmt: skip
@options.backend
@options.assume
@options.allow_emulation
@options.as_json
def serve(
    artifacts: tuple[str, ...],
    host: str,
    port: int,
    state: Path | None,
    tokens: Path | None,
    tls_certificate: Path | None,
    tls_key: Path | None,
    tls_client_ca: Path | None,
    origins: tuple[str, ...],
    insecure: bool,
    base: str | None,
    page: Path | None,
    split: Path | None,
    adapters: tuple[str, ...],
    split_encrypted: bool,
    hosted: bool,
    workers: int | None,
    sessions: int,
    client_sessions: int,
    ttl_s: float,
    credits_: int,
    queries: int | None,
    key_store_gib: float,
    window_mib: int,
    backend: str | None,
    assume: frozenset[Assumption],
    allow_emulation: bool,
    as_json: bool,
) -> None:
    """Serve compiled adapters to clients that keep their activations and keys, until Ctrl-C.

    ARTIFACT is a directory from `helora compile --out`. Several are served under names, as `legal=DIR medical=DIR`;
    plans of an adapter that run ahead of time go by its name and `.ahead`. The server sees ciphertexts, evaluation
    keys, names of modules and numbers of tokens, and no text. SIGHUP loads the artifacts anew: new sessions get them,
    and open ones end with what they began with.

    With --split, clients may keep the ends of the base model alone, and with --hosted nothing: then the server sees
    what they send. Each route, log line and page names its mode. Without an ARTIFACT these modes are served alone.
    """
    from helora_core.artifact.named import by_name
    from helora_serve.auth import Access, Tokens, is_loopback
    from helora_serve.host import TLS, Host
    from helora_serve.limits import Limits
    from helora_serve.loading import Artifacts
    from helora_serve.offer import Base
    from helora_serve.service import Service, State
    from helora_serve.split.loading import models_of
    from helora_serve.worker import Threads

    if (tls_certificate is None) != (tls_key is None) or (tls_client_ca and not tls_certificate):
        raise InvalidInput(
            "Serve: a certificate, its key or the clients' authority was given without the others.",
            hint="Give --tls-certificate and --tls-key, and --tls-client-ca if clients have certificates.",
        )
    if not artifacts and split is None:
        raise InvalidInput("Serve: there is nothing to serve.", hint="Name an ARTIFACT, or give --split BASE.")
    limits = Limits(
        sessions=sessions,
        client_sessions=client_sessions,
        sockets=4 * sessions,
        ttl_s=ttl_s,
        credits=credits_,
        queries=queries,
        key_store_bytes=int(key_store_gib * _GIB),
        window_bytes=window_mib << 20,
        credit_bytes=window_mib << 20,
    )
    with working(f"Loading the base model of {split}"):
        layers, whole = models_of(split, adapters, encrypted=split_encrypted, hosted=hosted)
    pages, ends = _converted(page, "whole") if page else None, _ends(split)
    accepted = Tokens.read(tokens) if tokens else None
    load = None
    if artifacts:
        load = Artifacts(
            by_name(artifacts, "Serve"),
            limits=limits,
            backend=backend,
            allow_emulation=allow_emulation,
            assume=assume,
            folder=state / "versions" if state else None,
        )
    with working("Loading what is served"):
        service = Service(
            load,
            limits=limits,
            access=Access(
                accepted,
                origins=origins,
                any_host=accepted is not None or tls_client_ca is not None or not is_loopback(host),
            ),
            state=State(state),
            worker=Threads(workers),
            bases={"": Base(id=base)} if base else {},
            layers=layers,
            hosted=whole,
        )
    password = os.environ.get("HELORA_TLS_KEY_PASSWORD")
    tls = None
    if tls_certificate and tls_key:
        tls = TLS(certificate=tls_certificate, key=tls_key, key_password=password, client_ca=tls_client_ca)
    listening = Host(service, host=host, port=port, tls=tls, insecure=insecure, pages=pages, ends=ends)
    _log_to_stderr(f"INSECURE: {listening.warning}" if listening.insecure else "")
    from helora_serve.started import document_of, show

    document = document_of(listening, artifacts)
    asyncio.run(_until_stopped(listening, lambda: show(document, listening, as_json=as_json)))
    if as_json:
        click.echo(msgspec.json.encode({"event": "stopped", **_totals(listening)}))


@click.command()
@click.argument("name")
@click.option("--tokens", type=click.Path(dir_okay=False, path_type=Path), required=True, metavar="FILE",
              help="The file of `helora serve --tokens`; a line is added.")  # fmt: skip
@options.as_json
def token(name: str, tokens: Path, as_json: bool) -> None:
    """Make a token for a client, and print it once: the file has its SHA-256 only.

    Who has it is known to the server as NAME, and its queries are counted together.
    """
    from helora_serve.auth import Tokens, new_token

    made, line = new_token(name)
    if tokens.exists() and name in Tokens.read(tokens, some=False):
        raise InvalidInput(f"Tokens: {name} has one in {tokens}.", hint="Remove its line first.")
    with os.fdopen(os.open(tokens, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "a", encoding="ascii") as file:
        file.write(line + "\n")
    Tokens.read(tokens)
    click.echo(msgspec.json.encode({"name": name, "token": made}) if as_json else made)


def _converted(folder: Path, part: Part) -> Path:
    """What browsers load of a base model, converted if it has to be."""
    from rich.console import Console
    from rich.progress import Progress

    from helora_serve.base.cache import converted

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("Converting the base model for browsers", total=1.0)
        return converted(folder, part=part, on_share=lambda share: bar.update(task, completed=share))


def _ends(folder: Path | None) -> Path | None:
    """What the split page loads; None if there is no split mode, or its model is one that browsers cannot begin."""
    if folder is None:
        return None
    try:
        return _converted(folder, "ends")
    except InvalidInput as error:
        click.secho(f"No split page: {error}", fg="yellow", err=True)
        return None


async def _until_stopped(host: Host, started: Any) -> None:
    """Run until Ctrl-C or SIGTERM; SIGHUP loads anew."""
    from helora_serve.host import settle

    loop, reloading = asyncio.get_running_loop(), set[asyncio.Task[None]]()

    async def reload() -> None:
        try:
            await host.service.reload()
        except HeloraError as error:
            logging.getLogger("helora.serve").error("not reloaded, and what was served stays: %s", error)

    def hang_up() -> None:
        task = loop.create_task(reload())
        reloading.add(task)
        task.add_done_callback(reloading.discard)

    if sys.platform == "win32":
        signal.signal(signal.SIGINT, lambda *_: host.stop())
    else:
        for each in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(each, host.stop)
        loop.add_signal_handler(signal.SIGHUP, hang_up)
    serving = loop.create_task(host.run())
    while not host.started and not serving.done():
        await asyncio.sleep(0.005)
    if not serving.done():
        settle()
        started()
    await serving


def _log_to_stderr(note: str) -> None:
    """Our own log lines, each with its mode and the note; of uvicorn's the errors."""
    from helora_serve.mode import of_logger

    class Formatter(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            record.mode = of_logger(record.name)
            return super().format(record)

    logger, handler = logging.getLogger("helora.serve"), logging.StreamHandler()
    handler.setFormatter(Formatter(f"%(asctime)s [%(mode)s]{f' [{note}]' if note else ''} %(message)s"))
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False


def _totals(host: Host) -> dict[str, float]:
    registry = host.service.metrics.registry
    names = {
        "sessions": "helora_sessions_opened_total",
        "resumed": "helora_sessions_resumed_total",
        "queries": "helora_queries_total",
    }
    return {key: int(registry.get_sample_value(name) or 0) for key, name in names.items()}
