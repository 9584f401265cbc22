"""The page of claims is what its rows give, and what no longer holds is seen."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from helora_harness.cases import absent
from helora_harness.claims import figures, measure, page
from helora_harness.claims.cli import claims as command
from helora_harness.claims.measure import ClaimRow

needs_backend = pytest.mark.skipif(bool(absent([measure.BACKEND])), reason="plans are counted for TenSEAL")


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
def test_the_committed_rows_hold(rows: list[ClaimRow]) -> None:
    assert problems(rows) == []


@needs_backend
class TestProblems:
    def test_a_changed_page_is_seen(self, rows: list[ClaimRow]) -> None:
        assert page.problems(rows, page.rendered(rows) + "7.4\n") == [
            "docs/claims.md is not what the rows give; run render"
        ]

    def test_a_changed_time_is_seen_on_the_page(self, rows: list[ClaimRow]) -> None:
        faster = with_first(rows, metrics={**rows[0].metrics, "ms_per_token": 1.0})
        assert page.problems(faster, page.rendered(rows)) == ["docs/claims.md is not what the rows give; run render"]

    def test_a_changed_count_is_seen_though_the_page_was_rendered(self, rows: list[ClaimRow]) -> None:
        more = with_first(rows, counts={**rows[0].counts, "rotations": 1})
        assert problems(more) == ["tensafe_decoding theirs: rotations 1 in the row, 0 by the code"]

    def test_changed_rotations_per_token_are_seen(self, rows: list[ClaimRow]) -> None:
        more = with_first(rows, metrics={**rows[0].metrics, "rotations_per_token": 1.0})
        assert problems(more) == ["tensafe_decoding theirs: rotations_per_token 1.0 in the row, 0.0 by the code"]

    def test_a_wrong_result_is_seen(self, rows: list[ClaimRow]) -> None:
        wrong = with_first(rows, metrics={**rows[0].metrics, "precision_bits": 3.0})
        assert problems(wrong) == ["tensafe_decoding theirs: Δ has 3.0 bits of precision, and plans promise 12"]

    def test_a_row_of_other_work_is_seen(self, rows: list[ClaimRow]) -> None:
        assert problems(with_first(rows, sanitize_bits=40)) == [
            "tensafe_decoding theirs: the row is of other work; run measure"
        ]

    def test_a_missing_row_is_seen(self, rows: list[ClaimRow]) -> None:
        assert page.problems(rows[1:], "") == ["tensafe_decoding theirs: there is no row; run measure"]

    def test_a_row_that_nothing_measures_is_seen(self, rows: list[ClaimRow]) -> None:
        left_over = msgspec.structs.replace(rows[0], variant="gone")
        assert problems([*rows, left_over]) == ["tensafe_decoding gone: nothing measures this row any more"]

    def test_a_changed_error_of_a_formula_is_seen(self, rows: list[ClaimRow]) -> None:
        changed = [
            msgspec.structs.replace(row, metrics={"relative_error": 0.0}) if row.variant == "summed_rank" else row
            for row in rows
        ]
        (found,) = problems(changed)
        assert found.startswith("packing_rotations summed_rank: relative error 0.0 in the row, 1.0")


@pytest.mark.parametrize("claim", figures.figures().claims, ids=lambda claim: claim.name)
class TestClaims:
    def test_it_has_sources_with_a_link_and_a_quotation(self, claim: figures.Claim) -> None:
        assert claim.sources
        for source in claim.sources:
            assert source.url.startswith("https://")
            assert source.quote
            assert source.name

    def test_its_table_has_a_heading_for_all_that_is_published(self, claim: figures.Claim) -> None:
        for published in claim.published:
            assert published.keys() <= set(figures.COLUMNS[claim.columns])

    def test_its_variants_have_names_of_their_own(self, claim: figures.Claim) -> None:
        names = [variant.name for variant in claim.variants]
        assert len(set(names)) == len(names) > 0


def test_a_formula_that_is_the_adapter_has_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "FORMULAS", {"exact": lambda module, x: module.reference_delta(x)})
    variant = figures.Variant(name="exact", label="Δ", shape="16:16:2", tokens=3, formula="exact")
    assert measure.relative_error(variant) == 0.0


def test_rows_read_as_they_were_written(rows: list[ClaimRow], tmp_path: Path) -> None:
    measure.write_rows(rows, tmp_path / "rows.jsonl")
    assert measure.read_rows(tmp_path / "rows.jsonl") == rows


def test_what_is_no_row_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"schema": 2}\n', encoding="utf-8")
    with pytest.raises(measure.RowsUnreadable):
        measure.read_rows(tmp_path / "rows.jsonl")


@pytest.mark.parametrize(
    ("before", "after"),
    [('name = "', 'nmae = "'), ("tokens = 8", 'tokens = "8"'), ('columns = "times"', 'columns = "other"'), ('"', "")],
    ids=["unknown key", "wrong type", "unknown table", "no TOML"],
)
def test_a_file_of_figures_is_read_to_the_letter(before: str, after: str, tmp_path: Path) -> None:
    text = figures.FIGURES.read_text(encoding="utf-8")
    (tmp_path / "claims.toml").write_text(text.replace(before, after, 1), encoding="utf-8")
    with pytest.raises(figures.FiguresUnreadable):
        figures.read_figures(tmp_path / "claims.toml")


@needs_backend
class TestCommand:
    def test_check_passes(self) -> None:
        done = CliRunner().invoke(command, ["check"])
        assert done.exit_code == 0
        assert f"of {len(figures.figures().claims)} claims hold" in done.output

    def test_check_fails_in_json_too(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        (tmp_path / "claims.md").write_text("other", encoding="utf-8")
        monkeypatch.setattr(page, "PAGE", tmp_path / "claims.md")
        done = CliRunner().invoke(command, ["check", "--json"])
        assert done.exit_code == 1
        assert json.loads(done.output)["problems"] == ["docs/claims.md is not what the rows give; run render"]

    def test_render_writes_the_page(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr(page, "PAGE", tmp_path / "claims.md")
        assert CliRunner().invoke(command, ["render"]).exit_code == 0
        assert (tmp_path / "claims.md").read_text(encoding="utf-8") == page.rendered(measure.read_rows())
