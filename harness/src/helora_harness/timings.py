"""Wall times for the history: cells at commits that take turns, each commit with its own engine compiled."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from helora_harness import cases
from helora_harness.cases import AHEAD, BACKENDS, SHAPES
from helora_harness.checkouts import Commit, Worker, asked, code_at
from helora_harness.machine import machine_facts
from helora_harness.metrics import COUNTS, lost_bits
from helora_harness.rows import Cell, Provenance, Row

REQUESTS, BATCHES = 200, 3
"""Of a cell that runs ahead of time: requests of a turn, and turns."""

MOST_SECONDS = 8.0
"""A cell begins no further round after so long for each commit."""

_AHEAD = (
    "ms_per_token", "ahead_ms_per_token", "bytes_up_per_token", "bytes_down_per_token", "bytes_ahead_up_per_token",
    "bytes_ahead_down_per_token", "precision_bits",
)  # fmt: skip


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


def timed_cells() -> tuple[Cell, ...]:
    """Of the backends that encrypt and can be used here."""
    from helora_core.host.manager import get_manager

    manager = get_manager()
    known = manager.backends()
    usable = [name for name in BACKENDS if name in known and known[name].spec.provides_security
              and known[name].availability is None]  # fmt: skip
    return cases.timed(usable, {name for name in SHAPES if manager.load_packing(name).client_finishes})


def timed(
    repo: Path, commits: Sequence[Commit], cells: Sequence[Cell], rounds: int, step: Callable[[], object] = bool
) -> Iterator[Row | str]:
    """Wall times of cells at commits that take turns; each commit's own engine is compiled first."""
    with ExitStack() as stack:
        codes = [stack.enter_context(code_at(repo, each.hash, compiled=True)) for each in commits]
        workers = [stack.enter_context(Worker(code)) for code in codes]
        for cell in cells:
            request = asked(cell, "ahead", requests=REQUESTS) if cell.packing in AHEAD else asked(cell, "run")
            taken: list[list[dict[str, Any]]] = [[] for _ in commits]
            turns = list(range(len(commits)))
            if cell.packing not in AHEAD:
                for i in turns:
                    workers[i].ask(**request)  # makes keys, and warms up
            start = time.monotonic()
            for number in range(BATCHES if cell.packing in AHEAD else rounds):
                for i in turns if number % 2 == 0 else reversed(turns):
                    taken[i].append(workers[i].ask(**request))
                if time.monotonic() - start > MOST_SECONDS * len(commits):
                    break
            for commit, worker, answers in zip(commits, workers, taken, strict=True):
                yield _timed_row(commit, cell, answers)
                worker.ask(**asked(cell, "close"))
            step()


def _timed_row(commit: Commit, cell: Cell, answers: list[dict[str, Any]]) -> Row | str:
    failures = [answer["error"] for answer in answers if "error" in answer]
    if failures:
        return f"{commit.hash[:8]} {cell}: {failures[0]}"
    of = provenance(commit, answers[0], date=datetime.now(timezone.utc).replace(microsecond=0))
    if "phases_ns" not in answers[0]:
        ahead = {name: statistics.median(answer[name] for answer in answers) for name in _AHEAD}
        ahead |= {"tokens_per_second": 1e3 / ahead["ms_per_token"], "lost_bits": lost_bits(ahead["precision_bits"])}
        rounded = {name: round(value, 4) for name, value in ahead.items()}
        return Row(kind="e2e", cell=cell, metrics=rounded, provenance=of)
    per_token = 1e6 * cell.tokens
    phases = {
        f"{name}_ms_per_token": statistics.median(answer["phases_ns"][name] for answer in answers) / per_token
        for name in ("encrypt", "compute", "decrypt")
    }
    total = statistics.median(sum(answer["phases_ns"].values()) for answer in answers) / per_token
    bits = statistics.median(answer["precision_bits"] for answer in answers)
    metrics = {"ms_per_token": total, "tokens_per_second": 1e3 / total, **phases}
    metrics |= {"precision_bits": bits, "lost_bits": lost_bits(bits)}
    metrics |= {f"{name}_per_token": answers[-1][name] / cell.tokens for name in ("bytes_up", "bytes_down")}
    metrics |= {name: value for name, value in answers[0]["bytes"].items() if name == "bytes_keys"}
    runs = -(-cell.tokens // answers[0]["plan"]["tokens_per_run"])
    counts = {
        COUNTS[name]: runs * value / cell.tokens for name, value in answers[0]["counts"].items() if name in COUNTS
    }
    counts |= {f"{name}_per_token": value / cell.tokens for name, value in answers[0].get("inner", {}).items()}
    rounded = {name: round(value, 4) for name, value in {**metrics, **counts}.items()}
    return Row(kind="e2e", cell=cell, metrics=rounded, provenance=of)
