"""The page of claims is what its rows give, and what no longer holds is seen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from helora_harness.cases import absent
from helora_harness.claims import measure, page
from helora_harness.claims.cli import claims as command
from helora_harness.claims.figures import Claim, ClaimsUnreadable, Variant, figures
from helora_harness.claims.measure import ClaimRow
from helora_harness.places import DATA

needs_backend = pytest.mark.skipif(bool(absent([figures().backend])), reason="plans are counted for TenSEAL")


@pytest.fixture(scope="module")
def rows() -> list[ClaimRow]:
    return measure.read_rows()


def problems(rows: Sequence[ClaimRow]) -> list[str]:
    """Of rows whose page was rendered."""
    return page.problems(rows, page.rendered(rows))


def with_first(rows: Sequence[ClaimRow], **changes: object) -> list[ClaimRow]:
    return [msgspec.structs.replace(rows[0], **changes), *rows[1:]]


def test_the_page_is_what_the_committed_rows_give(rows: list[ClaimRow]) -> None:
    assert page.PAGE.read_text(encoding="utf-8") == page.rendered(rows)


@needs_backend
class TestProblems:
    def test_the_committed_rows_have_none(self, rows: list[ClaimRow]) -> None:
        assert problems(rows) == []

    def test_a_changed_time_is_seen_on_the_page(self, rows: list[ClaimRow]) -> None:
        faster = with_first(rows, measured={**rows[0].measured, "ms_per_token": 1.0})
        assert page.problems(faster, page.rendered(rows)) == ["docs/claims.md is not what the rows give; run render"]

    @pytest.mark.parametrize("name", ["work", "sanitised", "modulus_bits", "rotations", "ct_pt_per_token", "leakage"])
    def test_a_changed_fact_is_seen_though_the_page_was_rendered(self, name: str, rows: list[ClaimRow]) -> None:
        now = rows[0].facts[name]
        assert problems(with_first(rows, facts={**rows[0].facts, name: 1})) == [
            f"tensafe_decoding theirs: {name} is 1 in the row, {now} by the code"
        ]

    def test_a_wrong_result_is_seen(self, rows: list[ClaimRow]) -> None:
        wrong = with_first(rows, measured={**rows[0].measured, "precision_bits": 3.0})
        assert problems(wrong) == ["tensafe_decoding theirs: Δ has 3.0 bits of precision, and plans promise 12"]

    def test_what_was_not_measured_is_seen(self, rows: list[ClaimRow]) -> None:
        assert problems(with_first(rows, measured={})) == ["tensafe_decoding theirs: it was not measured; run measure"]

    def test_missing_rows_and_rows_of_nothing_are_seen(self, rows: list[ClaimRow]) -> None:
        assert page.problems(with_first(rows, variant="gone"), "") == [
            "rows and figures differ in tensafe_decoding gone, tensafe_decoding theirs; run measure"
        ]

    def test_a_changed_error_of_a_formula_is_seen(self, rows: list[ClaimRow]) -> None:
        changed = [
            msgspec.structs.replace(row, facts={**row.facts, "relative_error": 0.0})
            if row.variant == "summed_rank"
            else row
            for row in rows
        ]
        (found,) = problems(changed)
        assert found.startswith("packing_rotations summed_rank: relative_error is 0.0 in the row, 1.0")


@pytest.mark.parametrize("claim", figures().claims, ids=lambda claim: claim.name)
class TestClaims:
    def test_it_has_sources_with_a_link_and_a_quotation(self, claim: Claim) -> None:
        assert claim.sources
        for source in claim.sources:
            assert source.url.startswith("https://")
            assert source.quote
            assert source.name

    def test_its_table_has_a_heading_for_all_that_is_published(self, claim: Claim) -> None:
        for published in (*claim.published, *claim.stated):
            assert {"work"} <= published.keys() <= figures().columns[claim.columns].keys()

    def test_its_variants_have_names_of_their_own(self, claim: Claim) -> None:
        names = [variant.name for variant in claim.variants]
        assert len(set(names)) == len(names)
        assert names or claim.stated


@needs_backend
def test_every_column_is_filled_by_some_row(rows: list[ClaimRow]) -> None:
    known = {"tokens", "modules"}.union(*(row.facts.keys() | row.measured.keys() for row in rows))
    stated = {(claim.columns, heading) for claim in figures().claims for row in claim.stated for heading in row}
    for kind, columns in figures().columns.items():
        assert known >= {name for heading, name in columns.items() if (kind, heading) not in stated}


def test_a_formula_that_is_the_adapter_has_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "FORMULAS", {"exact": lambda module, x: module.reference_delta(x)})
    variant = Variant(name="exact", label="Δ", shape="16:16:2", tokens=3, formula="exact")
    assert measure.facts_of(variant)["relative_error"] == 0.0


@needs_backend
def test_what_is_measured_has_the_precision_and_the_size_that_its_plan_promises() -> None:
    variant = Variant(name="small", label="small", shape="64:64:2", tokens=2, packing="rank_bsgs")
    measured, facts = measure.measured(variant), measure.facts_of(variant)
    assert measured["precision_bits"] >= 12
    assert 0 < measured["bytes_down_per_token"] <= 1.05 * float(facts["bytes_down_per_token"])


@pytest.mark.parametrize(
    ("before", "after"),
    [('name = "', 'nmae = "'), ("tokens = 8", 'tokens = "8"'), ("ring_degree = 16384", "ring_degree = 7"), ('"', "")],
    ids=["unknown key", "wrong type", "no ring degree", "no TOML"],
)
def test_a_file_of_figures_is_read_to_the_letter(before: str, after: str, tmp_path: Path) -> None:
    head, _, text = (DATA / "claims.toml").read_text(encoding="utf-8").partition("[[claims]]")
    (tmp_path / "claims.toml").write_text(f"{head}[[claims]]{text.replace(before, after, 1)}", encoding="utf-8")
    with pytest.raises(ClaimsUnreadable):
        figures(tmp_path / "claims.toml")


@needs_backend
class TestCommand:
    def test_check_passes(self) -> None:
        done = CliRunner().invoke(command, ["check"])
        assert done.exit_code == 0
        assert f"of {len(figures().claims)} claims hold" in done.output

    def test_check_fails_on_another_page_which_render_then_writes(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (tmp_path / "claims.md").write_text("other", encoding="utf-8")
        monkeypatch.setattr(page, "PAGE", tmp_path / "claims.md")
        done = CliRunner().invoke(command, ["check"])
        assert (done.exit_code, done.output) == (1, "docs/claims.md is not what the rows give; run render\n")
        assert CliRunner().invoke(command, ["render"]).exit_code == 0
        assert (tmp_path / "claims.md").read_text(encoding="utf-8") == page.rendered(measure.read_rows())
