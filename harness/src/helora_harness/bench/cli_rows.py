"""Shared by commands that append rows: where the rows go, and the summary at the end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import click

from helora_core.cli.options import Decorator
from helora_core.cli.terminal import say

out_option: Decorator = click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default="helora-bench.jsonl",
    show_default=True,
    metavar="FILE",
    help="Rows are appended here; what it has is not measured again.",
)
again_option: Decorator = click.option("--again", is_flag=True, help="Measure what the file has, too.")


def tell_file(out: Path, what: str, resumed: Sequence[bool], *, dirty: bool) -> None:
    """Print where the rows are, how many already existed, and whether a later run will reuse them."""
    if any(resumed):
        say(f"{sum(resumed)} of {len(resumed)} {what} were in {out} already; --again measures them again")
    if dirty:
        say("the code has changes that its commit does not have: these rows are not taken up by a later run")
    say(f"rows are in {out}")


def tell_exercised(present: Sequence[str], missing: dict[str, str]) -> None:
    """Say how many backends were measured; on standard error, with the reasons, if some were not."""
    from helora_harness.bench.record import exercised

    for line in exercised(present, missing):
        say(line, err=bool(missing))


def warn_of_emulations(present: Iterable[str], what: str) -> None:
    """Warn, by name, of backends that encrypt nothing."""
    from helora_core.cli.output import warn
    from helora_core.host.manager import get_manager

    for name in present:
        if not get_manager().backends()[name].spec.provides_security:
            warn(f"backend {name} is an emulation: {what}.")
