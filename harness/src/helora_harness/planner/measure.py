"""Runs every packing for shapes and tokens that do not take too long, and keeps the predictions with the times.

A shared machine has slow phases of some seconds, in which all takes half as long again, and medians of two speeds say
nothing. So calibration and runs wait for their end, which a fixed run, the *yardstick*, tells. It knows nothing of the
plan that it is run before: what the planner gets wrong stays wrong.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Iterator
from typing import Any

import click
import msgspec

from helora_core.adapter.lora import ModuleShape
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.plan import Plan
from helora_core.compiler.request import Constraints, PlanRequest
from helora_core.execution.constants import plaintext_bytes
from helora_core.host.manager import get_manager
from helora_core.planning.calibrate import calibrate
from helora_core.planning.planner import CalibratedBackend, Candidate, rank
from helora_core.planning.predict import bottleneck
from helora_core.planning.profile import Profile
from helora_harness.prepared import PreparedPlan

SHAPES = ("512:512:8", "1536:1536:32", "4096:4096:16", "1536:256:16")
TOKENS = (1, 8, 2048)
YARDSTICK = ModuleShape.parse("512:512:8")
STEADY, LONGEST_WAIT_S = 1.15, 60.0

LONGEST_MS = 3_000.0
"""Plans of which one run is predicted to take longer are not measured."""

MOST_BYTES = 8 << 30
"""Plans whose plaintexts and ciphertexts would take more memory together are not measured at once."""

NEAR = 2.5
"""A plan that is predicted to take longer than this many times the best cannot be the best one measured."""


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """One plan: what it costs, what was predicted, what was measured. Times are milliseconds per token."""

    shape: str
    tokens: int
    private: bool
    packing: str
    ring_degree: int
    tokens_per_run: int
    counts: dict[str, int]
    depth: int
    bytes_per_token: float
    leakage: str
    bound_by: str
    predicted_ms: float
    measured_ms: float | None


class Measurements(msgspec.Struct, frozen=True, kw_only=True):
    """All cells, in the order of their ranking, with the profile that they were predicted from."""

    backend: str
    profile: Profile
    rounds: int
    cells: list[Cell]


def ranked(machine: CalibratedBackend, name: str, shape: str, tokens: int, private: bool) -> list[Candidate]:
    manager = get_manager()
    packings = [manager.load_packing(each) for each in manager.packings()]
    constraints = Constraints(private_weights=private, sanitize_bits=40 if private else None)
    request = PlanRequest(shape=ModuleShape.parse(shape), tokens=(tokens,), constraints=constraints)
    return rank(request, {name: machine}, packings)


class Yardstick:
    """A fixed run on a backend, which tells whether the machine is as fast as it can be."""

    def __init__(self, backend: Any) -> None:
        plan = compile_plan(YARDSTICK, get_manager().load_packing("rank_bsgs"), private_weights=False)
        self._prepared = PreparedPlan(backend, plan)
        self._x = self._prepared.activations(plan.tokens_per_run)
        self._best = min(self._ms() for _ in range(100))

    def _ms(self) -> float:
        return self._prepared.run(self._x).times.total / 1e6

    def wait(self) -> None:
        """Return when the yardstick is near the best that it has been, or after ``LONGEST_WAIT_S``."""
        start = time.monotonic()
        while (now := self._ms()) > STEADY * self._best and time.monotonic() - start < LONGEST_WAIT_S:
            pass
        self._best = min(self._best, now)


def _measured(
    backend: Any, yardstick: Yardstick, candidates: list[Candidate], tokens: int, rounds: int
) -> Iterator[tuple[Candidate, float]]:
    """Milliseconds per token; near candidates take turns, so that a slow minute is slow for all of them."""
    prepared = [PreparedPlan(backend, _planned(candidate)) for candidate in candidates]
    samples: dict[int, list[float]] = {i: [] for i in range(len(prepared))}
    for round_number in range(rounds + 1):
        for i, each in enumerate(prepared):  # one run each, padded if there are fewer tokens than it holds
            yardstick.wait()
            elapsed = each.run(each.activations(min(tokens, each.plan.tokens_per_run))).times.total / 1e6
            if round_number:  # the first run warms up
                samples[i].append(elapsed)
    for i, (candidate, each) in enumerate(zip(candidates, prepared, strict=True)):
        yield candidate, statistics.median(samples[i]) * each.plan.runs(tokens) / tokens


def _planned(candidate: Candidate) -> Plan:
    assert candidate.plan is not None
    return candidate.plan


def all_groups() -> Iterator[tuple[str, int, bool]]:
    return ((shape, tokens, private) for private in (False, True) for shape in SHAPES for tokens in TOKENS)


def _cells(
    machine: CalibratedBackend,
    yardstick: Yardstick,
    name: str,
    rounds: int,
    groups: Iterable[tuple[str, int, bool]],
) -> Iterator[Cell]:
    backend = machine.backend
    for shape, tokens, private in groups:
        eligible = [each for each in ranked(machine, name, shape, tokens, private) if each.refusal is None]
        best = min(each.cost for each in eligible)
        bearable = [each for each in eligible if _run_ms(each) < LONGEST_MS and _bytes_of(each) < MOST_BYTES]
        near = [each for each in bearable if each.cost <= NEAR * best]
        while sum(map(_bytes_of, near)) > MOST_BYTES:
            near.pop()
        times = dict(_by_id(_measured(backend, yardstick, near, tokens, rounds)))
        for far in (each for each in bearable if each not in near):
            times |= dict(_by_id(_measured(backend, yardstick, [far], tokens, 1)))
        click.echo(f"{shape} {tokens} {'private' if private else 'open'}", err=True)
        for candidate in eligible:
            yield cell_of(candidate, shape, tokens, private, times.get(id(candidate)))


def _run_ms(candidate: Candidate) -> float:
    assert candidate.prediction is not None
    return candidate.prediction.total_ms / candidate.prediction.runs


def _bytes_of(candidate: Candidate) -> int:
    return held_bytes(_planned(candidate))


def held_bytes(plan: Plan) -> int:
    """What a bench of a plan holds in memory: plaintexts and the ciphertexts of both ends."""
    plaintexts = sum(plaintext_bytes(spec, plan.params.ring_degree) for spec in plan.constant_specs.values())
    return plaintexts + plan.key_bytes + 4 * plan.bytes_up + 2 * plan.bytes_down


def _by_id(measured: Iterator[tuple[Candidate, float]]) -> Iterator[tuple[int, float]]:
    return ((id(candidate), ms) for candidate, ms in measured)


def cell_of(candidate: Candidate, shape: str, tokens: int, private: bool, measured_ms: float | None) -> Cell:
    plan, prediction = _planned(candidate), candidate.prediction
    assert prediction is not None
    runs = plan.runs(tokens)
    return Cell(
        shape=shape,
        tokens=tokens,
        private=private,
        packing=candidate.packing,
        ring_degree=plan.params.ring_degree,
        tokens_per_run=plan.tokens_per_run,
        counts=msgspec.structs.asdict(plan.counts),
        depth=plan.packing.depth,
        bytes_per_token=runs * (plan.bytes_up + plan.bytes_down) / tokens,
        leakage=plan.leakage_label,
        bound_by=bottleneck(prediction).label,
        predicted_ms=prediction.ms_per_token,
        measured_ms=measured_ms,
    )


def measured_figures(backend: str, rounds: int) -> Measurements:
    manager = get_manager()
    library = manager.load_backend(backend)
    spec = manager.backends()[backend]
    yardstick = Yardstick(library)
    profile = calibrate(
        library, library=spec.spec.library, library_version=spec.library_version, on_round=yardstick.wait
    )
    cells = list(_cells(CalibratedBackend(library, profile), yardstick, backend, rounds, all_groups()))
    return Measurements(backend=backend, profile=profile, rounds=rounds, cells=cells)


def measured_again(committed: Measurements, shape: str) -> Measurements:
    """The figures with one shape measured again: what a moment's noise has spoilt."""
    machine = CalibratedBackend(get_manager().load_backend(committed.backend), committed.profile)
    groups = [group for group in all_groups() if group[0] == shape]
    yardstick = Yardstick(machine.backend)
    anew = list(_cells(machine, yardstick, committed.backend, committed.rounds, groups))
    cells = [
        cell
        for group in all_groups()
        for cell in (anew if group in groups else committed.cells)
        if (cell.shape, cell.tokens, cell.private) == group
    ]
    return msgspec.structs.replace(committed, cells=cells)
