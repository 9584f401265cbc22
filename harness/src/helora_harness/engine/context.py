"""What the bars stand among: every eligible packing for four modules and 1 to 2048 tokens, sanitised, on our engine and
on SEAL through TenSEAL, beside the same product by NumPy in the clear.

Sessions are used without messages around them: what a full run of ``cpmm`` answers is larger than any message may be.
"""

from __future__ import annotations

import statistics
import textwrap
import time
from collections.abc import Iterable, Iterator
from typing import Any

import click
import msgspec

from helora_core.adapter.lora import ModuleShape
from helora_core.adapter.synthetic import synthetic_activations, synthetic_module
from helora_core.cli.output import print_json, progress
from helora_core.errors import HeloraError
from helora_core.execution.reference import precision_bits
from helora_core.host.manager import get_manager
from helora_core.planning.planner import CalibratedBackend, Candidate
from helora_harness.cases import absent
from helora_harness.engine.parties import PRIVATE, candidates, machine_of
from helora_harness.machine import machine_facts
from helora_harness.planner.measure import MOST_BYTES, held_bytes
from helora_harness.prepared import PreparedPlan
from helora_rns.choice import chosen

SHAPES = ("1536:1536:16", "1536:1536:32", "4096:4096:16", "576:768:16")
TOKENS = (1, 8, 64, 2048)
BACKENDS = ("rns", "tenseal")
QUICK_SHAPES, QUICK_TOKENS = ("576:768:16",), (1,)

LONGEST_S = 60.0
"""Runs that are predicted to take longer are not made."""

QUICK_OPERATIONS = 600
"""Programs of more operations are not run when it must be quick."""

ROUNDS = 3


class Row(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One packing on one backend. Times and bytes are per token, wall time without a network.

    Attributes:
        module: d_in:d_out:rank.
        tokens: How many are run together.
        backend: ``numpy, in the clear`` for the product itself.
        packing: Empty for that.
        ring_degree: Of the fastest plan.
        client_up_ms: Pack, encrypt, serialise.
        server_ms: Read, compute, sanitise, serialise.
        client_down_ms: Read, decrypt, unpack.
        tokens_per_s: Of one client and one server that wait for each other.
        bytes_up: Of messages.
        bytes_down: Of messages.
        bytes_keys: Of evaluation keys, once.
        bits: Of max|Δ| that are right.
        skipped: Why it was not run.
    """

    module: str
    tokens: int
    backend: str
    packing: str = ""
    ring_degree: int = 0
    client_up_ms: float | None = None
    server_ms: float | None = None
    client_down_ms: float | None = None
    tokens_per_s: float | None = None
    bytes_up: float | None = None
    bytes_down: float | None = None
    bytes_keys: int | None = None
    bits: float | None = None
    skipped: str = ""


def rows(*, quick: bool, step: Any) -> Iterator[Row]:
    """All of them; what does not run is a row that says why."""
    missing = absent(BACKENDS)
    machines = {name: machine_of(name, quick=quick) for name in BACKENDS if name not in missing}
    packings = sorted(get_manager().packings())
    for module, tokens in cells(quick):
        yield _in_the_clear(module, tokens)
        for packing in packings:
            for backend in BACKENDS:
                if backend in missing:
                    yield Row(module=module, tokens=tokens, backend=backend, packing=packing, skipped=missing[backend])
                else:
                    yield _best(machines[backend], backend, packing, module, tokens, quick)
                step(1)


def cells(quick: bool) -> list[tuple[str, int]]:
    """Modules with numbers of tokens."""
    shapes, tokens = (QUICK_SHAPES, QUICK_TOKENS) if quick else (SHAPES, TOKENS)
    return [(shape, number) for shape in shapes for number in tokens]


def _in_the_clear(module: str, tokens: int) -> Row:
    shape = ModuleShape.parse(module)
    weights, x = synthetic_module(shape, seed=1), synthetic_activations(shape, tokens, seed=2)
    down, up = weights.down, weights.scaled_up
    times = []
    for _ in range(20):
        start = time.perf_counter()
        _ = x @ down.T @ up.T
        times.append(time.perf_counter() - start)
    ms = statistics.median(times) * 1e3 / tokens
    return Row(module=module, tokens=tokens, backend="numpy, in the clear", server_ms=ms, tokens_per_s=1e3 / ms)


def _best(machine: CalibratedBackend, backend: str, packing: str, module: str, tokens: int, quick: bool) -> Row:
    """The fastest of the packing's plans, or the reason that the first has for not being run."""
    found = [
        _row(option, backend, module, tokens, quick)
        for option in candidates(machine, backend, module, packing, tokens, PRIVATE)
    ]
    ran = [row for row in found if not row.skipped]
    return max(ran, key=lambda row: row.tokens_per_s or 0.0) if ran else found[0]


def _row(option: Candidate, backend: str, module: str, tokens: int, quick: bool) -> Row:
    asked: dict[str, Any] = {"module": module, "tokens": tokens, "backend": backend, "packing": option.packing}
    reason = _why_not(option, quick)
    if reason or option.plan is None:
        return Row(**asked, skipped=reason)
    plan = option.plan
    try:
        prepared = PreparedPlan(get_manager().load_backend(backend), plan)
        x = prepared.activations(min(tokens, plan.tokens_per_run))
        results = [prepared.run(x) for _ in range(2 if quick else 1 + ROUNDS)][1:]  # the first warms up
    except (HeloraError, MemoryError) as error:
        return Row(**asked, skipped=f"{type(error).__name__}: {error}")
    runs = plan.runs(tokens)
    up, server, down = (
        statistics.median(getattr(result.times, phase) for result in results) / 1e6 * runs / tokens
        for phase in ("encrypt", "compute", "decrypt")
    )
    return Row(
        **asked, ring_degree=plan.params.ring_degree, client_up_ms=up, server_ms=server, client_down_ms=down,
        tokens_per_s=1e3 / (up + server + down), bytes_up=results[0].bytes_up * runs / tokens,
        bytes_down=results[0].bytes_down * runs / tokens, bytes_keys=plan.key_bytes,
        bits=min(precision_bits(result.delta, prepared.module.reference_delta(x)) for result in results),
    )  # fmt: skip


def _why_not(option: Candidate, quick: bool) -> str:
    """Why a plan is not run; empty if it is."""
    if option.refusal is not None:
        return str(option.refusal.message)
    assert option.plan is not None
    if held_bytes(option.plan) > MOST_BYTES:
        return f"plaintexts and ciphertexts would take {held_bytes(option.plan) >> 30} GiB"
    if quick and len(option.plan.program.ops) > QUICK_OPERATIONS:
        return f"{len(option.plan.program.ops)} operations are not quick"
    if option.prediction is not None:
        seconds = option.prediction.total_ms / option.prediction.runs / 1e3
        if seconds > LONGEST_S:
            return f"a run is predicted to take {seconds:.0f} s"
    return ""


_WIDTHS = (18, 8, 7, 8, 7, 7, 12, 7, 6)
_COLUMNS = ("packing", "on", "client", "server", "client", "tok/s", "KB", "keyMB", "bits")


def _line(cells: Iterable[str]) -> str:
    """Cells in their columns, words to the left and numbers to the right: 80 columns."""
    return "".join(
        cell.ljust(width) if i < 2 else cell.rjust(width)
        for i, (cell, width) in enumerate(zip(cells, _WIDTHS, strict=True))
    )


def lines(found: Iterable[Row]) -> Iterator[str]:
    """Tables of 80 columns, one for each module and number of tokens."""
    heading: tuple[str, int] | None = None
    skipped: list[Row] = []
    for row in found:
        if heading != (row.module, row.tokens):
            yield from _told(skipped)
            heading, skipped = (row.module, row.tokens), []
            yield f"\n{row.module}, {row.tokens} token{'s' * (row.tokens != 1)}; ms, and KB up and down, per token"
            yield _line(_COLUMNS)
        if row.skipped:
            skipped.append(row)
            continue
        if not row.packing:
            yield f"{row.backend:<33}{_of(row.server_ms):>8}{'':7}{_of(row.tokens_per_s):>7}"
            continue
        size = f"{_of((row.bytes_up or 0) / 1e3)}/{_of((row.bytes_down or 0) / 1e3)}"
        numbers = (row.client_up_ms, row.server_ms, row.client_down_ms, row.tokens_per_s)
        keys = _of((row.bytes_keys or 0) / 1e6)
        yield _line((row.packing, row.backend, *map(_of, numbers), size, keys, f"{row.bits:.1f}"))
    yield from _told(skipped)


def _told(skipped: list[Row]) -> Iterator[str]:
    for row in skipped:
        said = f"{row.packing} on {row.backend} is not run: {row.skipped}"
        yield from textwrap.wrap(said, 78, initial_indent="  ", subsequent_indent="    ")


def _of(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def tell(*, quick: bool, as_json: bool) -> None:
    """Measure and print."""
    total = len(cells(quick)) * len(get_manager().packings()) * len(BACKENDS)
    with progress("packings", total) as advance:
        found = list(rows(quick=quick, step=advance))
    if as_json:
        told = {"schema": 1, "kernels": chosen(), "quick": quick, **machine_facts(), "rows": found}
        print_json(told)
        return
    click.echo(f"kernels {chosen()}, one thread, results sanitised to {PRIVATE.sanitize_bits} bits")
    for line in lines(found):
        click.echo(line)
