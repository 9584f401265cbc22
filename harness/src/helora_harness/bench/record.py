"""Shared by benchmarks of the working tree: the code they measure, existing rows, and absent backends.

A row is appended as soon as its cell is finished, so that an interruption loses one cell, and the same command run
again goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import msgspec

from helora_core.errors import BackendUnavailable
from helora_core.host.manager import get_manager
from helora_harness.benchmarks.shim import library_of
from helora_harness.cases import absent
from helora_harness.checkouts import Commit, git, resolve
from helora_harness.machine import machine_facts
from helora_harness.places import REPO
from helora_harness.rows import Cell, Key, Kind, Provenance, Row, append_rows, key, read_rows, repair

DEFAULT_OUT = "helora-bench.jsonl"
THREADS = 1
"""Number of threads that workers let libraries use."""

_CODE = ("helora_core", "plugins", "pyproject.toml", ":(glob)harness/**/*.py")
"""What a worker runs: a change of a document, or of a file of rows, does not make a measurement another."""


class Origin(msgspec.Struct, frozen=True):
    """The code that is measured: its commit, and whether there are changes that the commit does not have."""

    commit: Commit
    dirty: bool


def origin(repo: Path = REPO) -> Origin:
    """Of the working tree.

    Raises:
        CommitUnusable: It is not a git checkout.
    """
    return Origin(resolve(repo, "HEAD"), bool(git(repo, "status", "--porcelain", "--", *_CODE)))


def provenance(of: Origin, backend: str, plan: dict[str, Any], *, secure: bool = True) -> Provenance:
    """Of a measurement made now.

    Args:
        of: The code.
        backend: Name of the backend, which must be usable here.
        plan: As ``plan_facts`` of ``benchmarks/shim.py`` gives it.
        secure: Whether the backend encrypts at all.
    """
    library, version = library_of(get_manager(), backend)
    return Provenance(
        commit=of.commit.hash,
        commit_date=of.commit.date,
        dirty=of.dirty,
        plan_digest=plan["digest"],
        ring_degree=plan["ring_degree"],
        modulus_bits=tuple(plan["modulus_bits"]),
        scale_bits=tuple(plan["scale_bits"]),
        levels=plan["levels"],
        security=plan["security"] if secure else "none",
        library=library,
        library_version=version,
        threads=THREADS,
        date=datetime.now(timezone.utc).replace(microsecond=0),
        **machine_facts(),
    )


NO_PLAN = {"digest": "", "ring_degree": 1, "modulus_bits": (), "scale_bits": (), "levels": 0, "security": ""}
"""Stands in where there is no plan, or only a row's key is asked for, which no plan alters."""


def key_here(kind: Kind, cell: Cell, of: Origin) -> Key:
    """The key that a row of the cell gets if it is measured now."""
    return key(Row(kind=kind, cell=cell, metrics={"steps": 0}, provenance=provenance(of, cell.backend, NO_PLAN)))


class Record:
    """A file of rows that measurements are appended to, and taken from where they are there already.

    Args:
        path: The file; it need not exist, but its folder must.
        again: Measure existing rows again.

    Raises:
        RowsRefused: The file holds something else than rows, or cannot be written.
    """

    def __init__(self, path: Path, *, again: bool = False) -> None:
        self.path = path
        append_rows(path, ())  # refuses a path that cannot be written before hours are spent, and repairs the file
        repair(path)
        self._known = [] if again else [row for row in read_rows(path) if row.outcome == "ok"]

    def known(self, kind: Kind, cell: Cell, of: Origin) -> list[Row]:
        """The good rows of a cell, the newest last; none of a tree with changes, which may be others by now."""
        if of.dirty:
            return []
        wanted = key_here(kind, cell, of)
        return [row for row in self._known if key(row) == wanted]

    def add(self, row: Row) -> Row:
        """Append a row."""
        append_rows(self.path, [row])
        return row


def usable(backends: Iterable[str]) -> tuple[list[str], dict[str, str]]:
    """The backends that can be used here, and the others with the reasons.

    Raises:
        BackendUnavailable: None can be used.
    """
    wanted = list(dict.fromkeys(backends))
    missing = absent(wanted)
    present = [name for name in wanted if name not in missing]
    if not present:
        raise BackendUnavailable(
            "None of the backends can be used here: " + "; ".join(f"{b}: {why}" for b, why in missing.items()) + ".",
            hint="Install one, or name one that `helora backends` calls usable; the emulation numpy always is.",
        )
    return present, missing


def exercised(present: Sequence[str], missing: dict[str, str]) -> Iterator[str]:
    """Lines that say how many backends were measured, and why not the others."""
    yield f"{len(present)} of {len(present) + len(missing)} backends exercised" + (":" if missing else "")
    for backend, reason in missing.items():
        yield f"  {backend}: {reason}"


@contextmanager
def resumable(path: Path, of: Origin) -> Iterator[None]:
    """Says on an interruption that what is finished is kept, and whether it will be taken up."""
    import click

    try:
        yield
    except KeyboardInterrupt:
        then = "commit the code's changes to have them taken up" if of.dirty else "the same command does the others"
        click.echo(f"interrupted: finished cells are in {path}; {then}", err=True)
        raise click.Abort from None
