"""Measures the commits that have no rows yet, for the files of ``harness/history``.

``counts.deltas`` gets the counts of plans, and the emulation's precision and bytes with fixed keys;
``sanitised.deltas`` those of plans that keep the weights private, as they run by default. They are the same on every
machine, so there is only one row per commit and cell. Commits that change no code have the rows of the commit before,
and are skipped; those that cannot be run are named, and tried again next time.

``timings.jsonl`` gets wall times of commits that are asked for: all of them run at once, taking turns forwards and
backwards, so that a drift of the machine does not favour one.

It is ``helora bench grow``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path

import click

from helora_core.cli.numbers import Whole
from helora_core.cli.options import as_json
from helora_harness.cases import TIMED_SHAPES
from helora_harness.checkouts import Commit, CommitUnusable, Worker, asked, code_at, git, resolve
from helora_harness.deltas import SUFFIX, append_deltas, read_deltas
from helora_harness.metrics import COUNTS, lost_bits
from helora_harness.places import HISTORY, REPO
from helora_harness.rows import Cell, Row, append_rows, key, read_rows
from helora_harness.timings import provenance, timed, timed_cells

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
SANITIZED = tuple(
    Cell(backend="", packing=packing, shape=shape, tokens=1, sanitized=True)
    for packing, shapes in {
        "rank_bsgs": TIMED_SHAPES,
        "cheetah_two_round": TIMED_SHAPES,
        "cpmm": ("1536:1536:16",),
        "halevi_shoup_bsgs": ("1536:1536:16",),
    }.items()
    for shape in shapes
)
"""Counts as plans run by default, of every commit that can keep weights private: a file of their own."""

FILES = {"counts": (*COUNTED, *EMULATED), "sanitised": SANITIZED}
"""Files of deltas, and the cells in each."""

_BYTES = {"bytes_up": "bytes_up_per_token", "bytes_down": "bytes_down_per_token", "bytes_keys": "bytes_keys"}
_KEYS_SEED = 1


def counted(commit: Commit, worker: Worker, cells: Sequence[Cell] = FILES["counts"]) -> Iterator[Row | str]:
    """Rows of one commit that hold on every machine; a line for each cell that it cannot run."""
    now = datetime.now(timezone.utc).replace(microsecond=0)
    for cell in cells:
        emulated = bool(cell.backend)
        answer = worker.ask(**asked(cell, "run" if emulated else "plan", seed=_KEYS_SEED))
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
    repo: Path,
    folder: Path,
    commits: Sequence[Commit],
    tell: Callable[[str], object],
    step: Callable[[], object],
) -> int:
    """Append rows of the commits that the files of a folder do not have; returns how many rows."""
    files = {folder / f"{name}{SUFFIX}": cells for name, cells in FILES.items()}
    for file in files:
        append_deltas(file, ())  # repairs it
    known = {file: {row.provenance.commit: row.provenance.commit_date for row in read_deltas(file)} for file in files}
    added = 0
    for commit in commits:
        missing = [  # a commit before a file's first was not able to, and is not tried again
            file
            for file, of in known.items()
            if commit.hash not in of and commit.date >= min(of.values(), default=commit.date)
        ]
        if missing:
            found: dict[Path, list[Row | str]] = {}
            try:
                with code_at(repo, commit.hash) as code, Worker(code) as worker:
                    found = {file: list(counted(commit, worker, files[file])) for file in missing}
            except (CommitUnusable, OSError, KeyError, ValueError) as error:
                tell(f"{commit.hash[:8]} cannot be run: {error}")
            for file, rows_of in found.items():
                rows = [row for row in rows_of if isinstance(row, Row)]
                append_deltas(file, rows)
                added += len(rows)
            if found and not any(isinstance(row, Row) for rows_of in found.values() for row in rows_of):
                tell(f"{commit.hash[:8]} cannot be run: {next(iter(found.values()))[0]}")
        step()
    return added


@click.command()
@click.option("--timings", "timed_commits", multiple=True, metavar="COMMIT", help="Time these too, all in turn.")
@click.option("--rounds", type=Whole(3), default=21, show_default=True, help="Runs of each timed cell.")
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
    for those named with --timings, on an otherwise idle machine: of all backends that encrypt and can be used here.
    """
    from helora_core.cli.output import print_json, progress

    left_out: list[str] = []
    added: dict[str, int] = {}
    out.mkdir(parents=True, exist_ok=True)
    if not no_counts:
        asked = f"{since}..HEAD" if since else "HEAD"
        of = git(repo, "rev-list", "--first-parent", "--reverse", asked, "--", *_CODE)
        commits = [resolve(repo, commit) for commit in of.split()]
        with progress("commits", len(commits)) as advance:
            added["counts"] = add_counts(repo, out, commits, left_out.append, lambda: advance(1))
    if timed_commits:
        commits, cells = [resolve(repo, name) for name in timed_commits], timed_cells()
        with progress("cells", len(cells)) as advance:
            added["timings"] = 0
            for found in timed(repo, commits, cells, rounds, lambda: advance(1)):
                if isinstance(found, str):
                    left_out.append(found)
                else:  # at once: an interruption loses one cell
                    replace_rows(out / "timings.jsonl", [found])
                    added["timings"] += 1
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
