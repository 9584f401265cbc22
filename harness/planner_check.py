"""Holds the planner to its word: predicted against measured times, and the chosen plan against every eligible one.

``measure`` calibrates a backend, runs every packing for the shapes and tokens below where one run is bearable, and
writes the figures with their provenance to ``planner.json``. ``render`` makes of them the table in
``docs/packings.md``, between its marks. ``check`` fails if the page is not what the figures give, if the planner no
longer makes the plans that were measured of the profile that they were predicted from, or if the figures break a bar:
predictions within 15 % of the measurement in the median over held-out plans, within 30 % for nine of ten and
within 50 % at worst; the chosen plan within 10 % of the best one measured. The profile is made once, and a shared
machine may be half as slow again some minutes later: that is what the tenth plan is for.

    python harness/planner_check.py measure
"""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click
import msgspec
import numpy as np

from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.adapter.synthetic import synthetic_activations, synthetic_module
from helora_core.backend.ledger import Ledger
from helora_core.backend.session import open_sessions
from helora_core.cli.options import force as force_option
from helora_core.compiler.plan import Plan
from helora_core.execution.constants import encode_constants, plaintext_bytes
from helora_core.files.outputs import opened
from helora_core.host.manager import get_manager
from helora_core.parties.module_run import run_module
from helora_core.planning.calibrate import calibrate
from helora_core.planning.planner import CalibratedBackend, Candidate, Constraints, rank
from helora_core.planning.predict import bottleneck
from helora_core.planning.profile import Profile

DATA = Path(__file__).with_name("planner.json")
PAGE = Path(__file__).parents[1] / "docs" / "packings.md"
BEGIN, END = "<!-- planner: begin -->", "<!-- planner: end -->"

SHAPES = ("512:512:8", "1536:1536:32", "4096:4096:16", "1536:256:16")
TOKENS = (1, 8, 2048)
LONGEST_MS = 3_000.0
"""Plans of which one run is predicted to take longer are not measured."""

MOST_BYTES = 8 << 30
"""Plans whose plaintexts and ciphertexts would take more memory together are not measured at once."""

NEAR = 2.5
"""A plan that is predicted to take longer than this many times the best cannot be the best one measured."""

MEDIAN_BAR, USUAL_BAR, WORST_BAR, CHOICE_BAR = 0.15, 0.30, 0.50, 1.10


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


class _Bench:
    """A plan with its keys and weights, ready to run once and again."""

    def __init__(self, backend: Any, candidate: Candidate) -> None:
        assert candidate.plan is not None
        self.plan: Plan = candidate.plan
        self.module: LoRAModule = synthetic_module(self.plan.shape, seed=1)
        self.ledger = Ledger()
        self.client, self.server = open_sessions(
            backend,
            self.plan.params,
            self.plan.rotation_steps,
            ledger=self.ledger,
            public_key=self.plan.needs_public_key,
        )
        self.constants = encode_constants(self.plan, self.module, self.server.encoder)

    def run_ms(self, tokens: int) -> float:
        """One run, padded if there are fewer tokens than it holds."""
        x = synthetic_activations(self.plan.shape, min(tokens, self.plan.tokens_per_run), seed=2)
        owner = self.module if self.plan.packing.client_finishes else None
        run = run_module(self.plan, self.constants, self.client, self.server, self.ledger, x, client_module=owner)
        return run.times.total / 1e6


def _ranked(machine: CalibratedBackend, name: str, shape: str, tokens: int, private: bool) -> list[Candidate]:
    manager = get_manager()
    packings = [manager.load_packing(each) for each in manager.packings()]
    constraints = Constraints(private_weights=private, sanitize_bits=40 if private else None)
    return rank(ModuleShape.parse(shape), tokens, {name: machine}, packings, constraints)


def _measured(backend: Any, candidates: list[Candidate], tokens: int, rounds: int) -> Iterator[tuple[Candidate, float]]:
    """Milliseconds per token; near candidates take turns, so that a slow minute is slow for all of them."""
    benches = [(candidate, _Bench(backend, candidate)) for candidate in candidates]
    samples: dict[int, list[float]] = {i: [] for i in range(len(benches))}
    for round_number in range(rounds + 1):
        for i, (_, bench) in enumerate(benches):
            elapsed = bench.run_ms(tokens)
            if round_number:  # the first run warms up
                samples[i].append(elapsed)
    for i, (candidate, bench) in enumerate(benches):
        yield candidate, statistics.median(samples[i]) * bench.plan.runs(tokens) / tokens


def _groups() -> Iterator[tuple[str, int, bool]]:
    return ((shape, tokens, private) for private in (False, True) for shape in SHAPES for tokens in TOKENS)


def _cells(
    backend: Any, machine: CalibratedBackend, name: str, rounds: int, groups: Iterable[tuple[str, int, bool]]
) -> Iterator[Cell]:
    for shape, tokens, private in groups:
        eligible = [each for each in _ranked(machine, name, shape, tokens, private) if each.refusal is None]
        best = min(each.cost for each in eligible)
        bearable = [each for each in eligible if _run_ms(each) < LONGEST_MS and _bytes_of(each) < MOST_BYTES]
        near = [each for each in bearable if each.cost <= NEAR * best]
        while sum(map(_bytes_of, near)) > MOST_BYTES:
            near.pop()
        times = dict(_by_id(_measured(backend, near, tokens, rounds)))
        for far in (each for each in bearable if each not in near):
            times |= dict(_by_id(_measured(backend, [far], tokens, 1)))
        click.echo(f"{shape} {tokens} {'private' if private else 'open'}", err=True)
        for candidate in eligible:
            yield _cell(candidate, shape, tokens, private, times.get(id(candidate)))


def outdated(measurements: Measurements) -> Iterator[str]:
    """Groups of cells that the planner would not make now, of the same profile: their figures are of other plans."""
    name = measurements.backend
    machine = CalibratedBackend(get_manager().load_backend(name), measurements.profile)
    for shape, tokens, private in _groups():
        group = f"{shape} {tokens} {'private' if private else 'open'}"
        ranked = _ranked(machine, name, shape, tokens, private)
        now = {_told(_cell(each, shape, tokens, private, None)) for each in ranked if each.refusal is None}
        of_group = (
            each for each in measurements.cells if (each.shape, each.tokens, each.private) == (shape, tokens, private)
        )
        then = {_told(cell) for cell in of_group}
        for words in sorted(now ^ then):
            yield f"{group}: {words} is {'new' if words in now else 'gone'}"


def _told(cell: Cell) -> str:
    """A plan and its prediction. Costs are sums of floats, whose last digits may differ between machines."""
    counts = ", ".join(f"{name} {count}" for name, count in cell.counts.items())
    return f"{cell.packing} at N={cell.ring_degree}, {cell.tokens_per_run} a run, {counts}, {cell.predicted_ms:.6g} ms"


def _run_ms(candidate: Candidate) -> float:
    assert candidate.prediction is not None
    return candidate.prediction.total_ms / candidate.prediction.runs


def _bytes_of(candidate: Candidate) -> int:
    """What a bench of it holds in memory: plaintexts and the ciphertexts of both ends."""
    plan = candidate.plan
    assert plan is not None
    plaintexts = sum(plaintext_bytes(spec, plan.params.ring_degree) for spec in plan.constant_specs.values())
    return plaintexts + plan.key_bytes + 4 * plan.bytes_up + 2 * plan.bytes_down


def _by_id(measured: Iterator[tuple[Candidate, float]]) -> Iterator[tuple[int, float]]:
    return ((id(candidate), ms) for candidate, ms in measured)


def _cell(candidate: Candidate, shape: str, tokens: int, private: bool, measured_ms: float | None) -> Cell:
    plan, prediction = candidate.plan, candidate.prediction
    assert plan is not None
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


def verdicts(measurements: Measurements) -> tuple[list[str], list[str]]:
    """What the figures show, in words, and which bars they break."""
    timed = [cell for cell in measurements.cells if cell.measured_ms is not None]
    errors = [abs(cell.predicted_ms / (cell.measured_ms or 1) - 1) for cell in timed]
    shown = [
        f"{len(timed)} plans measured; predictions are off by {statistics.median(errors):.1%} in the median, by "
        f"{max(errors):.1%} at worst."
    ]
    broken = []
    if len(timed) < 12:
        broken.append(f"only {len(timed)} plans were measured")
    usual = sorted(errors)[math.ceil(0.9 * len(errors)) - 1]
    if statistics.median(errors) > MEDIAN_BAR or usual > USUAL_BAR or max(errors) > WORST_BAR:
        broken.append(f"predictions: {shown[0]}")
    losses = {}
    for key in dict.fromkeys((cell.shape, cell.tokens, cell.private) for cell in measurements.cells):
        group = [cell for cell in timed if (cell.shape, cell.tokens, cell.private) == key]
        if not group:
            continue
        chosen = min(group, key=lambda cell: cell.predicted_ms)
        losses[key] = (chosen.measured_ms or 0) / min(cell.measured_ms or np.inf for cell in group)
    shown.append(
        f"The chosen plan takes {max(losses.values()) - 1:.1%} longer than the best one measured at worst, over "
        f"{len(losses)} choices."
    )
    broken += [
        f"{key}: the chosen plan takes {loss:.2f} times the best" for key, loss in losses.items() if loss > CHOICE_BAR
    ]
    return shown, broken


def rendered(measurements: Measurements) -> str:
    """The table and what it shows."""
    where = measurements.profile.provenance
    shown, _ = verdicts(measurements)
    lines = [
        f"{where.library} {where.library_version}, {where.cpu} ({where.architecture}, {where.cores} "
        f"cores, one thread), Python {where.python_version}, {where.date[:10]}; a profile of {where.rounds} "
        f"rounds measured on the spot, medians of {measurements.rounds} interleaved runs. {' '.join(shown)}",
        "",
        "Rotations and the other counts are per run; times and bytes per token, where padding is paid by the tokens "
        "that are there. Private plans are sanitised to 40 bits. A dash: one run takes too long to be measured.",
        "",
        "| shape | tokens | weights | packing | N | tokens/run | rotations | key switches | ct×pt | levels "
        "| bytes/token | key holder learns | predicted ms | measured ms | bound by |",
        "|---|--:|---|---|--:|--:|--:|--:|--:|--:|--:|---|--:|--:|---|",
    ]
    return "\n".join([*lines, *(f"| {' | '.join(_row(cell))} |" for cell in measurements.cells)])


def _row(cell: Cell) -> list[str]:
    counts = ("rotations", "keyswitches", "ct_pt")
    return [
        cell.shape,
        str(cell.tokens),
        "private" if cell.private else "open",
        f"`{cell.packing}`",
        str(cell.ring_degree),
        str(cell.tokens_per_run),
        *(str(cell.counts[name]) for name in counts),
        str(cell.depth),
        _bytes(cell.bytes_per_token),
        cell.leakage,
        f"{cell.predicted_ms:.3g}",
        "—" if cell.measured_ms is None else f"{cell.measured_ms:.3g}",
        cell.bound_by,
    ]


def _bytes(count: float) -> str:
    return f"{count / 1024:.0f} KiB" if count < 10 * 1024**2 else f"{count / 1024**2:.0f} MiB"


def page(measurements: Measurements) -> str:
    """``docs/packings.md`` with the table between its marks."""
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    return f"{before}{BEGIN}\n{rendered(measurements)}\n{END}{after}"


def load() -> Measurements:
    """The committed figures."""
    return msgspec.json.decode(DATA.read_bytes(), type=Measurements)


@click.group()
def main() -> None:
    """Predicted and measured times of every packing."""


@main.command()
@click.option("--backend", default="tenseal", show_default=True)
@click.option("--rounds", default=5, show_default=True, help="Interleaved runs of plans that are near the best.")
@click.option("--output", type=click.Path(path_type=Path), default=DATA, show_default=False)
@click.option("--again", type=click.Choice(SHAPES), help="Only this shape, with the profile of the committed figures.")
@force_option
def measure(backend: str, rounds: int, output: Path, again: str | None, force: bool) -> None:
    """Calibrate, run and write the figures; some ten minutes on an otherwise idle machine."""
    with opened([output], force=force or output == DATA) as files:  # the committed figures are there to be replaced
        found = _figures(backend, rounds) if again is None else _again(load(), again)
        files.write(output, lambda file: file.write(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n"))
    shown, broken = verdicts(found)
    click.echo("\n".join([*shown, *(f"BROKEN {each}" for each in broken)]))


def _figures(backend: str, rounds: int) -> Measurements:
    manager = get_manager()
    spec = manager.backends()[backend]
    library = manager.load_backend(backend)
    profile = calibrate(library, library=spec.spec.library, library_version=spec.library_version)
    cells = list(_cells(library, CalibratedBackend(library, profile), backend, rounds, _groups()))
    return Measurements(backend=backend, profile=profile, rounds=rounds, cells=cells)


def _again(committed: Measurements, shape: str) -> Measurements:
    """The figures with one shape measured again: what a moment's noise has spoilt."""
    machine = CalibratedBackend(get_manager().load_backend(committed.backend), committed.profile)
    groups = [group for group in _groups() if group[0] == shape]
    anew = list(_cells(machine.backend, machine, committed.backend, committed.rounds, groups))
    cells = [
        cell
        for group in _groups()
        for cell in (anew if group in groups else committed.cells)
        if (cell.shape, cell.tokens, cell.private) == group
    ]
    return msgspec.structs.replace(committed, cells=cells)


@main.command()
def render() -> None:
    """Rewrite the table in the page."""
    PAGE.write_text(page(load()), encoding="utf-8")


@main.command()
def check() -> None:
    """Fail if plans, page or bars do not hold."""
    measurements = load()
    shown, broken = verdicts(measurements)
    broken += outdated(measurements)
    if page(measurements) != PAGE.read_text(encoding="utf-8"):
        broken.append("docs/packings.md is not what planner.json gives: run render")
    click.echo("\n".join([*shown, *(f"BROKEN {each}" for each in broken)]))
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
