"""``helora link``: serves a compiled artifact to clients in other processes."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from helora_core.cli import options
from helora_core.cli.numbers import Real, Whole
from helora_core.cli.terminal import say

if TYPE_CHECKING:
    from helora_core.parties.server import Server
    from helora_core.privacy.leakage import Assumption
    from helora_transformers.link.host import Ended

_UNPROTECTED = (
    "NEITHER ENCRYPTED NOR AUTHENTICATED: whoever reaches this port can ask for Δ, and whoever is on the way can "
    "answer in this server's place, or exchange offer and keys (docs/link.md)."
)

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_POLL_S = 0.1

_BATCHES = 1024
"""Batches of correlations that are kept for one client: a model has one for each group of modules, and more while they
are filled again.
"""


@click.command()
@click.argument("artifacts", nargs=-1, required=True, metavar="[NAME=]ARTIFACT…")
@click.option(
    "--listen", "address", default="tcp://127.0.0.1:7461", show_default=True, metavar="ADDRESS",
    help="tcp://HOST:PORT with a loopback host, or unix:///PATH, which only you can connect to.",
)  # fmt: skip
@click.option(
    "--idle", "idle_s", type=Real(min=0.1, max=1e6), default=900.0, show_default=True, metavar="SECONDS",
    help="End a connection, and its session, if nothing whole comes for so long.",
)  # fmt: skip
@click.option("--connections", type=Whole(1, 1024), default=16, show_default=True, help="Connections at once.")
@options.backend
@options.assume
@options.allow_emulation
@click.option(
    "--insecure-plain-tcp", "anywhere", is_flag=True,
    help="Listen at any TCP address. Peers are not authenticated, and anyone on the way can take their place.",
)  # fmt: skip
@options.wide
@options.as_json
def link(
    artifacts: tuple[str, ...],
    address: str,
    idle_s: float,
    connections: int,
    backend: str | None,
    assume: frozenset[Assumption],
    allow_emulation: bool,
    anywhere: bool,
    as_json: bool,
) -> None:
    """Serve compiled adapters to clients in other processes, until Ctrl-C.

    ARTIFACT is a directory from `helora compile --out`. Several are served under names, as `legal=DIR medical=DIR`;
    plans of an adapter that run ahead of time go by its name and `.ahead`, as `legal.ahead=DIR`. Activations and Δ pass
    encrypted; the link itself is neither encrypted nor authenticated, and so stays on this machine. --json prints one
    document a line: what is served, each session that ended, and the totals.
    """
    from helora_core.cli.output import warn_of_security
    from helora_core.host.manager import get_manager
    from helora_transformers.link.host import Host

    server = _loaded(artifacts, backend, assume, allow_emulation, connections)
    name, plans = server.served.backend.name, [each.plan for many in server.served.modules.values() for each in many]
    log = _Log(as_json)
    with _until_stopped() as wait:
        with Host(server, address, connections=connections, idle_s=idle_s, anywhere=anywhere, ended=log.ended) as host:
            warn_of_security(plans, backend=name, secure=get_manager().backends()[name].spec.provides_security)
            if anywhere:
                click.secho(_UNPROTECTED, fg="red", bold=True, err=True)
            log.started(_document(server, artifacts, host.address))
            wait()
        log.stopped()


def _loaded(
    artifacts: Sequence[str],
    backend: str | None,
    assume: frozenset[Assumption],
    allow_emulation: bool,
    connections: int,
) -> Server:
    from helora_core.artifact.named import by_name
    from helora_core.artifact.plan_file import Demands
    from helora_core.parties.limits import ServerLimits
    from helora_core.parties.server import Server

    directories = by_name(artifacts, "Link")
    return Server.load(
        directories.get("") or directories,
        backend=backend,
        allow_emulation=allow_emulation,
        demands=Demands(assume=assume),
        limits=ServerLimits(sessions=2 * connections, batches=_BATCHES),  # a client may refill by a second session
    )


@contextmanager
def _until_stopped() -> Iterator[Any]:
    """Yields what waits for Ctrl-C or SIGTERM. Both are noted from now on, and end nothing by themselves."""
    received: list[int] = []  # no Event: its lock might be held by the very wait that the handler interrupts
    before = {each: signal.signal(each, lambda number, _: received.append(number)) for each in _SIGNALS}

    def wait() -> None:
        while not received:
            time.sleep(_POLL_S)

    try:
        yield wait
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _document(server: Server, artifacts: Sequence[str], address: str) -> dict[str, Any]:
    modules = [each for many in server.served.modules.values() for each in many]
    assumes = {each for module in modules for each in module.plan.packing.leakage.assumes}
    return {
        "event": "serving",
        "artifacts": list(artifacts),
        "address": address,
        "backend": server.served.backend.name,
        "library": server.served.origin.library,
        "assumes": sorted(each.option for each in assumes),
        "modules": [
            {
                "module": module.name,
                "parts": [part.name for part in module.parts],
                "shape": str(module.plan.shape),
                "packing": module.plan.packing.name,
                "ring": module.plan.params.ring_degree,
                "tokens_per_run": module.plan.tokens_per_run,
                "security_bits": module.plan.verdict.asked_bits,
                "sanitize_bits": module.plan.sanitize_bits,
                "leakage": module.plan.leakage_label,
            }
            for module in modules
        ],
    }


class _Log:
    """Prints what happens, from any thread, and adds it up."""

    def __init__(self, as_json: bool) -> None:
        self._as_json, self._lock = as_json, threading.Lock()
        self._totals = {"connections": 0, "sessions": 0, "messages": 0, "refused": 0, "bytes_up": 0, "bytes_down": 0}

    def started(self, document: dict[str, Any]) -> None:
        """What is served."""
        if self._as_json:
            self._print(document)
            return
        from helora_core.cli.output import print_table
        from helora_core.cli.tables import BEGINNINGS, Table

        numbers = ("N", "tok/run", "security")
        rows = [
            (row["module"], row["shape"], row["packing"], str(row["ring"]), str(row["tokens_per_run"]),
             f"{row['security_bits']} bits", row["leakage"])
            for row in document["modules"]
        ]  # fmt: skip
        spare = ("security", BEGINNINGS, "shape", "N", "tok/run", "packing")
        headings = ("module", "shape", "packing", *numbers, "leakage")
        print_table(Table.of_text(headings, rows, numbers=numbers, spare=spare, names="module"))
        assumes = ", ".join(document["assumes"]) or "nothing"
        say(f"backend {document['backend']} ({document['library']}); assumed of clients: {assumes}", hanging=2)
        say(f"serving {', '.join(document['artifacts'])} at {document['address']}; Ctrl-C ends it", hanging=2)

    def ended(self, ended: Ended) -> None:
        """A connection."""
        row = {name: getattr(ended, name) for name in ended.__struct_fields__}
        with self._lock:
            for name, value in {**row, "connections": 1, "sessions": int(ended.opened)}.items():
                if name in self._totals:
                    self._totals[name] += value
            if self._as_json:
                self._print({"event": "ended", **row})
            else:
                what = "session" if ended.opened else "connection without a session"
                click.echo(f"{what} {ended.number}: {_traffic(row)}, {ended.seconds:.1f} s; {ended.why}")

    def stopped(self) -> None:
        """The totals."""
        with self._lock:
            if self._as_json:
                self._print({"event": "stopped", **self._totals})
            else:
                what = ", ".join(f"{self._totals[name]} {name}" for name in ("connections", "sessions"))
                say(f"in all: {what}, {_traffic(self._totals)}", hanging=2)

    def _print(self, document: dict[str, Any]) -> None:
        import msgspec

        click.echo(msgspec.json.encode(document).decode())


def _traffic(row: dict[str, Any]) -> str:
    from helora_core.cli.output import size

    requests = f"{row['messages']} messages answered, {row['refused']} requests refused"
    return f"{requests}, {size(row['bytes_up'])} up, {size(row['bytes_down'])} down"
