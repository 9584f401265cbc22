"""``helora bench overhead``: the cost of Python per operation and per request, at one commit or several in turn."""

from __future__ import annotations

import statistics
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from helora_core.cli.numbers import Whole
from helora_core.cli.options import as_json, wide
from helora_harness.places import REPO

SCHEMA = 1
CELLS = (("rank_bsgs", "512:512:8", 1), ("rank_bsgs", "4096:4096:16", 8), ("cheetah", "1536:1536:16", 8))
"""Packing, shape and tokens; few operations, many, and many products fused into one."""


@click.command()
@click.argument("commits", nargs=-1)
@click.option("--rounds", type=Whole(1), default=5, show_default=True, help="Turns of each commit.")
@click.option("--repo", type=click.Path(path_type=Path, exists=True, file_okay=False), default=REPO, hidden=True)
@wide
@as_json
def overhead(commits: tuple[str, ...], rounds: int, repo: Path, as_json: bool) -> None:
    """Time the executor on a library that does nothing, and a whole run on the emulation.

    COMMITS take turns; without one, the working tree is timed. Of an operation it is the least processor time over the
    rounds, of a request the median wall time. They gate nothing.
    """
    from helora_core.cli.output import print_json, print_table, progress
    from helora_core.cli.tables import Table
    from helora_harness.checkouts import Worker, code_at, code_here
    from helora_harness.machine import machine_facts

    names = commits or ("here",)
    taken: dict[tuple[str, int], list[dict[str, Any]]] = {}
    with ExitStack() as stack, progress("rounds", rounds * len(CELLS)) as advance:
        codes = [code_at(repo, name) for name in commits] or [code_here(repo)]
        workers = [stack.enter_context(Worker(stack.enter_context(code))) for code in codes]
        for number in range(rounds):
            for i, cell in enumerate(CELLS):
                for name, worker in list(zip(names, workers, strict=True))[:: 1 if number % 2 == 0 else -1]:
                    taken.setdefault((name, i), []).append(worker.ask(do="overhead", cell=cell))
                advance(1)
    rows = [_row(name, CELLS[i], answers) for (name, i), answers in sorted(taken.items(), key=lambda item: item[0][1])]
    if as_json:
        print_json({"schema": SCHEMA, "machine": machine_facts(), "rounds": rounds, "rows": rows})
        return
    columns = (
        "code", "cell", "operations", "ns/operation", "run whole", "ns of it metering", "µs/request", "µs in library"
    )  # fmt: skip
    good = [row.values() for row in rows if "error" not in row]
    shown = [["–" if value is None else str(value) for value in values] for values in good]
    spare = ("ns of it metering", "run whole", "operations", "µs in library")
    print_table(Table.of_text(columns, shown, numbers=columns[2:], spare=spare))
    for row in rows:
        if "error" in row:
            click.echo(f"{row['code']} {row['cell']}: {row['error']}", err=True)


def _row(name: str, cell: tuple[str, str, int], answers: list[dict[str, Any]]) -> dict[str, Any]:
    head = {"code": name, "cell": " ".join(map(str, cell))}
    for answer in answers:
        if "error" in answer:
            return {**head, "error": answer["error"]}

    def least(metric: str) -> int | None:
        """None if the code does not have it."""
        return round(min(float(answer[metric]) for answer in answers)) if metric in answers[0] else None

    def median_us(metric: str) -> int:
        return round(statistics.median(float(answer[metric]) for answer in answers) / 1000)

    return {
        **head,
        "operations": answers[0]["operations"],
        "ns_per_operation": least("ns_per_operation"),
        "ns_per_operation_whole": least("ns_per_operation_whole"),
        "metering_ns": least("metering_ns"),
        "request_us": median_us("request_ns"),
        "library_us": median_us("library_ns"),
    }
