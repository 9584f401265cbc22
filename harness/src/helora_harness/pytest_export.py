"""Makes rows from the output of ``pytest harness/pytest_bench --benchmark-json FILE``.

pytest-benchmark files results under a name that is the same for every CPU, and keeps the host's name with them. A row
has the hardware class instead, and none of the names.

Run it with ``python -m harness.pytest_bench.export FILE ROWS``.
"""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import click

from helora_harness.checkouts import Commit, CommitUnusable, resolve
from helora_harness.metrics import lost_bits
from helora_harness.rows import Cell, Row, RowsRefused, append_rows
from helora_harness.timings import provenance

_COUNTS = {"rotations": "rotations_per_token", "keyswitches": "keyswitches_per_token", "rescales": "rescales_per_token"}


def to_rows(document: dict[str, Any], commit: Commit) -> list[Row]:
    """A row for each benchmark that ran.

    Raises:
        RowsRefused: The document is not pytest-benchmark's output for our cells.
    """
    try:
        dirty = bool(document["commit_info"]["dirty"])
        when = datetime.fromisoformat(document["datetime"])
        date = when if when.tzinfo else when.replace(tzinfo=timezone.utc)
        return [_row(each, commit, dirty, date) for each in document["benchmarks"]]
    except (KeyError, TypeError, ValueError) as error:
        raise RowsRefused(
            f"This is not a result of harness/pytest_bench: {type(error).__name__} {error}.",
            hint="Give a file from `pytest harness/pytest_bench --benchmark-json FILE`.",
        ) from error


def _row(benchmark: dict[str, Any], commit: Commit, dirty: bool, date: datetime) -> Row:
    import msgspec

    extra = benchmark["extra_info"]
    cell = Cell(**extra["cell"])
    bits = extra["precision_bits"]
    metrics = {
        "ms_per_token": 1e3 * benchmark["stats"]["median"] / cell.tokens,
        "precision_bits": bits,
        "lost_bits": lost_bits(bits),
        "bytes_up_per_token": extra["bytes_up"] / cell.tokens,
        "bytes_down_per_token": extra["bytes_down"] / cell.tokens,
        **{name: extra["runs"] * extra["counts"][old] / cell.tokens for old, name in _COUNTS.items()},
    }
    of = msgspec.structs.replace(provenance(commit, extra, date=date), dirty=dirty)
    return Row(kind="e2e", cell=cell, metrics=metrics, provenance=of)


@click.command()
@click.argument("result", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("rows", type=click.Path(path_type=Path, dir_okay=False))
def main(result: Path, rows: Path) -> None:
    """Append the results of pytest-benchmark in RESULT to the file ROWS; run it on the machine that measured."""
    document = json.loads(result.read_text(encoding="utf-8"))
    try:
        commit = resolve(Path.cwd(), document.get("commit_info", {}).get("id") or "HEAD")
        made = to_rows(document, commit)
        append_rows(rows, made)
    except (CommitUnusable, RowsRefused) as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{len(made)} rows")


if __name__ == "__main__":
    main()
