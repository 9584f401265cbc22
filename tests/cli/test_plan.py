"""``helora plan``: pure, and the same whether people or programs read it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from helora_core.adapter.lora import ModuleShape
from helora_core.backend.checked_backend import checked
from helora_core.compiler.ahead import RINGS_AHEAD
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.ir import readable
from helora_core.data.bundled import DIRECTORY, bundled_adapter
from helora_core.host.manager import get_manager

ADAPTER = DIRECTORY / "adapter"
Q = "model.layers.3.self_attn.q_proj"
PLAIN = ("--packing", "rank_bsgs", "--no-private-weights")
"""One packing by name, as it is: the planner's choice and sanitising have tests of their own."""


def plan_of(shape: str, packing: str = "rank_bsgs", **options: Any) -> Any:
    asked: dict[str, Any] = {"precision_bits": 14.0, "private_weights": False} | options
    return compile_plan(ModuleShape.parse(shape), get_manager().load_packing(packing), **asked)


@pytest.mark.usefixtures("on_seal")
@pytest.mark.parametrize("packing", ["rank_bsgs", "zero_moai"])
def test_a_shape_gives_one_object_which_is_the_plan(helora_json: Callable[..., Any], packing: str) -> None:
    row = helora_json("plan", "--shape", "1536:256:16", "--packing", packing, "--no-private-weights")
    batch = row.pop("batch_for_default_budget")
    assert row == {"module": "1536:256:16", **plan_of("1536:256:16", packing).to_dict()}
    assert batch is None or batch >= 1


@pytest.mark.usefixtures("on_seal")
def test_options_reach_the_compiler(helora_json: Callable[..., Any]) -> None:
    options = ("--ring", 16384, "--security", 192, "--target-bits", 9, "--tokens", 7)
    row = helora_json("plan", "--shape", "64:64:4", *options, *PLAIN)
    plan = plan_of("64:64:4", ring_degree=16384, security_bits=192, precision_bits=9.0, tokens=7)
    del row["batch_for_default_budget"]
    assert row == {"module": "64:64:4", **plan.to_dict(tokens=7)}
    assert row["tokens"] == 7


@pytest.mark.usefixtures("on_seal")
def test_a_full_module_name_gives_one_object(helora_json: Callable[..., Any]) -> None:
    row = helora_json("plan", "--adapter", ADAPTER, "--module", Q, *PLAIN)
    del row["batch_for_default_budget"]
    assert row == {"module": Q, **plan_of("576:576:8").for_module(bundled_adapter().modules[Q]).to_dict()}


@pytest.mark.parametrize(("name", "count"), [("all", 60), ("q_proj", 30), ("layers.3.self_attn.q_proj", 1)])
def test_what_may_mean_several_modules_gives_a_list(helora_json: Callable[..., Any], name: str, count: int) -> None:
    rows = helora_json("plan", "--adapter", ADAPTER, "--module", name)
    assert len(rows) == count
    assert rows[0]["module"] == "model.layers.3.self_attn.q_proj" or name in ("all", "q_proj")
    assert len({row["digest"] for row in rows}) == (2 if name == "all" else 1)


def test_modules_of_one_shape_have_exponents_of_their_own(helora_json: Callable[..., Any]) -> None:
    plan = plan_of("576:576:8")
    rows = helora_json("plan", "--adapter", ADAPTER, "--module", "q_proj", *PLAIN)
    expected = [plan.for_module(module).exponent for module in bundled_adapter().select("q_proj")]
    assert [row["exponent"] for row in rows] == expected
    assert len(set(expected)) > 1
    (ranked,) = helora_json("explain", "--adapter", ADAPTER, "--module", Q, *PLAIN)
    assert ranked["ranking"][0]["plan"]["exponent"] == plan.for_module(bundled_adapter().modules[Q]).exponent


def test_the_keys_are_those_documented(helora_json: Callable[..., Any], documented: Callable[..., set[str]]) -> None:
    assert documented("Keys of a plan") == set(helora_json("plan", "--shape", "64:64:4", "--show"))
    assert documented("Keys of a plan") - {"program"} == set(helora_json("plan", "--shape", "64:64:4"))


@pytest.mark.usefixtures("on_seal")
def test_show_adds_the_program(helora: Callable[..., Any], helora_json: Callable[..., Any]) -> None:
    program = readable(plan_of("64:64:4").program)
    assert helora_json("plan", "--shape", "64:64:4", "--show", *PLAIN)["program"] == program
    assert program in helora("plan", "--shape", "64:64:4", "--show", *PLAIN).stdout
    assert program not in helora("plan", "--shape", "64:64:4", *PLAIN).stdout


@pytest.mark.usefixtures("on_seal")
def test_people_see_what_programs_see(helora: Callable[..., Any]) -> None:
    plan = plan_of("1536:256:16")
    shown = helora("plan", "--shape", "1536:256:16", *PLAIN).stdout
    for figure in (plan.digest, "8192", "128 bits by guidelines-2024", ", ".join(map(str, plan.rotation_steps)), "9.50",
                   "nothing*", plan.packing.leakage.explanation, "NOT sanitised", "kept"):  # fmt: skip
        assert figure in shown
    assert "16" in shown.splitlines()[1]


def test_a_plan_over_the_default_budget_says_so(helora: Callable[..., Any], helora_json: Callable[..., Any]) -> None:
    row = helora_json("plan", "--shape", "4096:4096:64", *PLAIN)
    assert "rotations per token" in row["over_budget"]
    assert row["over_budget"] in helora("plan", "--shape", "4096:4096:64", *PLAIN).stdout


def test_equal_shapes_are_explained_once(helora: Callable[..., Any]) -> None:
    shown = helora("plan", "--adapter", ADAPTER).stdout
    assert shown.count("\nplan ") == 2
    assert "30 × model.layers.*.self_attn.q_proj" in shown
    assert helora("plan", "--adapter", ADAPTER, "--wide").stdout.count("self_attn.q_proj") == 30


def test_each_shape_is_compiled_and_told_to_observers_once(
    helora_json: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []
    monkeypatch.setattr(get_manager(), "notify_plan_compiled", told.append)
    rows = helora_json("plan", "--adapter", ADAPTER)
    assert [plan.digest for plan in told] == list(dict.fromkeys(row["digest"] for row in rows))
    del told[:]
    helora_json("demo", "--module", "layers.[01].*", "--tokens", 1, "--backend", "numpy")
    assert [str(plan.shape) for plan in told] == ["576:576:8", "576:192:8"]


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--shape", "64:64"], "invalid-input"),
        (["--shape", "64:64:0"], "invalid-input"),
        (["--shape", "9000:64:5000", "--ring", "8192", *PLAIN], "slot-overflow"),
        (["--shape", "64:64:4", "--ring", "3000"], "invalid-parameters"),
        (["--shape", "64:64:4", "--ring", "2048", *PLAIN], "insecure-parameters"),
        (["--shape", "64:64:4", "--ring", "2048"], "invalid-parameters"),
        (["--shape", "64:64:4", "--target-bits", "60", *PLAIN], "invalid-parameters"),
        (["--adapter", "missing"], "adapter-format-error"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_what_cannot_be_planned_is_refused(refusal: Callable[..., Any], options: list[str], code: str) -> None:
    assert refusal("plan", *options)["code"] == code


@pytest.mark.parametrize("option", ["--target-bits", "--min-bits"])
@pytest.mark.parametrize("value", ["nan", "inf", "-1"])
def test_bits_are_numbers(helora: Callable[..., Any], option: str, value: str) -> None:
    assert helora("plan", "--shape", "64:64:4", option, value).exit_code == 2


def test_no_library_for_homomorphic_encryption_is_needed(in_new_process: Callable[..., Any]) -> None:
    """Neither asked for nor looked at: importing one would fail here."""
    code = (
        "import sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in ('tenseal', 'openfhe', 'Pyfhel', 'helora_tenseal', 'helora_numpy'):\n"
        "            raise ImportError(name)\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "from helora_core.cli.main import main\n"
        f"main(['plan', '--adapter', {str(ADAPTER)!r}, '--json'], standalone_mode=False)\n"
    )
    shown = in_new_process("-c", code, HELORA_PLUGINS="")
    assert shown.returncode == 0, shown.stderr
    assert len(json.loads(shown.stdout)) == 60


@pytest.fixture
def timed_at_once(make_profile: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Operations take a microsecond each, and nobody has to wait for that to be found out in seven rings."""

    def calibrated(backend: Any, *, chains: Any, **_: Any) -> Any:
        for chain in chains:
            checked(backend).resolve(chain)
        return make_profile(*chains)

    monkeypatch.setattr("helora_core.planning.calibrate.calibrate", calibrated)


@pytest.mark.usefixtures("timed_at_once")
class TestRings:
    def test_every_ring_of_the_table_has_a_row_with_the_documented_keys(
        self, helora_json: Callable[..., Any], documented: Callable[..., set[str]]
    ) -> None:
        rows = helora_json("plan", "--shape", "576:192:8", "--rings", "--backend", "numpy", *PLAIN)
        assert [row["ring_degree"] for row in rows] == [1024, 2048, 4096, 8192, 16384, 32768, 65536]
        assert all(set(row) == documented("Keys of a ring") for row in rows)
        assert [row["possible"] for row in rows] == 3 * [False] + 4 * [True]
        for row in rows:
            absent = {key for key, value in row.items() if value is None}
            if row["possible"]:
                plan = plan_of("576:192:8", ring_degree=row["ring_degree"])
                assert absent == {"reason"}
                assert row["tokens_per_run"] == plan.tokens_per_run == row["slots"] // 1024
                assert row["rotations_per_token"] == plan.counts.rotations / plan.tokens_per_run
                assert row["predicted_ms_per_run"] > 0
                assert row["predicted_ms_per_token"] == pytest.approx(row["predicted_ms_per_run"] / plan.tokens_per_run)
            else:
                assert absent == documented("Keys of a ring") - {"shape", "ring_degree", "slots", "possible", "reason"}

    def test_a_full_batch_and_its_tokens_are_predicted_for_plans_ahead_of_time(
        self, helora_json: Callable[..., Any]
    ) -> None:
        ahead = ("--packing", "precomputed", "--assume", "honest-keys", "--target-bits", 8, "--backend", "numpy")
        rows = helora_json("plan", "--shape", "64:48:4", "--rings", *ahead)
        possible = [row for row in rows if row["possible"]]
        assert [row["ring_degree"] for row in possible] == list(RINGS_AHEAD)
        for row in possible:
            assert row["tokens_per_run"] == row["ring_degree"]
            assert row["predicted_ms_per_token"] == pytest.approx(row["predicted_ms_per_run"] / row["tokens_per_run"])
            assert row["predicted_ms_per_run"] > 0

    def test_a_ring_that_the_backend_cannot_have_is_explained(self, helora_json: Callable[..., Any]) -> None:
        rows = helora_json(
            "plan", "--shape", "30000:8:1", "--packing", "zero_moai", "--rings", "--no-private-weights",
            "--backend", "tenseal", "--target-bits", "9",
        )  # fmt: skip
        (row,) = [row for row in rows if row["possible"] and row["ring_degree"] == 65536]
        assert row["rotations"] == 0
        assert row["predicted_ms_per_run"] is row["predicted_ms_per_token"] is None
        assert "SEAL's rings end at 32768" in row["reason"]

    def test_without_any_backend_there_are_rows_without_times(self, in_new_process: Callable[..., Any]) -> None:
        """The rings are those of the security asked for."""
        asked = ("plan", "--shape", "64:64:4", "--rings", "--security", "192", "--json")
        shown = in_new_process("-m", "helora_core", *asked, HELORA_PLUGINS="")
        assert shown.returncode == 0, shown.stderr
        rows = json.loads(shown.stdout)
        assert {row["ring_degree"] for row in rows} == {2048, 4096, 8192, 16384, 32768}
        assert any(row["possible"] for row in rows)
        assert all(row["predicted_ms_per_run"] is None for row in rows)

    def test_a_backend_asked_for_must_be_there(self, refusal: Callable[..., Any]) -> None:
        assert refusal("plan", "--shape", "64:64:4", "--rings", "--backend", "nope")["code"] == "backend-unavailable"

    def test_people_see_the_rings_too(self, helora: Callable[..., Any]) -> None:
        shown = helora("plan", "--shape", "64:64:4", "--rings", "--backend", "numpy", *PLAIN).stdout
        for ring in (1024, 8192, 65536):
            assert str(ring) in shown
        assert "operations timed on numpy just now" in shown
