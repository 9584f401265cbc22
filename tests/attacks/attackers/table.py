"""The tables of attacks: ``python tests/attacks/attackers/table.py`` runs all attacks and rewrites the pages."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from attackers.cases import CASES, Lab
from attackers.hiding import SHAPES, distances
from attackers.mutants import MUTANTS
from attackers.precomputed.cases import CASES as PRECOMPUTED
from attackers.precomputed.distances import table as distances_table

from helora_core.host.manager import get_manager

DOCS = Path(__file__).parents[3] / "docs"


def _attacks() -> list[str]:
    lab = Lab(get_manager().load_backend("tenseal"))
    rows = [
        f"| {case.name} | {case.statistic} | {case.threshold:.3f} | {case.unprotected(lab):.3f}: {case.off} "
        f"| {case.protected(lab):.3f} |"
        for case in CASES
    ]
    return ["| attack | statistic | threshold | unprotected | protected |", "|---|---|---|---|---|", *rows]


def _floods() -> list[str]:
    rows = []
    for packing, shape in SHAPES.items():
        found, _ = distances(get_manager().load_backend("tenseal"), packing)
        worst = max(found, key=lambda kind: found[kind])
        rows.append(f"| `{packing}` | {shape} | {found['usual']:.1f} | {found[worst]:.1f}: {worst} |")
    return ["| packing | module | usual weights | worst |", "|---|---|---|---|", *rows]


def _mutants() -> list[str]:
    return [
        "| weakened | found in |",
        "|---|---|",
        *(f"| {each.what} | {', '.join(each.seen_in)} |" for each in MUTANTS),
    ]


def _precomputed() -> list[str]:
    rows = [
        f"| {case.name} | {case.who} | {case.statistic} | {case.threshold:.3f} | {case.unprotected():.3f}: {case.off} "
        f"| {case.protected():.3f} |"
        for case in PRECOMPUTED
    ]
    return ["| attack | by the | statistic | threshold | unprotected | protected |", "|---|---|---|---|---|---|", *rows]


TABLES = {
    "attacks.md": {"attacks": _attacks, "floods": _floods, "mutants": _mutants},
    "security-precomputed.md": {"distances": distances_table, "precomputed": _precomputed},
}
"""By page: what makes each table."""


def rows(name: str) -> list[list[str]]:
    """The cells of a table as it stands on the page, row by row."""
    page = next(page for page, tables in TABLES.items() if name in tables)
    text = (DOCS / page).read_text(encoding="utf-8")
    inside = text.partition(f"<!-- {name}: begin -->\n")[2].partition(f"<!-- {name}: end -->")[0].split("\n")
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in inside if line.startswith("|")][2:]


def _written(text: str, name: str, lines: list[str]) -> str:
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->\n"
    before, _, rest = text.partition(begin)
    return f"{before}{begin}\n" + "\n".join(lines) + f"\n\n{end}{rest.partition(end)[2]}"


if __name__ == "__main__":
    for name in sys.argv[1:] or TABLES:
        page = (DOCS / name).read_text(encoding="utf-8")
        for table, made in TABLES[name].items():
            page = _written(page, table, made())
        (DOCS / name).write_text(page, encoding="utf-8")
