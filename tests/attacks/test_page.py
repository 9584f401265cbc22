"""The page tells what the attacks give: every one of them, with both verdicts."""

from __future__ import annotations

from attackers.cases import CASES
from attackers.hiding import SHAPES
from attackers.mutants import MUTANTS
from attackers.precomputed.cases import CASES as PRECOMPUTED
from attackers.precomputed.distances import table
from attackers.table import rows


def test_every_attack_is_on_the_page_with_its_verdicts() -> None:
    shown = rows("attacks")
    assert [row[0] for row in shown] == [case.name for case in CASES]
    for case, (_, statistic, threshold, unprotected, protected) in zip(CASES, shown, strict=True):
        figure, _, off = unprotected.partition(": ")
        assert (statistic, threshold, off) == (case.statistic, f"{case.threshold:.3f}", case.off)
        assert float(figure) > case.threshold >= float(protected)


def test_every_attack_on_plans_that_run_ahead_of_time_is_on_its_page() -> None:
    shown = rows("precomputed")
    assert [row[0] for row in shown] == [case.name for case in PRECOMPUTED]
    for case, (_, who, statistic, threshold, unprotected, protected) in zip(PRECOMPUTED, shown, strict=True):
        figure, _, off = unprotected.partition(": ")
        assert (who, statistic, threshold, off) == (case.who, case.statistic, f"{case.threshold:.3f}", case.off)
        assert float(figure) > case.threshold >= float(protected)


def test_the_distances_on_the_page_are_those_of_their_formulas() -> None:
    assert rows("distances") == [[cell.strip() for cell in line.strip("|").split("|")] for line in table()[2:]]


def test_every_packing_is_on_the_page_with_a_distance_below_that_promised() -> None:
    shown = rows("floods")
    assert {row[0].strip("`"): row[1] for row in shown} == SHAPES
    assert all(float(cell.partition(":")[0]) <= -40 for row in shown for cell in row[2:])


def test_every_weakening_is_on_the_page() -> None:
    assert rows("mutants") == [[each.what, ", ".join(each.seen_in)] for each in MUTANTS]
