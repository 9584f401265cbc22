"""``helora bench mutation``: which small changes of core no test notices."""

from __future__ import annotations

import fnmatch
import sys
from collections import Counter
from pathlib import Path

import click

from helora_core.cli.numbers import Whole
from helora_core.cli.options import as_json, wide
from helora_harness.mutation.mutants import Mutant
from helora_harness.places import REPO

SCHEMA = 1
FATES = ("killed", "survived", "timed out")


@click.command()
@click.option("--limit", type=Whole(1), default=200, show_default=True, help="How many mutants.")
@click.option("--all", "every", is_flag=True, help="Every mutant: about a day of one core.")
@click.option("--seed", default=0, show_default=True, help="Another seed draws another sample.")
@click.option("--only", default="*", metavar="GLOB", help="Of these files alone, such as '*/params/*'.")
@click.option("--list", "list_only", is_flag=True, help="Name the mutants and run nothing.")
@click.option("--repo", type=click.Path(path_type=Path, exists=True, file_okay=False), default=REPO, hidden=True)
@wide
@as_json
def mutation(limit: int, every: bool, seed: int, only: str, list_only: bool, repo: Path, as_json: bool) -> None:
    """Change core's sources one step at a time, in a copy, and name the changes that no test notices.

    A sample of params, privacy, compiler and packing, the same for a seed. Fails if a mutant survives that
    harness/mutation.toml does not explain.
    """
    from helora_core.cli.output import print_json, print_table, progress
    from helora_core.cli.tables import Column, Table
    from helora_harness.mutation.runs import Outcome, all_mutants, checker, known_equivalents, sample
    from helora_harness.mutation.runs import package_of as package

    there = all_mutants(repo)
    chosen = [mutant for mutant in there if fnmatch.fnmatch(mutant.file, only)]
    if not chosen:
        raise click.BadParameter(f"no file that is mutated matches {only!r}", param_hint="--only")
    mutants = sample(chosen, len(chosen) if every else limit, seed)
    outcomes: list[Outcome] = []
    known = known_equivalents(there, repo / "harness" / "mutation.toml")
    if list_only:
        columns = [Column("where"), Column("kind"), Column("change", prose=True)]
        print_table(Table(columns, [(f"{m.file}:{m.line}", m.kind, m.new) for m in mutants], spare=("kind",)))
        return
    with checker(repo) as checks, progress("mutants", len(mutants)) as advance:
        for name in dict.fromkeys(map(package, mutants)):
            seconds = checks.baseline(name)
            click.echo(f"{name}: its tests take {seconds:.0f} s", err=True)
        for number, mutant in enumerate(mutants, start=1):
            outcomes.append(checks.outcome(mutant))
            advance(1)
            if not sys.stderr.isatty():
                click.echo(f"{number}/{len(mutants)} {mutant.file}:{mutant.line} {outcomes[-1].fate}", err=True)

    survivors = [each for each in outcomes if each.fate == "survived"]
    unexplained = [each for each in survivors if each.mutant.name not in known]
    if as_json:
        rows = [
            {
                **{key: getattr(each.mutant, key) for key in ("file", "line", "where", "kind", "old", "new")},
                "fate": each.fate, "by": each.by, "seconds": round(each.seconds, 2),
                "equivalent": known.get(each.mutant.name),
            }
            for each in outcomes
        ]  # fmt: skip
        print_json({"schema": SCHEMA, "seed": seed, "mutants": len(there), "outcomes": rows})
    else:
        counts = Counter((package(each.mutant), each.fate) for each in outcomes)
        explained = Counter(package(each.mutant) for each in survivors if each.mutant.name in known)
        table = [
            [name, *(str(counts[name, fate]) for fate in FATES), str(explained[name])]
            for name in dict.fromkeys(package(each.mutant) for each in outcomes)
        ]
        headings = ["package", *FATES, "of these equivalent"]
        totals = [str(sum(int(row[column]) for row in table)) for column in range(1, len(headings))]
        print_table(Table.of_text(headings, table, numbers=headings[1:], total=["all", *totals]))
        for each in survivors:
            click.echo(_shown(each.mutant, known.get(each.mutant.name, "")))
    if unexplained:
        raise SystemExit(1)


def _shown(mutant: Mutant, reason: str) -> str:
    lines = [f"{mutant.file}:{mutant.line} in {mutant.where or 'module'} ({mutant.kind})"]
    lines += [f"  equivalent: {reason}"] if reason else []
    return "\n".join(
        [
            *lines,
            *(f"  - {line}" for line in mutant.old.split("\n")),
            *(f"  + {line}" for line in mutant.new.split("\n")),
        ]
    )
