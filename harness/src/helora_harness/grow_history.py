"""Measures the commits that have no rows yet, for the files of ``harness/history``.

``counts.deltas`` gets the counts of plans, and the emulation's precision and bytes with fixed keys: the same on
every machine, so there is only one row per commit and cell. Commits that change no code have the rows of the commit
before, and are skipped; those that cannot be run are named, and tried again next time.

``timings.jsonl`` gets wall times of commits that are asked for: all of them run at once, taking turns forwards and
backwards, so that a drift of the machine does not favour one.

It is ``helora bench grow``.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import click

from helora_core.cli.options import as_json
from helora_harness.checkouts import Commit, CommitUnusable, Worker, code_at, git, resolve
from helora_harness.deltas import SUFFIX, append_deltas, read_deltas
from helora_harness.machine import machine_facts
from helora_harness.metrics import COUNTS, lost_bits
from helora_harness.places import HISTORY, REPO
from helora_harness.rows import Cell, Provenance, Row, append_rows, key, read_rows

COUNTED = tuple(
    Cell(backend="", packing=packing, shape=shape, tokens=1)
    for packing, shapes in {
        "rank_bsgs": ("512:512:8", "1536:1536:16", "4096:4096:16"),
        "zero_moai": ("512:512:8",),
        "halevi_shoup_bsgs": ("1536:1536:16",),
        "cheetah": ("1536:1536:16",),
    }.items()
    for shape in shapes
)
"""Only a few, since each takes time at every commit. Rows that do not change take no room in the file."""

_CODE = ("helora_core", "plugins", "pyproject.toml")
"""The code that a worker runs."""

EMULATED = (
    Cell(backend="numpy", packing="rank_bsgs", shape="512:512:8", tokens=1),
    Cell(backend="numpy", packing="zero_moai", shape="512:512:8", tokens=1),
)
TIMED = (
    Cell(backend="tenseal", packing="rank_bsgs", shape="512:512:8", tokens=1),
    Cell(backend="tenseal", packing="rank_bsgs", shape="1536:1536:16", tokens=1),
    Cell(backend="tenseal", packing="zero_moai", shape="512:512:8", tokens=1),
)
_BYTES = {"bytes_up": "bytes_up_per_token", "bytes_down": "bytes_down_per_token", "bytes_keys": "bytes_keys"}
_KEYS_SEED = 1


def provenance(commit: Commit, answer: dict[str, Any], *, date: datetime) -> Provenance:
    """The provenance of a worker's answer."""
    plan = answer["plan"]
    return Provenance(
        commit=commit.hash,
        commit_date=commit.date,
        dirty=False,
        plan_digest=plan["digest"],
        ring_degree=plan["ring_degree"],
        modulus_bits=tuple(plan["modulus_bits"]),
        scale_bits=tuple(plan["scale_bits"]),
        levels=plan["levels"],
        security=plan["security"] if answer.get("provides_security", True) else "none",
        library=answer.get("library", ""),
        library_version=answer.get("library_version", ""),
        threads=1,
        date=date,
        **machine_facts(),
    )


def counted(commit: Commit, worker: Worker) -> Iterator[Row | str]:
    """Rows of one commit that hold on every machine; a line for each cell that it cannot run."""
    now = datetime.now(timezone.utc).replace(microsecond=0)
    for cell in (*COUNTED, *EMULATED):
        emulated = bool(cell.backend)
        answer = worker.ask(
            do="run" if emulated else "plan", cell=[cell.backend, cell.packing, cell.shape, 1], seed=_KEYS_SEED
        )
        if "error" in answer:
            yield f"{cell}: {answer['error']}"
            continue
        metrics: dict[str, int | float] = {}
        if emulated:
            bits = answer["precision_bits"]
            metrics = {"precision_bits": round(bits, 3), "lost_bits": round(lost_bits(bits), 3)}
        else:
            metrics = {name: answer["counts"].get(old, 0) for old, name in COUNTS.items()}
            metrics["rotation_keys"] = answer["plan"]["rotation_keys"]
            metrics |= {_BYTES[name]: value for name, value in answer["bytes"].items()}
        of = provenance(commit, answer, date=now)
        yield Row(kind="e2e" if emulated else "counts", cell=cell, metrics=metrics, provenance=of)


def add_counts(
    repo: Path, file: Path, commits: Sequence[Commit], tell: Callable[[str], object], step: Callable[[], object]
) -> int:
    """Append rows of the commits that no file of deltas beside it has; returns how many rows."""
    append_deltas(file, ())  # repairs it
    known = {row.provenance.commit for each in file.parent.glob(f"*{SUFFIX}") for row in read_deltas(each)}
    added = 0
    for commit in commits:
        if commit.hash not in known:
            try:
                with code_at(repo, commit.hash) as code, Worker(code) as worker:
                    found = list(counted(commit, worker))
            except (CommitUnusable, OSError, KeyError, ValueError) as error:
                found = [str(error)]
            rows = [row for row in found if isinstance(row, Row)]
            if not rows:
                tell(f"{commit.hash[:8]} cannot be run: {found[0] if found else 'it gave no result'}")
            append_deltas(file, rows)
            added += len(rows)
        step()
    return added


def timed(repo: Path, commits: Sequence[Commit], cells: Sequence[Cell], rounds: int) -> Iterator[Row | str]:
    """Wall times of cells at commits that take turns."""
    with ExitStack() as stack:
        workers = [stack.enter_context(Worker(stack.enter_context(code_at(repo, each.hash)))) for each in commits]
        for cell in cells:
            request = {"do": "run", "cell": [cell.backend, cell.packing, cell.shape, cell.tokens]}
            taken: list[list[dict[str, Any]]] = [[] for _ in commits]
            turns = list(range(len(commits)))
            for i in turns:
                workers[i].ask(**request)  # makes keys, and warms up
            for number in range(rounds):
                for i in turns if number % 2 == 0 else reversed(turns):
                    taken[i].append(workers[i].ask(**request))
            for commit, worker, answers in zip(commits, workers, taken, strict=True):
                yield _timed_row(commit, cell, answers)
                worker.ask(do="close", cell=request["cell"])


def _timed_row(commit: Commit, cell: Cell, answers: list[dict[str, Any]]) -> Row | str:
    failures = [answer["error"] for answer in answers if "error" in answer]
    if failures:
        return f"{commit.hash[:8]} {cell}: {failures[0]}"
    per_token = 1e6 * cell.tokens
    phases = {
        f"{name}_ms_per_token": statistics.median(answer["phases_ns"][name] for answer in answers) / per_token
        for name in ("encrypt", "compute", "decrypt")
    }
    total = statistics.median(sum(answer["phases_ns"].values()) for answer in answers) / per_token
    bits = statistics.median(answer["precision_bits"] for answer in answers)
    metrics = {"ms_per_token": total, **phases, "precision_bits": bits, "lost_bits": lost_bits(bits)}
    runs = -(-cell.tokens // answers[0]["plan"]["tokens_per_run"])
    counts = {
        COUNTS[name]: runs * value / cell.tokens for name, value in answers[0]["counts"].items() if name in COUNTS
    }
    counts |= {f"{name}_per_token": value / cell.tokens for name, value in answers[0].get("inner", {}).items()}
    of = provenance(commit, answers[0], date=datetime.now(timezone.utc).replace(microsecond=0))
    rounded = {name: round(value, 4) for name, value in {**metrics, **counts}.items()}
    return Row(kind="e2e", cell=cell, metrics=rounded, provenance=of)


@click.command()
@click.option("--timings", "timed_commits", multiple=True, metavar="COMMIT", help="Time these too, all in turn.")
@click.option("--rounds", type=click.IntRange(3), default=21, show_default=True, help="Runs of each timed cell.")
@click.option("--since", metavar="COMMIT", help="Count only commits after this one.")
@click.option("--no-counts", is_flag=True, help="Only time.")
@as_json
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=HISTORY, hidden=True)
@click.option("--repo", type=click.Path(path_type=Path, exists=True, file_okay=False), default=REPO, hidden=True)
def grow(
    timed_commits: tuple[str, ...],
    rounds: int,
    since: str | None,
    no_counts: bool,
    out: Path,
    repo: Path,
    as_json: bool,
) -> None:
    """Add the commits that lack rows to harness/history.

    Counts and the emulation's precision are taken for every commit of this branch that changes code; wall times only
    for those named with --timings, on an otherwise idle machine.
    """
    from helora_core.cli.output import print_json, progress

    left_out: list[str] = []
    added: dict[str, int] = {}
    out.mkdir(parents=True, exist_ok=True)
    try:
        if not no_counts:
            asked = f"{since}..HEAD" if since else "HEAD"
            of = git(repo, "rev-list", "--first-parent", "--reverse", asked, "--", *_CODE)
            commits = [resolve(repo, commit) for commit in of.split()]
            with progress("commits", len(commits)) as advance:
                file = out / f"counts{SUFFIX}"
                added["counts"] = add_counts(repo, file, commits, left_out.append, lambda: advance(1))
        if timed_commits:
            found = list(timed(repo, [resolve(repo, name) for name in timed_commits], TIMED, rounds))
            left_out += [line for line in found if isinstance(line, str)]
            rows = [row for row in found if isinstance(row, Row)]
            replace_rows(out / "timings.jsonl", rows)
            added["timings"] = len(rows)
    except CommitUnusable as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        print_json({"schema": 1, "rows": added, "left_out": left_out})
        return
    for line in left_out:
        click.echo(line, err=True)
    for name, number in added.items():
        click.echo(f"{number} rows of {name}")


def replace_rows(file: Path, rows: Sequence[Row]) -> None:
    """Add rows in place of those of the same measurement: the file is committed, and should stay small."""
    new = {key(row) for row in rows}
    kept = [row for row in read_rows(file) if key(row) not in new] if file.exists() else []
    unfinished = file.with_name(f".{file.name}.part")
    unfinished.unlink(missing_ok=True)
    append_rows(unfinished, [*kept, *rows])
    unfinished.replace(file)
