"""Encrypted decoding, end to end: B sequences get one token each a step, so a step is one run over B activations.

Every cell runs in its own process, which is the client and the server, one after the other and with nothing but
bytes between them. Each step's Δ is compared with the plain adapter. ``he_share`` is the part of a step that is spent
in the library's own operations, as the ledger times them: encrypt and decrypt (with encoding), rotate, ct×pt, add,
rescale, sanitise. Core's work, packing, encoding on the fly, and turning ciphertexts into bytes and back are the rest.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from helora_core.compiler.request import DEFAULT_PRECISION_BITS
from helora_core.errors import HeloraError
from helora_core.planning.predict import Bottleneck, Prediction, bottleneck
from helora_harness.bench.grid import with_packing
from helora_harness.bench.record import Origin, Record, provenance
from helora_harness.checkouts import Asked
from helora_harness.metrics import COUNTS, lost_bits
from helora_harness.rows import Cell, Row

SCHEMA = 1
_INSIDE = {
    "rotations": "rotate",
    "ct_pt": "multiply_plain",
    "additions": "add",
    "rescales": "rescale",
    "sanitizes": "sanitize",
}
"""Operations of the server, as the ledger and as predictions call them."""


class Steps(msgspec.Struct, frozen=True):
    """How long to measure a cell.

    Attributes:
        number: Steps to measure, after one that is not.
        max_seconds: Begin no step after so long; one is measured in any case.
    """

    number: int
    max_seconds: float


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """The result for one cell.

    Attributes:
        cell: The cell.
        row: Its row; None if it cannot be run at all.
        refused: Why it cannot, such as a packing that does not take the shape.
        resumed: Whether the row was already in the file.
        unpredicted: Why there is no predicted time; empty if there is one, or the cell was not run now.
    """

    cell: Cell
    row: Row | None = None
    refused: str = ""
    resumed: bool = False
    unpredicted: str = ""


def measure(
    cells: Sequence[Cell], record: Record, of: Origin, spawn: Callable[[], Asked], steps: Steps
) -> Iterator[Measured]:
    """Measure cells that the record does not have, each in a new process, and append their rows.

    Args:
        cells: On backends that can be used here; their packing may be ``auto``.
        record: The file of rows.
        of: The code that processes run.
        spawn: Starts a process.
        steps: How long to measure each.
    """
    seen = set()
    for each in cells:
        try:
            cell = with_packing(each)
        except HeloraError as error:
            yield Measured(cell=each, refused=str(error))
            continue
        if cell in seen:  # the packing that auto stands for may be asked for by name, too
            continue
        seen.add(cell)
        known = record.known("e2e", cell, of)
        if known:
            yield Measured(cell=cell, row=known[-1], resumed=True)
            continue
        worker = spawn()
        try:
            found = _measured(cell, of, worker, steps)
        finally:
            worker.close()
        if found.row is not None:
            record.add(found.row)
        yield found


def _measured(cell: Cell, of: Origin, worker: Asked, steps: Steps) -> Measured:
    asked = [cell.backend, cell.packing, cell.shape, cell.tokens]
    planned = worker.ask(do="plan", cell=asked)
    if "error" in planned:
        return Measured(cell=cell, refused=planned["error"])
    answers = [worker.ask(do="run", cell=asked)]  # makes keys, encodes weights, warms up
    start = time.perf_counter()
    for _ in range(steps.number):
        if "error" not in answers[-1]:
            answers.append(worker.ask(do="run", cell=asked))
        if time.perf_counter() - start > steps.max_seconds:
            break
    first, wrong = answers[0], _wrong(answers)
    if first.get("absent"):
        return Measured(cell=cell, refused=first["error"])
    facts = provenance(
        of, cell.backend, first.get("plan", planned["plan"]), secure=first.get("provides_security", True)
    )
    if wrong:
        row = Row(kind="e2e", cell=cell, metrics={}, provenance=facts, outcome="failed", reason=wrong)
        return Measured(cell=cell, row=row)
    peak, predicted = worker.ask(do="peak"), worker.ask(do="predict", cell=asked)
    metrics = _metrics(cell, answers[1:])
    if "rss_bytes" in peak:
        metrics["peak_rss_bytes"] = peak["rss_bytes"]
    if "ms" in predicted:
        metrics["predicted_ms_per_token"] = round(predicted["ms"] / cell.tokens, 4)
    row = Row(kind="e2e", cell=cell, metrics=metrics, provenance=facts)
    return Measured(cell=cell, row=row, unpredicted=predicted.get("error", ""))


def _wrong(answers: Sequence[dict[str, Any]]) -> str:
    """Why the cell failed, in words; empty if every step gave Δ."""
    for answer in answers:
        if "error" in answer:
            return str(answer["error"])
        bits = answer["precision_bits"]
        if not math.isfinite(bits) or bits < DEFAULT_PRECISION_BITS:
            return f"Δ has {bits:.1f} bits of precision, and plans promise {DEFAULT_PRECISION_BITS:g}"
    return ""


def _metrics(cell: Cell, answers: Sequence[dict[str, Any]]) -> dict[str, int | float]:
    steps_ms = sorted(sum(answer["phases_ns"].values()) / 1e6 for answer in answers)
    median, tokens, last = statistics.median(steps_ms), cell.tokens, answers[-1]
    runs = -(-tokens // last["plan"]["tokens_per_run"])

    def per_token(part: str, name: str) -> float:
        return float(statistics.median(answer[part].get(name, 0) for answer in answers)) / 1e6 / tokens

    shares = [sum(answer["inside_ns"].values()) / sum(answer["phases_ns"].values()) for answer in answers]
    bits = min(answer["precision_bits"] for answer in answers)
    metrics = {
        "tokens_per_second": 1e3 * tokens / median,
        "tokens_per_second_per_sequence": 1e3 / median,
        "ms_per_token": median / tokens,
        **{f"{phase}_ms_per_token": per_token("phases_ns", phase) for phase in ("encrypt", "compute", "decrypt")},
        **{f"{name}_ms_per_token": per_token("inside_ns", inside) for inside, name in _INSIDE.items()},
        "transport_ms_per_token": statistics.median(answer["transport_ns"] for answer in answers) / 1e6 / tokens,
        "step_ms_p50": median,
        "step_ms_p90": percentile(steps_ms, 90),
        "step_ms_p99": percentile(steps_ms, 99),
        "step_ms_max": steps_ms[-1],
        "he_share": statistics.median(shares),
        "precision_bits": bits,
        "lost_bits": lost_bits(bits),
        **{name: runs * last["counts"].get(counted, 0) / tokens for counted, name in COUNTS.items()},
        **{f"{name}_per_token": times / tokens for name, times in last.get("inner", {}).items()},
        "bytes_up_per_token": last["bytes_up"] / tokens,
        "bytes_down_per_token": last["bytes_down"] / tokens,
    }
    whole = {"steps": len(answers), "rotation_keys": last["plan"]["rotation_keys"]}
    if "bytes_keys" in last["bytes"]:
        whole["bytes_keys"] = last["bytes"]["bytes_keys"]
    return {name: round(value, 4) for name, value in metrics.items()} | whole


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The smallest of the values, in ascending order, that so many percent of them do not exceed (nearest rank)."""
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]


def bound_by(row: Row) -> Bottleneck:
    """The bottleneck of a measured cell, by the phases and operations that were timed.

    A cell that takes over a fifth more than its predicted time is overhead-bound before all else, unless the library
    itself was slower than its profile; where no time is predicted, none is called that.
    """
    metrics = row.metrics
    predicted = metrics.get("predicted_ms_per_token")
    if predicted is not None and not off_profile(row):
        whole = Prediction(1, 1, 0.0, predicted, 0.0, 0.0, {})
        against = bottleneck(whole, measured_ms=metrics["ms_per_token"])
        if against.label == "overhead-bound":
            return against
    encrypt, compute, decrypt = (metrics[f"{name}_ms_per_token"] for name in ("encrypt", "compute", "decrypt"))
    timed = {name: float(metrics[f"{name}_ms_per_token"]) for name in _INSIDE.values()}
    timed["send"] = float(metrics["transport_ms_per_token"])  # and to receive: both are the way between the two
    return bottleneck(Prediction(1, 1, encrypt, compute, decrypt, 0.0, timed))


def off_profile(row: Row) -> bool:
    """Whether a cell took over a fifth more than predicted, and more than that in the library alone.

    The machine is busier then than when it was calibrated, or slower.
    """
    took, predicted = row.metrics["ms_per_token"], row.metrics.get("predicted_ms_per_token", math.inf)
    return took > 1.2 * predicted and row.metrics["he_share"] * took > predicted


def best(rows: Sequence[Row]) -> dict[str, Row]:
    """The good rows of the highest throughput, of fewest rotations and of fewest bytes per token; ties by time."""
    rows = sorted((row for row in rows if row.outcome == "ok"), key=lambda row: row.metrics["ms_per_token"])
    if not rows:
        return {}
    return {
        "tokens_per_second": rows[0],
        "rotations_per_token": min(rows, key=lambda row: row.metrics["rotations_per_token"]),
        "bytes_per_token": min(rows, key=bytes_per_token),
    }


def bytes_per_token(row: Row) -> float:
    """Bytes of ciphertexts per token, up and down."""
    return row.metrics["bytes_up_per_token"] + row.metrics["bytes_down_per_token"]
