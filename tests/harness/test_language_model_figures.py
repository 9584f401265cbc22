"""Figures of language models: the page is what the file gives, and what no longer holds is seen."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from helora_core.data.bundled import DIRECTORY
from helora_harness.lm import cli, conditions, figures, page, shapes, tables
from helora_harness.lm.figures import (
    ONLINE,
    PLAIN,
    PRECOMPUTED,
    Conditions,
    Figures,
    FiguresUnreadable,
    Generation,
    Identity,
    Part,
    Shaped,
)
from helora_harness.lm.history import history_rows
from helora_harness.lm.networks import Network, NetworkType, predicted_ms
from helora_harness.lm.requirements import ModelsMissing, require_base
from helora_harness.rows import append_rows, key, read_rows

HERE = Conditions(
    commit="0" * 40, dirty=False, date=datetime(2026, 11, 27, tzinfo=timezone.utc), machine="x86_64-2c",
    cpu_model="CPU", python="3.11.7", os="Linux", load=(0.1, 0.2), threads=1, backend="rns", library="helora-rns 0.1.0",
    adapter=conditions.digest(DIRECTORY / "adapter"),
)  # fmt: skip
STEP = {"sequences": 2, "prompt": 8, "steps": 4, "prefill_ms": 10.0, "least_ms": 1.0}


@pytest.fixture(scope="module")
def committed() -> Figures:
    return figures.read()


def problems(of: Figures) -> list[str]:
    """Of figures whose page was rendered."""
    return page.problems(of, page.rendered(of))


def with_part(of: Figures, kind: str, **changes: object) -> Figures:
    """With the parts of a kind changed."""
    changed = (msgspec.structs.replace(part, **changes) if part.kind == kind else part for part in of.parts)
    return Figures(parts=tuple(changed))


def generation(**step_ms: float) -> list[Generation]:
    return [Generation(mode=mode, step_ms=ms, **STEP) for mode, ms in step_ms.items()]


def measured(packing: str, layers: int) -> Shaped:
    """The small shape on the emulation."""
    return shapes.measured("smollm2-135m", ONLINE, "numpy", layers=layers, tokens=1, packing=packing)


class TestCommitted:
    def test_the_page_is_what_the_figures_give_and_has_no_problem(self, committed: Figures) -> None:
        assert page.problems(committed, page.PAGE.read_text(encoding="utf-8")) == []

    def test_check_says_so(self, committed: Figures) -> None:
        done = CliRunner().invoke(cli.lm, ["check"])
        assert (done.exit_code, done.output) == (0, f"{len(committed.parts)} parts hold\n")

    def test_check_fails_on_another_page_which_render_then_writes(
        self, committed: Figures, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (tmp_path / "page.md").write_text("other", encoding="utf-8")
        monkeypatch.setattr(page, "PAGE", tmp_path / "page.md")
        done = CliRunner().invoke(cli.lm, ["check"])
        assert (done.exit_code, done.output) == (1, "docs/page.md is not what the figures give; run render\n")
        assert CliRunner().invoke(cli.lm, ["render"]).exit_code == 0
        assert (tmp_path / "page.md").read_text(encoding="utf-8") == page.rendered(committed)


class TestProblems:
    def test_a_missing_part_is_seen(self, committed: Figures) -> None:
        others = tuple(part for part in committed.parts if part.kind != "identity")
        assert problems(Figures(parts=others)) == ["identity on rns was not measured; run measure --only identity"]

    def test_tokens_that_are_not_those_of_peft_are_seen(self, committed: Figures) -> None:
        row = Identity(mode=ONLINE, prompts=10, tokens=64, identical=9, first_different=((3, 7),))
        found = problems(with_part(committed, "identity", identity=(row,)))
        assert found == ["identity on rns: online: tokens differ from PEFT's in 1 of 10 prompts"]

    def test_figures_of_another_adapter_are_seen(self, committed: Figures) -> None:
        of = next(part for part in committed.parts if part.kind == "identity").conditions
        changed = with_part(committed, "identity", conditions=msgspec.structs.replace(of, adapter="0" * 64))
        assert problems(changed) == ["identity on rns: the bundled adapter is another one since; run measure"]

    def test_fewer_bits_than_promised_and_packings_that_are_gone_are_seen(self, committed: Figures) -> None:
        row = Shaped(shape="x", mode=ONLINE, modules=("q 8:8:1",), layers=1, packings=("gone",), bits=9.0)
        part = Part(kind="shapes", conditions=HERE, shapes=(row,))
        others = tuple(each for each in committed.parts if each.kind != "shapes")
        assert problems(Figures(parts=(*others, part))) == [
            "shapes on rns: there is no packing gone any more; run measure",
            "shapes on rns: x, online: Δ has 9.0 bits, and plans promise 12",
        ]


class TestFigures:
    def test_a_part_takes_the_place_of_that_of_its_kind_and_backend_and_no_other(self) -> None:
        other = msgspec.structs.replace(HERE, backend="tenseal")
        first, second = (Part(kind="generation", conditions=HERE, generation=(row,)) for row in generation(a=1, b=2))
        beside = Part(kind="generation", conditions=other)
        assert Figures(parts=(first, beside)).with_parts([second]).parts == (beside, second)

    def test_shapes_take_the_place_of_those_of_their_name(self) -> None:
        a, b = (Shaped(shape=name, mode=ONLINE, modules=(), layers=1) for name in "ab")
        again = msgspec.structs.replace(a, token_ms=1.0)
        merged = Figures(parts=(Part(kind="shapes", conditions=HERE, shapes=(a, b)),)).with_parts(
            [Part(kind="shapes", conditions=HERE, shapes=(again,))]
        )
        assert [row for part in merged.parts for row in part.shapes] == [b, again]

    @pytest.mark.parametrize("text", ["", "{}x", '{"parts": [], "schema": 1, "more": 2}'])
    def test_a_file_is_read_to_the_letter(self, text: str, tmp_path: Path) -> None:
        (tmp_path / "lm.json").write_text(text, encoding="utf-8")
        with pytest.raises(FiguresUnreadable) as caught:
            figures.read(tmp_path / "lm.json")
        assert caught.value.hint

    def test_what_is_written_is_read(self, committed: Figures, tmp_path: Path) -> None:
        figures.write(committed, tmp_path / "lm.json")
        assert figures.read(tmp_path / "lm.json") == committed


class TestHistory:
    def test_decoding_becomes_rows_that_a_history_reads(self, committed: Figures, tmp_path: Path) -> None:
        parts = {(each.kind, each.conditions.backend, each.conditions.link): each for each in committed.parts}
        part = parts["generation", "rns", "tcp"]
        made = list(history_rows(part))
        append_rows(tmp_path / "rows.jsonl", made)
        assert read_rows(tmp_path / "rows.jsonl") == made
        assert {row.cell.packing for row in made} >= {"plaintext", "precomputed"}
        assert len({key(row) for row in made}) == len(made) == sum(row.steps > 0 for row in part.generation)

    def test_a_link_that_is_delayed_on_purpose_has_none(self) -> None:
        slow = msgspec.structs.replace(HERE, link="tcp, 20 ms, 100 Mbit/s")
        assert not list(history_rows(Part(kind="generation", conditions=slow, generation=tuple(generation(a=1.0)))))


class TestTables:
    @pytest.mark.parametrize(("steps", "verdict"), [((10, 12), "met"), ((10, 13), "missed")])
    def test_the_bar_is_of_precomputed_plans_beside_peft(self, steps: Sequence[float], verdict: str) -> None:
        rows = generation(**{PLAIN: steps[0], PRECOMPUTED: steps[1], ONLINE: 1000.0})
        text = tables.generation(Part(kind="generation", conditions=HERE, generation=tuple(rows)))
        assert f"**{verdict}**: {steps[0] / steps[1]:.2f} to" in text

    def test_speeds_are_compared_for_the_same_work_only(self) -> None:
        plain, mine = generation(**{PLAIN: 10.0, ONLINE: 20.0})
        assert tables.share(mine, [plain, mine]) == 0.5
        assert tables.share(mine, [msgspec.structs.replace(plain, sequences=1), mine]) is None
        assert tables.share(plain, [plain, mine]) is None

    def test_all_cells_of_a_table_stand_under_a_heading(self, committed: Figures) -> None:
        for line, before in zip(lines := page.rendered(committed).splitlines(), ["", *lines], strict=False):
            if line.startswith("|") and before.startswith("|"):
                assert line.count("|") == before.count("|"), line


class TestShapes:
    def test_a_row_is_scaled_to_all_layers(self) -> None:
        one, two = (
            shapes.measured("smollm2-135m", ONLINE, "numpy", layers=n, tokens=1, packing="rank_bsgs") for n in (1, 2)
        )
        assert (one.measured_layers, two.measured_layers, one.layers) == (1, 2, 30)
        assert one.rotations == two.rotations > 0
        assert one.bytes_up == pytest.approx(two.bytes_up, rel=0.01)
        assert min(one.bits or 0, two.bits or 0) >= 12

    def test_what_a_backend_cannot_run_is_a_row_with_the_reason(self) -> None:
        row = measured("zero_moai", 1)
        assert row.refused
        assert row.token_ms == 0

    def test_qwens_adapter_has_112_modules(self) -> None:
        shape = shapes.SHAPES["qwen2.5-1.5b"]
        assert shape.layers * sum(map(len, shape.groups)) == 112


class TestNetworks:
    @pytest.mark.parametrize(("text", "network"), [("0", Network(0, None)), ("20:100", Network(20, 100))])
    def test_networks_are_read(self, text: str, network: Network) -> None:
        assert NetworkType().convert(text, None, None) == network

    @pytest.mark.parametrize("text", ["", "fast", "-1", "2:0", "2:x"])
    def test_others_are_refused(self, text: str) -> None:
        done = CliRunner().invoke(cli.lm, ["measure", "--network", text, "--only", "networks"])
        assert done.exit_code == 2

    def test_without_a_profile_nothing_is_predicted(self) -> None:
        assert predicted_ms([], None, Network(2, 100), round_trips=30, traffic=1e6) is None


class TestCommand:
    @pytest.fixture
    def missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("helora_harness.lm.requirements.find_spec", lambda name: None)

    @pytest.mark.usefixtures("missing")
    def test_missing_packages_are_named_with_the_line_that_installs_them(self) -> None:
        done = CliRunner().invoke(cli.lm, ["measure", "--only", "identity", "--quick"])
        assert isinstance(done.exception, ModelsMissing)
        assert "torch, transformers, peft, helora_transformers are not installed" in done.exception.message
        assert done.exception.hint
        assert "pip install torch" in done.exception.hint

    @pytest.mark.usefixtures("missing")
    def test_shapes_need_none_of_them(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in conditions.THREADS:  # which the command sets, for libraries that are loaded later
            monkeypatch.setenv(name, "1")
        asked = ["--shape", "smollm2-135m", "--backend", "numpy", "--mode", "online", "--packing", "rank_bsgs"]
        done = CliRunner().invoke(cli.lm, ["measure", "--only", "shapes", "--quick", "--json", *asked])
        assert done.exit_code == 0, done.output
        (part,) = msgspec.json.decode(done.stdout, type=Figures).parts
        assert [row.shape for row in part.shapes] == ["smollm2-135m"]

    def test_a_folder_without_a_model_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ModelsMissing, match=r"no config\.json"):
            require_base(tmp_path)

    def test_a_delay_of_a_link_that_is_not_there_is_refused(self) -> None:
        done = CliRunner().invoke(cli.lm, ["measure", "--link", "in-process", "--delay-ms", "5"])
        assert done.exit_code == 2
        assert "link tcp" in done.output

    def test_what_runs_models_is_not_imported_with_the_command(self) -> None:
        code = "import sys, helora_harness.lm.cli; print([name for name in sys.modules if name in ('torch', 'peft')])"
        assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
