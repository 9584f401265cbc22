"""``helora bench sessions``: the memory of a server that serves the bundled adapter to one client, and to many.

Each number of sessions is measured in its own process. Every session has a client with its own keys, which
asks for one token of every module and is forgotten; the sessions stay open. Weights are encoded once for all of them,
so that a further session only adds its keys. Encoded weights are counted over the whole process.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import click
import msgspec

from helora_core.cli.numbers import Whole
from helora_core.cli.options import as_json, wide
from helora_core.errors import InvalidInput
from helora_harness.places import DATA

SCHEMA = 1
FIGURES = DATA / "sessions.json"


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """The memory of a server's process when all sessions have been answered.

    Attributes:
        sessions: Open sessions.
        modules: Modules that each was answered; modules that run together count once.
        rss_bytes: Resident memory of the process; None if the system does not report it.
        constants_bytes: All encoded weights in memory.
        keys_bytes_each: Evaluation keys of one session, as they were sent.
    """

    sessions: int
    modules: int
    rss_bytes: int | None
    constants_bytes: int
    keys_bytes_each: int


def held(backend: str, modules: str, sessions: int, step: Callable[[], object] = lambda: None) -> Held:
    """Serve modules of the bundled adapter to sessions in this process, and measure its memory.

    Args:
        backend: Name of the backend.
        modules: As for ``helora demo --module``.
        sessions: How many.
        step: Called when a session has been answered a module.

    Raises:
        HeloraError: The backend is unusable here, or there are no such modules.
    """
    import helora_core as helora
    from helora_core.data.bundled import bundled_activations, bundled_adapter
    from helora_core.execution.constants import EncodedConstants

    lora = helora.compile(bundled_adapter(), tokens=1, modules=modules, backend=backend)
    # Each session keeps one answer, rather than one for each module, so that constants and keys dominate.
    server = lora.server(limits=helora.ServerLimits(sessions=sessions, requests=1))
    activations, offer = bundled_activations(), server.offer()
    opened, keys = [], b""
    for _ in range(sessions):
        client = lora.client(offer)
        keys = client.evaluation_keys()
        opened.append(server.open(keys))
        for each in lora.modules:
            names = [part.name for part in each.parts]
            client.delta(names, activations[names[0]][-1:], opened[-1])
            step()
    del client
    gc.collect()
    constants = (each for each in gc.get_objects() if isinstance(each, EncodedConstants))
    return Held(
        sessions=len(opened),
        modules=len(lora.modules),
        rss_bytes=_resident_bytes(),
        constants_bytes=sum(each.bytes_held for each in constants),
        keys_bytes_each=len(keys),
    )


def _resident_bytes() -> int | None:
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def measured(backend: str, modules: str, sessions: int, step: Callable[[], object]) -> Held:
    """``held`` in a new process.

    Raises:
        InvalidInput: It ended without an answer; its messages are on standard error.
    """
    command = [sys.executable, "-m", __name__, backend, modules, str(sessions)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        last = ""
        for line in process.stdout:
            last = line
            step()
    if process.returncode:
        raise InvalidInput(
            f"bench sessions: the process with {sessions} sessions ended with status {process.returncode}.",
            hint="What it said is above; fewer --sessions or --modules take less memory.",
        )
    return msgspec.json.decode(last, type=Held)


@click.command("sessions")
@click.option("--backend", metavar="NAME", help="By default tenseal if it can be used, else numpy.")
@click.option("--modules", default="all", show_default=True, metavar="PATTERN", help="Modules of the bundled adapter.")
@click.option(
    "--sessions", "numbers", type=Whole(1), multiple=True, default=(1, 16), show_default=True, metavar="N",
    help="How many; may be given several times.",
)  # fmt: skip
@click.option("--write", is_flag=True, help="Write the figures to harness/sessions.json too.")
@wide
@as_json
def sessions(backend: str | None, modules: str, numbers: Sequence[int], write: bool, as_json: bool) -> None:
    """Measure the memory of a server with one session and with several."""
    from helora_core.cli.output import print_json, print_table, progress, size
    from helora_core.cli.tables import Table
    from helora_core.data.bundled import bundled_adapter
    from helora_core.host.manager import get_manager
    from helora_harness.bench import record
    from helora_harness.benchmarks.shim import library_of
    from helora_harness.machine import machine_facts

    name = record.usable([backend] if backend else ["tenseal", "numpy"])[0][0]
    of, total = record.origin(), sum(numbers) * len(bundled_adapter().select(modules))
    with progress("answers", total) as advance:
        rows = [measured(name, modules, number, lambda: advance(1)) for number in numbers]
    document = {
        "schema": SCHEMA,
        "backend": name,
        "library": " ".join(library_of(get_manager(), name)),
        "commit": of.commit.hash + "+changes" * of.dirty,
        "machine": machine_facts(),
        "modules": modules,
        "rows": rows,
    }
    if write:
        FIGURES.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n")
    if as_json:
        print_json(document)
        return
    headings = ("sessions", "modules", "encoded weights", "keys of each", "resident memory")
    cells = [
        (str(row.sessions), str(row.modules), size(row.constants_bytes), size(row.keys_bytes_each),
         "–" if row.rss_bytes is None else size(row.rss_bytes))
        for row in rows
    ]  # fmt: skip
    print_table(Table.of_text(headings, cells, numbers=headings))


def main(arguments: Sequence[str]) -> None:
    """A line for each answer, and one of JSON."""
    backend, modules, number = arguments
    found = held(backend, modules, int(number), lambda: print(flush=True))
    print(msgspec.json.encode(found).decode())


if __name__ == "__main__":
    main(sys.argv[1:])
