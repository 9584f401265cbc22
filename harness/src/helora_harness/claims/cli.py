"""``helora bench claims``."""

from __future__ import annotations

import sys

import click
import msgspec

from helora_core.cli.groups import Group
from helora_core.cli.output import progress
from helora_harness.claims import measure as measuring
from helora_harness.claims import page
from helora_harness.claims.figures import figures


@click.group(cls=Group)
def claims() -> None:
    """Published figures beside what is measured here: docs/claims.md."""


@claims.command()
def measure() -> None:
    """Measure all variants, and write rows and page; some two minutes on an otherwise idle machine."""
    rows = []
    with progress("variants", len(list(figures().variants()))) as advance:
        for row in measuring.measured_rows():
            rows.append(row)
            advance(1)
    measuring.ROWS.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
    page.PAGE.write_text(page.rendered(rows), encoding="utf-8")
    click.echo(f"{len(rows)} rows in {measuring.ROWS}, and the page in {page.PAGE}")


@claims.command()
def render() -> None:
    """Write the page from the committed rows."""
    page.PAGE.write_text(page.rendered(measuring.read_rows()), encoding="utf-8")


@claims.command()
def check() -> None:
    """Fail if the page is not what the rows give, the code gives other facts, or a variant has no row."""
    rows = measuring.read_rows()
    broken = page.problems(rows, page.PAGE.read_text(encoding="utf-8"))
    click.echo("\n".join(broken) or f"{len(rows)} rows of {len(figures().claims)} claims hold")
    sys.exit(bool(broken))
