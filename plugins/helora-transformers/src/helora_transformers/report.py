"""What generations took: time by plane and phase, bytes, operations, precision, what is revealed, the query budget."""

from __future__ import annotations

import functools
import math
import textwrap
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from helora_core.backend.ledger import OperationCounts
from helora_core.cli.output import size
from helora_core.parties.request_report import PhaseTimes
from helora_core.parties.result import Result

_WIDTH = 80
"""Columns of a report for people."""

_NONE = OperationCounts()


@dataclass
class Totals:
    """Sums over requests.

    Attributes:
        requests: How many.
        tokens: Tokens of the first group: those that went through the model.
        rows: Tokens times groups.
        encrypt_ns, compute_ns, decrypt_ns: Time of both parties, by phase.
        link_ns: Between sending and receiving, what the server's computing does not explain: the link.
        round_trips, bytes_up, bytes_down: Of messages.
        executed: Operations.
        correlations: Used of those prepared ahead of time.
        bits: The fewest bits that a bound on the error left of a token's Δ, where Δ was not zero.
        prepared_ns, prepared_up, prepared_down: What was done ahead of time.
    """

    requests: int = 0
    tokens: int = 0
    rows: int = 0
    encrypt_ns: int = 0
    compute_ns: int = 0
    decrypt_ns: int = 0
    link_ns: int = 0
    round_trips: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    executed: OperationCounts = field(default_factory=OperationCounts)
    correlations: int = 0
    bits: float = math.inf
    prepared_ns: int = 0
    prepared_up: int = 0
    prepared_down: int = 0


class Meter:
    """Adds requests up; several threads may.

    Args:
        first: The group whose tokens are counted.
    """

    def __init__(self, first: tuple[str, ...]) -> None:
        self._first, self._lock = first, threading.Lock()
        self._totals = Totals()

    def request(self, group: Sequence[str], result: Result, link_ns: int) -> None:
        """A request for a group of sites is done.

        Args:
            group: Their names.
            result: Its result.
            link_ns: Time between sending and receiving.
        """
        report, bits = result.report, worst_bits(result)
        with self._lock:
            totals, times = self._totals, report.times
            tokens = len(next(iter(result.deltas.values())))
            totals.requests += 1
            totals.tokens += tokens * (tuple(group) == self._first)
            totals.rows += tokens
            totals.encrypt_ns += times.encrypt
            totals.compute_ns += times.compute
            totals.decrypt_ns += times.decrypt
            totals.link_ns += max(0, link_ns - times.compute)
            totals.round_trips += report.round_trips
            totals.bytes_up += report.bytes_up
            totals.bytes_down += report.bytes_down
            if report.executed != _NONE:
                totals.executed = totals.executed.plus(report.executed)
            totals.correlations += report.correlations
            totals.bits = min(totals.bits, bits)

    def prepared(self, times: PhaseTimes, bytes_up: int, bytes_down: int) -> None:
        """Correlations were prepared."""
        with self._lock:
            self._totals.prepared_ns += times.total
            self._totals.prepared_up += bytes_up
            self._totals.prepared_down += bytes_down

    def totals(self) -> Totals:
        """A copy of what was added up."""
        with self._lock:
            return Totals(**vars(self._totals))


def worst_bits(result: Result) -> float:
    """The fewest bits that the bounds leave of a token's Δ: log₂(max|Δ| / bound), over tokens whose Δ is not zero."""
    if all(len(delta) == 1 for delta in result.deltas.values()):  # a token that decodes: some hundred times a second
        bound = max(float(each[0]) for each in result.error_bounds.values())
        most = max(max(float(delta.max()), -float(delta.min())) for delta in result.deltas.values())
        return math.log2(most / bound) if most > 0 and bound > 0 else math.inf
    bounds = functools.reduce(np.maximum, result.error_bounds.values())
    largest = functools.reduce(np.maximum, (np.abs(delta).max(axis=1) for delta in result.deltas.values()))
    kept = (largest > 0) & (bounds > 0)
    if not kept.all():
        bounds, largest = bounds[kept], largest[kept]
    return math.log2((largest / bounds).min()) if len(bounds) else math.inf


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What an attached adapter took so far. Times are milliseconds, sizes bytes.

    Attributes:
        adapter: Its name.
        backend: The CKKS library.
        packings: The plans' packings.
        where: Where the other party is.
        tokens: Tokens that went through the model: of the prompt, and generated.
        passes: Forward passes.
        base_ms: Time of forward passes outside the adapter.
        encrypt_ms, compute_ms, decrypt_ms, link_ms: Time of the adapter, by phase; ``link_ms`` is the transport.
        hooks_ms: Between the model and the client: copies, checks, this report.
        round_trips, bytes_up, bytes_down: Of online messages.
        keys_bytes: Evaluation keys, sent once.
        ahead_ms, ahead_bytes_up, ahead_bytes_down: What was prepared ahead of time.
        correlations_left: For how many tokens something of it is left; None if nothing was prepared.
        rotations, key_switches: Operations of the server.
        bits: The fewest bits that the bounds on the error left of a token's Δ.
        leakage: What the key holder learns beyond Δ.
        assumes: What that rests on.
        queries_to_copy: How few independent tokens may give the weights away; the adapter's owner limits them.
    """

    adapter: str
    backend: str
    packings: tuple[str, ...]
    where: str
    tokens: int
    passes: int
    base_ms: float
    encrypt_ms: float
    compute_ms: float
    decrypt_ms: float
    link_ms: float
    hooks_ms: float
    round_trips: int
    bytes_up: int
    bytes_down: int
    keys_bytes: int
    ahead_ms: float
    ahead_bytes_up: int
    ahead_bytes_down: int
    correlations_left: int | None
    rotations: int
    key_switches: int
    bits: float | None
    leakage: str
    assumes: tuple[str, ...]
    queries_to_copy: int

    @property
    def adapter_ms(self) -> float:
        """Time of the adapter, all phases."""
        return self.encrypt_ms + self.compute_ms + self.decrypt_ms + self.link_ms + self.hooks_ms

    @property
    def total_ms(self) -> float:
        """Time of forward passes."""
        return self.base_ms + self.adapter_ms

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, with the sums."""
        return {**msgspec.structs.asdict(self), "adapter_ms": self.adapter_ms, "total_ms": self.total_ms}

    def __str__(self) -> str:
        return "\n".join(
            textwrap.fill(
                text, _WIDTH, initial_indent=f"{name:<18}", subsequent_indent=18 * " ", break_on_hyphens=False
            )
            for name, text in self._lines().items()
        )

    def _lines(self) -> Mapping[str, str]:
        tokens = max(self.tokens, 1)
        phases = {
            "base": self.base_ms,
            "encrypt": self.encrypt_ms,
            "server": self.compute_ms,
            "decrypt": self.decrypt_ms,
            "link": self.link_ms,
            "hooks": self.hooks_ms,
        }
        per_token = ", ".join(f"{name} {ms / tokens:.1f}" for name, ms in phases.items())
        rate = 1000 * self.tokens / max(self.total_ms, 1e-9)
        lines = {
            "adapter": f"{self.adapter}, by {', '.join(self.packings)} on {self.backend}, {self.where}",
            "tokens": f"{self.tokens} in {self.passes} passes, {rate:.1f} per second",
            "ms per token": f"{self.total_ms / tokens:.1f}: {per_token}",
            "bytes per token": (
                f"{size(self.bytes_up / tokens)} up, {size(self.bytes_down / tokens)} down; "
                f"keys {size(self.keys_bytes)} once"
            ),
            "operations": (
                f"{self.rotations} rotations, {self.key_switches} key switches, {self.round_trips} round trips"
            ),
            "bits": (
                "no Δ yet" if self.bits is None else f"≥ {self.bits:.1f} of each token's Δ, by the bound on the error"
            ),
            "leakage": self.leakage + (f" (if {', '.join(self.assumes)})" if self.assumes else ""),
            "query budget": f"{self.tokens} tokens sent; {self.queries_to_copy} independent ones may copy the adapter",
        }
        if self.correlations_left is not None:
            lines["ahead of time"] = (
                f"{self.ahead_ms / 1000:.1f} s, {size(self.ahead_bytes_up)} up, {size(self.ahead_bytes_down)} down; "
                f"enough left for {self.correlations_left} tokens"
            )
        return lines
