"""``helora bench e2e``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from helora_core.cli.numbers import Real, Whole
from helora_core.cli.options import Decorator, as_json, wide
from helora_core.cli.terminal import say
from helora_harness.bench.cli_rows import again_option, out_option, tell_exercised, tell_file, warn_of_emulations
from helora_harness.places import REPO

if TYPE_CHECKING:
    from helora_core.planning.predict import Bottleneck
    from helora_harness.bench.e2e import Measured
    from helora_harness.rows import Cell, Row


Convert = Callable[[Any, "click.Parameter | None", "click.Context | None"], Any]


def _several(name: str, convert: Convert | None, default: str | None, metavar: str, text: str) -> Decorator:
    """An option of values that are separated by commas, repeated, or both."""

    def split(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> tuple[Any, ...]:
        parts = [part.strip() for value in values for part in value.split(",") if part.strip()]
        if values and not parts:
            raise click.BadParameter("there is no value in it", ctx, param)
        return tuple(dict.fromkeys(convert(part, param, ctx) if convert else part for part in parts))

    return click.option(
        name, multiple=True, callback=split, metavar=metavar, help=text,
        default=None if default is None else (default,), show_default=True,
    )  # fmt: skip


@click.command()
@_several("--hidden-sizes", Whole(1).convert, "256,512,1024,2048,4096", "D,…", "Modules of d × d.")
@_several("--ranks", Whole(1).convert, "4,8,16,32", "R,…", "Ranks.")
@_several("--batch-sizes", Whole(1).convert, "1,4,8,16", "B,…", "Sequences that decode together.")
@_several("--backend", None, None, "NAME,…", "Backends; by default tenseal if it can be used, else numpy.")
@_several("--packing", None, "rank_bsgs", "NAME,…", "Packings; auto: the planner's cheapest, regardless of leakage.")
@click.option("--preset", metavar="NAME", help="Take the cells of cases.py instead of a grid.")
@click.option(
    "--num-tokens",
    type=Whole(1),
    default=16,
    show_default=True,
    metavar="T",
    help="Tokens that each sequence decodes: steps measured, after one that is not.",
)
@click.option(
    "--max-seconds",
    type=Real(0),
    default=20.0,
    show_default=True,
    metavar="S",
    help="Begin no further step of a cell after this.",
)
@out_option
@again_option
@wide
@as_json
def e2e(
    hidden_sizes: tuple[int, ...], ranks: tuple[int, ...], batch_sizes: tuple[int, ...], backend: tuple[str, ...],
    packing: tuple[str, ...], preset: str | None, num_tokens: int, max_seconds: float, out: Path, again: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """Time encrypted decoding: throughput, latency, operations, bytes, precision and memory.

    A step gives one token to each sequence of a batch: one encrypted run over as many activation vectors. Every cell
    runs in its own process, and every result is compared with the plain adapter. The exit status is 1 if one is
    wrong, a process broke, or no cell could be measured.
    """
    from helora_core.cli.output import progress
    from helora_harness import cases
    from helora_harness.bench import record
    from helora_harness.bench.e2e import Steps, measure
    from helora_harness.bench.grid import grid
    from helora_harness.checkouts import Worker, code_here

    if preset is not None:
        _refuse_beside_preset("hidden_sizes", "ranks", "batch_sizes", "packing")
        cells: Sequence[Cell] = [each for each in cases.preset(preset) if not backend or each.backend in backend]
        if not cells:
            raise click.UsageError(f"Preset {preset} has no cell on {', '.join(backend)}.")
        present, missing = record.usable(each.backend for each in cells)
        cells = [each for each in cells if each.backend in present]
    else:
        present, missing = record.usable(backend or ("tenseal", "numpy"))
        present = present if backend else present[:1]  # by default the second only stands in for the first
        cells = grid(present, packing, hidden_sizes, ranks, batch_sizes)
    of = record.origin()
    file = record.Record(out, again=again)
    found: list[Measured] = []
    with record.resumable(out, of), code_here(REPO) as code, progress("cells", len(cells)) as advance:
        for each in measure(cells, file, of, lambda: Worker(code), Steps(num_tokens, max_seconds)):
            found.append(each)
            advance(1)
    if as_json:
        _print_json(out, found, missing)
    else:
        _print(out, found, of.dirty)
        tell_exercised(present, missing)
    warn_of_emulations(present, "nothing was encrypted")
    outcomes = {each.row.outcome for each in found if each.row is not None}
    sys.exit(outcomes != {"ok"})


def _refuse_beside_preset(*names: str) -> None:
    context = click.get_current_context()
    for name in names:
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--preset and --{name.replace('_', '-')} exclude each other.")


def _print_json(out: Path, found: Sequence[Measured], missing: dict[str, str]) -> None:
    from helora_core.cli.output import print_json
    from helora_harness.bench.e2e import SCHEMA, best, bound_by, off_profile

    rows = [each.row for each in found if each.row is not None]
    print_json(
        {
            "schema": SCHEMA,
            "file": str(out),
            "rows": rows,
            "resumed": [each.cell for each in found if each.resumed],
            "refused": [{"cell": each.cell, "reason": each.refused} for each in found if each.refused],
            "absent": missing,
            "unpredicted": sorted({each.unpredicted for each in found if each.unpredicted}),
            "off_profile": [row.cell for row in rows if row.outcome == "ok" and off_profile(row)],
            "best": {name: row.cell for name, row in best(rows).items()},
            "bottlenecks": [{"cell": row.cell, **vars(bound_by(row))} for row in rows if row.outcome == "ok"],
        }
    )


_NUMBERS = ("batch", "tok/s", "per sequence", "ms/tok", "p90 step", "max step", "rot/tok", "up/tok",
            "down/tok", "keys", "bits", "in library", "peak memory", "predicted")  # fmt: skip


_SPARE = ("max step", "p90 step", "per sequence", "predicted", "in library", "peak memory", "keys", "down/tok",
          "up/tok", "rot/tok", "bound by", "bits", "tok/s")  # fmt: skip


def _print(out: Path, found: Sequence[Measured], dirty: bool) -> None:
    from helora_core.cli.output import amount, print_table, size
    from helora_core.cli.tables import Table
    from helora_harness.bench.e2e import best, bound_by, bytes_per_token, off_profile

    rows = [each.row for each in found if each.row is not None]
    good = [row for row in rows if row.outcome == "ok"]
    if good:
        headings = ("backend", "packing", "shape", *_NUMBERS, "bound by")
        cells = [_cells(row, bound_by(row)) for row in good]
        print_table(Table.of_text(headings, cells, numbers=_NUMBERS, spare=_SPARE))
        say("steps in ms: one token for each sequence; bound by: what takes most of a step, and its share of it")
        say("results are not sanitised: these plans do not keep weights from the key holder (docs/security.md)")
    for row in rows:
        if row.outcome == "failed":
            say(f"FAILED {row.cell}: {row.reason}", err=True, colour="red")
    for each in found:
        if each.refused:
            say(f"not measured, {each.cell}: {each.refused}", err=True)
    for reason in sorted({each.unpredicted for each in found if each.unpredicted}):
        say(f"no predicted times, so no cell is called overhead-bound: {reason}", err=True)
    busier = sum(map(off_profile, good))
    if busier:
        say(
            f"{busier} of {len(good)} cells spent more time in the library than was predicted for the whole: "
            "the machine is busier than when it was calibrated, or slower",
            err=True,
        )
    leaders = best(rows)
    if leaders:
        first, fewest, least = leaders.values()
        say(f"highest throughput    {first.metrics['tokens_per_second']:.1f} tokens/s: {first.cell}")
        say(f"fewest rotations      {amount(fewest.metrics['rotations_per_token'])} per token: {fewest.cell}")
        say(f"fewest bytes          {size(bytes_per_token(least))} per token, up and down: {least.cell}")
    tell_file(out, "cells", [each.resumed for each in found], dirty=dirty)


def _cells(row: Row, bound: Bottleneck) -> tuple[str, ...]:
    from helora_core.cli.output import amount, seconds, size

    cell, metrics = row.cell, row.metrics
    predicted = metrics.get("predicted_ms_per_token")
    return (
        cell.backend,
        cell.packing,
        cell.shape,
        str(cell.tokens),
        f"{metrics['tokens_per_second']:.1f}",
        f"{metrics['tokens_per_second_per_sequence']:.1f}",
        seconds(metrics["ms_per_token"]),
        seconds(metrics["step_ms_p90"]),
        seconds(metrics["step_ms_max"]),
        amount(metrics["rotations_per_token"]),
        size(metrics["bytes_up_per_token"]),
        size(metrics["bytes_down_per_token"]),
        size(metrics["bytes_keys"]) if "bytes_keys" in metrics else "–",
        f"{metrics['precision_bits']:.1f}",
        f"{metrics['he_share']:.0%}",
        size(metrics["peak_rss_bytes"]) if "peak_rss_bytes" in metrics else "–",
        "–" if predicted is None else seconds(predicted),
        f"{bound.label} {bound.share:.0%}",
    )
