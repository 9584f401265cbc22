"""``helora bench claims``."""

from __future__ import annotations

import sys

import click

from helora_core.cli.options import as_json


@click.group()
def claims() -> None:
    """Published figures beside what is measured here: docs/claims.md."""


@claims.command()
def measure() -> None:
    """Measure all variants on TenSEAL, and write rows and page; some two minutes on an otherwise idle machine."""
    from helora_core.cli.output import progress
    from helora_harness.claims import measure as measuring
    from helora_harness.claims import page
    from helora_harness.claims.figures import wanted

    with progress("variants", len(list(wanted()))) as advance:
        rows = measuring.measure(lambda: advance(1))
    measuring.write_rows(rows)
    _write_page()
    click.echo(f"{len(rows)} rows in {measuring.ROWS}, and the page in {page.PAGE}")


@claims.command()
def render() -> None:
    """Write the page from the committed rows."""
    _write_page()


def _write_page() -> None:
    from helora_harness.claims import page
    from helora_harness.claims.measure import read_rows

    page.PAGE.write_text(page.rendered(read_rows()), encoding="utf-8")


@claims.command()
@as_json
def check(as_json: bool) -> None:
    """Fail if the page is not what the rows give, counts have changed, or a claim has no row."""
    from helora_core.cli.output import print_json
    from helora_harness.claims import page
    from helora_harness.claims.figures import figures

    rows, text = page.load()
    broken = page.problems(rows, text)
    if as_json:
        print_json(page.as_document(rows, broken))
    else:
        click.echo("\n".join(broken) or f"{len(rows)} rows of {len(figures().claims)} claims hold")
    sys.exit(bool(broken))
