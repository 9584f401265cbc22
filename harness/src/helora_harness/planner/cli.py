"""``helora bench planner``.

``measure`` calibrates a backend, runs every packing, and writes the figures with their provenance to ``planner.json``;
``render`` makes the table of ``docs/packings.md``, between its marks; ``check`` holds page, plans and bars. The bars:
predictions within 15 % of the measurement in the median over held-out plans, within 30 % for nine of ten and within
50 % at worst; the chosen plan within 10 % of the best one measured. Slow phases of a shared machine are waited
out, which a fixed run tells.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click
import msgspec

from helora_core.cli.groups import Group
from helora_core.cli.numbers import Whole
from helora_core.cli.options import force as force_option
from helora_core.files.outputs import opened
from helora_harness.planner import page as planner
from helora_harness.planner.measure import SHAPES, measured_again, measured_figures


@click.group("planner", cls=Group)
def planner_group() -> None:
    """Predicted and measured times of every packing, and how the planner's choices fare."""


@planner_group.command()
@click.option("--backend", default="tenseal", show_default=True)
@click.option(
    "--rounds", type=Whole(1), default=5, show_default=True, help="Interleaved runs of plans that are near the best."
)
@click.option("--output", type=click.Path(path_type=Path), default=planner.FIGURES, show_default=False)
@click.option("--again", type=click.Choice(SHAPES), help="Only this shape, with the profile of the committed figures.")
@force_option
def measure(backend: str, rounds: int, output: Path, again: str | None, force: bool) -> None:
    """Calibrate, run and write the figures; some ten minutes on an otherwise idle machine."""
    ours = output == planner.FIGURES  # the committed figures are there to be replaced
    with opened([output], force=force or ours) as files:
        found = measured_figures(backend, rounds) if again is None else measured_again(planner.load(), again)
        files.write(output, lambda file: file.write(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n"))
    shown, broken = planner.verdicts(found)
    click.echo("\n".join([*shown, *(f"BROKEN {each}" for each in broken)]))


@planner_group.command()
def render() -> None:
    """Rewrite the table in the page."""
    planner.PAGE.write_text(planner.page(planner.load()), encoding="utf-8")


@planner_group.command()
def check() -> None:
    """Fail if plans, page or bars do not hold."""
    measurements = planner.load()
    shown, broken = planner.verdicts(measurements)
    broken += planner.outdated(measurements)
    if planner.page(measurements) != planner.PAGE.read_text(encoding="utf-8"):
        broken.append("docs/packings.md is not what planner.json gives: run render")
    click.echo("\n".join([*shown, *(f"BROKEN {each}" for each in broken)]))
    sys.exit(1 if broken else 0)
