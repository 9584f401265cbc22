"""What a soak measured, in ``harness/serving.json``, and how it is summed up."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from soak_overhead import Overhead

from helora_core.files.atomic import replacing
from helora_harness.lm.figures import Conditions
from helora_harness.places import DATA

FIGURES = DATA / "serving.json"


class Load(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Some clients that generate at once. Times are milliseconds, memory MiB, processor time cores in use.

    Attributes:
        plan: ``online`` or ``precomputed``.
        clients, seconds: How many, and for how long.
        inputs: Inputs of the adapter that each asks for in turn.
        requests: Answered, all together.
        tokens_per_s: A token is ``per_token`` requests.
        per_token: Inputs of the whole adapter.
        answer_ms: From message to answer: 50 %, 95 %, 99 % and the longest.
        delta_ms: With the client's own work: 50 %.
        jain, least_of_most: Fairness of requests answered by client: Jain's index, and the slowest client's of the
            fastest one's.
        ahead_share: Of the clients' time, the share that they prepared in.
        server_cores, loop_cores, client_cores: Processors in use: the server's, its event loop's part of that, and all
            clients'.
        idle_mib, opened_mib, most_mib, bound_mib: Resident memory of the server before clients came, when all were
            connected, and at most; and what it may hold at most, by its limits.
        lag_ms, bare_lag_ms: How late the server's event loop ran, and one beside it that does nothing: 50 %, 99 %,
            99.9 %, as upper ends of buckets.
        compute_ms, wait_ms: Means at the server.
        right: Whether each client's Δ was right.
        steal: Share of processor time that others than this machine's processes took, by the system; None if unknown.
    """

    plan: str
    clients: int
    seconds: float
    inputs: int
    requests: int
    tokens_per_s: float
    per_token: int
    answer_ms: tuple[float, float, float, float]
    delta_ms: float
    jain: float
    least_of_most: float
    ahead_share: float
    server_cores: float
    loop_cores: float
    client_cores: float
    idle_mib: float
    opened_mib: float
    most_mib: float
    bound_mib: float
    lag_ms: tuple[float, float, float]
    bare_lag_ms: tuple[float, float, float]
    compute_ms: float
    wait_ms: float
    right: bool
    steal: float | None


class Malformed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Malformed frames at a server.

    Attributes:
        frames: How many.
        right, asked: Requests of a client between them: answered rightly, and in all.
        mib_before, mib_after: Resident memory.
        faults: Refusals that are faults of the server itself.
    """

    frames: int
    right: int
    asked: int
    mib_before: float
    mib_after: float
    faults: int


class Figures(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A soak.

    Attributes:
        conditions: Where and how; its load is that before and after.
        loads: By plan and clients.
        overheads: By plan, of one client.
        malformed: None if that was left out.
    """

    conditions: Conditions
    loads: tuple[Load, ...]
    overheads: tuple[Overhead, ...] = ()
    malformed: Malformed | None = None


def percentiles(seconds: Sequence[np.ndarray], shares: Sequence[float]) -> tuple[float, ...]:
    """Of all times of all clients, in milliseconds."""
    every = np.concatenate(seconds)
    return tuple(round(1e3 * float(each), 3) for each in np.quantile(every, shares))


def jain(counts: Sequence[float]) -> float:
    """Jain's fairness index: 1 if all have the same, 1/n if one has all."""
    total, squares = sum(counts), sum(count * count for count in counts)
    return total * total / (len(counts) * squares) if squares else 0.0


def write(figures: Figures, path: Path = FIGURES) -> None:
    """Write them."""
    with replacing(path) as file:
        file.write(msgspec.json.format(msgspec.json.encode(figures), indent=1) + b"\n")


def read(path: Path = FIGURES) -> Figures:
    """Read them."""
    return msgspec.json.decode(path.read_bytes(), type=Figures)
