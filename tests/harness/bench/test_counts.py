"""The counts gate: each way to be different from the lock has its state, its words and its exit status."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from click.testing import CliRunner, Result

from helora_core.cli.main import main
from helora_core.compiler.plan import Plan
from helora_core.host import manager as managers
from helora_core.packing.rank_bsgs import RankBSGSLayout
from helora_harness import cases
from helora_harness.bench import counts as gate
from helora_harness.bench import lock as files
from helora_harness.bench import record
from helora_harness.bench.lock import SANITISED, Locked, LockRefused
from helora_harness.rows import Cell, read_rows

CELL = "p q 8:8:2 1"
COUNTS = {"rotations": 4, "ring_degree": 8192, "modulus_bits": 160, "tokens_per_run": 2, "sanitize_bits": 40}
LOCKED = {CELL: Locked(COUNTS, {"rotations": 6})}
BUDGET = {CELL: {"rotations": 6}}


def judged(now: dict[str, Any], budget: dict[str, int] = BUDGET[CELL]) -> tuple[str, str]:
    found = gate.judge(LOCKED, {CELL: now}, {CELL: budget})
    return gate.state_of(found), "; ".join(each.what for each in found)


class TestJudge:
    def test_equal_counts_under_the_same_budget_are_ok(self) -> None:
        assert judged(LOCKED[CELL].counts) == ("OK", "")

    @pytest.mark.parametrize(
        ("change", "state"),
        [
            ({"rotations": 5}, "REGRESS"),
            ({"rotations": 3}, "STALE"),
            ({"tokens_per_run": 4}, "REGRESS"),
            ({"ring_degree": 4096}, "REGRESS"),
            ({"rotations": 3, "ring_degree": 16384}, "REGRESS"),
            ({"rescales": 1}, "REGRESS"),
            ({"modulus_bits": 161}, "REGRESS"),
            ({"modulus_bits": 159}, "STALE"),
            ({"sanitize_bits": 20}, "REGRESS"),
            ({"sanitize_bits": 60}, "REGRESS"),
            ({"distance_bits": 80}, "REGRESS"),
            ({"rotations": 0}, "STALE"),
        ],
    )
    def test_any_other_count_has_its_state(self, change: dict[str, int], state: str) -> None:
        found, words = judged(LOCKED[CELL].counts | change)
        assert found == state
        assert all(str(value) in words for value in change.values())

    def test_more_than_the_budget_is_said_beside_the_regress(self) -> None:
        found = gate.judge(LOCKED, {CELL: LOCKED[CELL].counts | {"rotations": 7}}, BUDGET)
        assert [(each.state, each.what) for each in found] == [
            ("REGRESS", "rotations 4 → 7"),
            ("BUDGET", "rotations 7, and the budget is 6"),
        ]

    @pytest.mark.parametrize(
        ("budget", "state"), [({"rotations": 7}, "BUDGET"), ({}, "BUDGET"), ({"rotations": 5}, "STALE")]
    )
    def test_a_budget_cannot_be_loosened_unseen(self, budget: dict[str, int], state: str) -> None:
        assert judged(LOCKED[CELL].counts, budget)[0] == state

    def test_a_new_cell_is_stale_and_a_missing_or_refused_one_lost(self) -> None:
        new = {**LOCKED, "q q 8:8:2 1": Locked({"rotations": 1})}
        counts = {cell: locked.counts for cell, locked in new.items()}
        assert gate.state_of(gate.judge(LOCKED, counts, BUDGET)) == "STALE"
        assert gate.state_of(gate.judge(new, {CELL: LOCKED[CELL].counts}, BUDGET)) == "LOST"
        assert judged("refused because") == ("LOST", "refused because")  # type: ignore[arg-type]

    def test_a_cell_that_never_could_be_planned_is_no_difference(self) -> None:
        assert gate.judge({}, {CELL: "refused because"}, {}) == []


class TestFiles:
    def test_the_lock_reads_as_it_was_written_but_for_zeros(self, tmp_path: Path) -> None:
        (tmp_path / "b.toml").write_text('[[budget]]\ncells = "p *"\nrotations = 6\n')
        lock = tmp_path / "lock.json"
        files.write_lock({CELL: COUNTS | {"rescales": 0}}, lock, budgets_path=tmp_path / "b.toml")
        assert files.read_lock(lock) == LOCKED
        assert gate.judge(LOCKED, {CELL: COUNTS | {"rescales": 0}}, BUDGET) == []
        assert len(lock.read_text().splitlines()) == 9

    def test_a_lock_of_an_earlier_schema_can_only_be_written_anew(self, tmp_path: Path) -> None:
        (tmp_path / "lock.json").write_text('{"schema":2,"cells":{"a":{"counts":{}}}}')
        with pytest.raises(LockRefused, match="its schema is 2"):
            files.read_lock(tmp_path / "lock.json")
        for name in ("lock.json", "none.json"):
            assert files.read_lock(tmp_path / name, to_update=True) == {}

    @pytest.mark.parametrize(
        "content",
        ["", "{}", '{"schema":1,"cells":{}}', '{"schema":4}', '{"schema":3,"budgets":[],"cells":{"a":{"c":"x"}}}'],
    )
    def test_a_damaged_lock_is_refused_by_name(self, tmp_path: Path, content: str) -> None:
        (tmp_path / "lock.json").write_text(content)
        with pytest.raises(LockRefused, match=r"lock\.json is not a lock file"):
            files.read_lock(tmp_path / "lock.json")

    @pytest.mark.parametrize("content", ["budget = 1", "[[budget]]\nrotations = 1", '[[budget]]\ncells = "*"\nx = "y"'])
    def test_damaged_budgets_are_refused_by_name(self, tmp_path: Path, content: str) -> None:
        (tmp_path / "b.toml").write_text(content)
        with pytest.raises(LockRefused, match=r"b\.toml has no budgets"):
            files.budgets([CELL], tmp_path / "b.toml")

    def test_of_several_budgets_the_smallest_holds(self, tmp_path: Path) -> None:
        (tmp_path / "b.toml").write_text(
            '[[budget]]\ncells="*"\na=1\nb=5\n[[budget]]\ncells="p *"\na=3\nb=2\n[[budget]]\ncells="x *"\na=0\n'
        )
        assert files.budgets([CELL], tmp_path / "b.toml") == {CELL: {"a": 1, "b": 2}}

    def test_a_budget_of_a_cell_holds_for_it_sanitised_too(self, tmp_path: Path) -> None:
        (tmp_path / "b.toml").write_text('[[budget]]\ncells="* 1"\na=2\n[[budget]]\ncells="* sanitised"\nb=3\n')
        name = CELL + SANITISED
        assert files.budgets([CELL, name], tmp_path / "b.toml") == {CELL: {"a": 2}, name: {"a": 2, "b": 3}}

    @pytest.mark.parametrize("now", ["lost", {"rotations": 9}])
    def test_update_does_not_lock_what_is_lost_or_over_budget(self, now: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(gate, "known_cells", lambda: frozenset(LOCKED))
        with pytest.raises(LockRefused, match="Not updated: p q"):
            gate.updated(LOCKED, {CELL: now}, BUDGET)

    def test_update_keeps_what_was_not_counted_and_drops_what_no_preset_has(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        elsewhere = {"absent q 8:8:2 1": Locked({"rotations": 1}), "gone q 8:8:2 1": Locked({"rotations": 1})}
        monkeypatch.setattr(gate, "known_cells", lambda: frozenset({CELL, "absent q 8:8:2 1"}))
        now = {CELL: LOCKED[CELL].counts | {"rotations": 2}}
        assert set(gate.updated({**LOCKED, **elsewhere}, now, BUDGET)) == {CELL, "absent q 8:8:2 1"}


class Check:
    """``helora bench counts`` on two cells, against a lock and budgets of its own.

    Attributes:
        lock: The lock file, which ``--update`` wrote beforehand.
        budgets: The file of budgets: as many rotations as there are.
        rotations: Of both cells, in every mode.
    """

    def __init__(self, folder: Path) -> None:
        self.lock, self.budgets = folder / "lock.json", folder / "budgets.toml"
        counts = gate.measured(cases.preset("ci"))
        (self.rotations,) = {found["rotations"] for found in counts.values() if not isinstance(found, str)}
        self.budgets.write_text(f'[[budget]]\ncells = "*"\nrotations = {self.rotations}\n')
        assert self("--update").exit_code == 0

    def __call__(self, *options: str) -> Result:
        files = "--lock", str(self.lock), "--budgets", str(self.budgets)
        return CliRunner().invoke(main, ["bench", "counts", *files, *(options or ("--check",))])


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Check:
    """The command on a cell of the emulation and the same one of TenSEAL."""
    cells = tuple(Cell(backend=name, packing="rank_bsgs", shape="512:512:8", tokens=1) for name in ("numpy", "tenseal"))
    monkeypatch.setattr(cases, "PRESETS", MappingProxyType({"ci": cells}))
    monkeypatch.setattr(gate, "PRESETS", cases.PRESETS)
    return Check(tmp_path)


class TestCommand:
    def test_it_is_ok_where_nothing_changed(self, check: Check) -> None:
        result = check()
        assert (result.exit_code, result.stdout) == (0, "counts: OK, 4 cells\n")

    @pytest.mark.parametrize("sanitised", [False, True])
    @pytest.mark.parametrize("name", ["ring_degree", "bytes_keys"])
    def test_whatever_a_mode_costs_more_is_a_regress_of_that_mode(
        self, check: Check, monkeypatch: pytest.MonkeyPatch, name: str, sanitised: bool
    ) -> None:
        gated = gate.gated

        def costlier(plan: Plan) -> dict[str, int]:
            counts = gated(plan)
            return counts | {name: counts[name] + 1} if bool(plan.sanitize_bits) == sanitised else counts

        monkeypatch.setattr(gate, "gated", costlier)
        result = check()
        assert result.exit_code == 1
        cells = re.findall(r"^REGRESS  (.*?):\d", result.stdout, re.MULTILINE)
        assert sorted(cells) == ["numpy rank_bsgs 512", "tenseal rank_bsgs 512"]
        assert result.stdout.count("8 1 sanitised: ") == (2 if sanitised else 0)

    def test_less_sanitising_by_default_is_seen(self, check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(gate, "MODES", gate.MODES | {SANITISED: 20})
        result = check()
        assert result.exit_code == 1
        assert "8 1 sanitised: " in result.stdout
        assert "sanitize bits 40 → 20" in result.stdout

    def test_one_rotation_more_is_a_regress_over_budget(self, check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
        emit = RankBSGSLayout.emit

        def dearer(self: RankBSGSLayout, builder: Any) -> None:
            class Rotating:
                def __getattr__(self, name: str) -> Any:
                    return getattr(builder, name)

                def output(self, value: Any, keep: Any = ()) -> None:
                    builder.output(builder.rotate(value, 1), keep)

            emit(self, Rotating())  # type: ignore[arg-type]

        monkeypatch.setattr(RankBSGSLayout, "emit", dearer)
        result = check()
        assert result.exit_code == 1
        for mode in gate.MODES:
            cell = f"numpy rank_bsgs 512:512:8 1{mode}"
            one_more = f"{check.rotations} → {check.rotations + 1}"
            assert f"REGRESS  {cell}: rotations {one_more}, key switches {one_more}" in result.stdout
            assert (
                f"BUDGET   {cell}: rotations {check.rotations + 1}, and the budget is {check.rotations}"
                in result.stdout
            )
        assert result.stdout.endswith("counts: REGRESS, 4 cells\n")
        refused = check("--update")
        assert refused.exit_code == 1
        assert f"the budget is {check.rotations}" in refused.stderr

    def test_a_backend_that_nobody_offers_any_more_is_lost(self, check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HELORA_PLUGINS", "numpy,harness")
        managers.get_manager.cache_clear()
        try:
            result = check()
        finally:
            monkeypatch.undo()
            managers.get_manager.cache_clear()
        assert result.exit_code == 4
        assert "LOST     tenseal rank_bsgs 512:512:8 1: " in result.stdout

    def test_a_missing_library_is_reported_and_lost_if_required(
        self, check: Check, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(gate, "absent", lambda backends: {"tenseal": "the library is not installed"})
        result = check()
        assert (result.exit_code, result.stdout) == (0, "counts: OK, 2 cells\n")
        assert "1 of 2 backends counted:\n  tenseal: the library is not installed" in result.stderr
        required = check("--check", "--require")
        assert required.exit_code == 4
        for mode in gate.MODES:
            assert f"LOST     tenseal rank_bsgs 512:512:8 1{mode}: the library is not installed" in required.stdout

    def test_a_looser_budget_is_seen(self, check: Check) -> None:
        limit = f"rotations = {check.rotations}"
        check.budgets.write_text(check.budgets.read_text().replace(limit, f"rotations = {check.rotations + 1}"))
        result = check()
        assert result.exit_code == 1
        loosened = f"budget loosened: rotations {check.rotations} → {check.rotations + 1}"
        for mode in gate.MODES:
            assert f"BUDGET   numpy rank_bsgs 512:512:8 1{mode}: {loosened}" in result.stdout

    def test_a_better_count_is_stale_until_it_is_locked(self, check: Check) -> None:
        was = f'"keyswitches":{check.rotations},'
        check.lock.write_text(check.lock.read_text().replace(was, f'"keyswitches":{check.rotations + 1},'))
        result = check()
        assert result.exit_code == 3
        for mode in gate.MODES:
            less = f"key switches {check.rotations + 1} → {check.rotations}"
            assert f"STALE    numpy rank_bsgs 512:512:8 1{mode}: {less}" in result.stdout
        assert check("--update").exit_code == 0
        assert check().exit_code == 0

    def test_json_says_the_same(self, check: Check) -> None:
        document = json.loads(check("--check", "--json").stdout)
        assert (document["state"], document["exit_status"], document["differences"]) == ("OK", 0, [])
        for mode in gate.MODES:
            assert document["counts"][f"numpy rank_bsgs 512:512:8 1{mode}"]["rotations"] == check.rotations

    def test_counts_are_kept_as_rows_once_for_a_commit(
        self, check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        clean = record.Origin(record.origin().commit, dirty=False)
        monkeypatch.setattr(record, "origin", lambda: clean)
        for said in ("2 rows added", "0 rows added"):
            assert said in check("--check", "--out", str(tmp_path / "rows.jsonl")).stderr
        rows = read_rows(tmp_path / "rows.jsonl")
        assert [row.cell.backend for row in rows] == ["numpy", "tenseal"]
        assert rows[0].metrics["rotations_per_token"] == check.rotations
        assert rows[0].provenance.security == "none"
        assert rows[0].metrics["bytes_up_per_token"] > rows[0].metrics["bytes_down_per_token"]

    def test_without_check_it_shows_a_table(self, check: Check) -> None:
        result = check("--preset", "ci")
        assert result.exit_code == 0
        assert "numpy rank_bsgs 512:512:8 1" in result.stdout


@pytest.mark.thorough  # CI runs ``helora bench counts --check``
def test_the_committed_lock_is_what_plans_cost_now() -> None:
    """If this fails, a change altered what plans cost: see ``helora bench counts --check``."""
    cells, _ = gate.split_absent(cases.preset("ci"))
    now = gate.measured(cells)
    assert gate.judge(files.read_lock(), now, files.budgets(now), known=gate.known_cells()) == []
