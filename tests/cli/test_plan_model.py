"""``helora plan`` for models, shared inputs and budgets; and what budgets and privacy mean for ``demo`` and ``run``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helora_core.adapter.lora import LoRAAdapter, LoRAModule, ModuleShape
from helora_core.adapter.npz import save_npz
from helora_core.adapter.synthetic import LLM_SHAPES, synthetic_activations, synthetic_module
from helora_core.host.manager import get_manager

RANK_BSGS = ("--packing", "rank_bsgs")
NUMPY = ("--backend", "numpy")
Q = "layers.0.self_attn.q_proj"
ONE = ("--module", "layers.0.self_attn.q_proj", "--tokens", 2, *NUMPY)


class TestModel:
    def test_people_see_the_batch_of_each(self, helora: Callable[..., Any]) -> None:
        shown = helora("plan", "--model", "qwen2.5-1.5b", *RANK_BSGS, "--tokens", 8).stdout
        assert "budget from" in shown
        for _, shape in LLM_SHAPES["qwen2.5-1.5b"]:
            assert str(shape) in shown
        assert shown.count("within it from") == len({shape for _, shape in LLM_SHAPES["qwen2.5-1.5b"]})

    def test_modules_can_be_chosen_among(self, helora_json: Callable[..., Any], helora: Callable[..., Any]) -> None:
        rows = helora_json("plan", "--model", "llama-2-7b", "--module", "q_proj", *RANK_BSGS)
        assert [row["module"].rpartition(".")[2] for row in rows] == ["q_proj"]
        assert helora("plan", "--model", "llama-2-7b", "--module", "x_proj", *RANK_BSGS).exit_code == 2

    def test_an_unknown_model_is_a_wrong_command_line_that_names_those_there_are(
        self, helora: Callable[..., Any]
    ) -> None:
        shown = helora("plan", "--model", "gpt-5")
        assert shown.exit_code == 2
        for model in LLM_SHAPES:
            assert model in shown.stderr

    @pytest.mark.parametrize("also", [("--shape", "8:8:2"), ("--adapter", "x")])
    @pytest.mark.parametrize("command", ["plan", "explain", "predict"])
    def test_one_of_adapter_shape_and_model(
        self, helora: Callable[..., Any], command: str, also: tuple[str, ...]
    ) -> None:
        for given in (("--model", "llama-2-7b", *also), ()):
            shown = helora(command, *given)
            assert shown.exit_code == 2
            assert "Give one of --adapter PATH" in shown.stderr


class TestShare:
    def test_projections_of_one_input_are_planned_as_one(self, helora_json: Callable[..., Any]) -> None:
        rows = helora_json("plan", "--model", "qwen2.5-1.5b", "--share", *RANK_BSGS, "--tokens", 8)
        shapes = {name.rpartition(".")[2]: shape for name, shape in LLM_SHAPES["qwen2.5-1.5b"]}
        by_ending = {row["module"].rpartition(".")[2]: row for row in rows}
        assert set(by_ending) == {"{q_proj,k_proj,v_proj}", "o_proj", "{gate_proj,up_proj}", "down_proj"}
        attention = by_ending["{q_proj,k_proj,v_proj}"]
        assert attention["d_out"] == sum(shapes[each].d_out for each in ("q_proj", "k_proj", "v_proj"))
        assert "separately" not in by_ending["o_proj"]
        assert set(attention["separately"]) == {
            f"{each}_per_token" for each in ("rotations", "keyswitches", "encrypts", "bytes_up", "decrypts")
        }
        uploads = attention["encrypts"] * attention["runs"] / attention["tokens"]
        spared = attention["separately"]["encrypts_per_token"] - uploads
        assert spared > 0
        assert attention["saved"]["ciphertexts_up_per_token"] == attention["saved"]["encryptions_per_token"] == spared
        assert attention["saved"]["bytes_up_per_token"] == pytest.approx(
            attention["separately"]["bytes_up_per_token"] - attention["bytes_up_estimate"] / attention["tokens"]
        )

    def test_people_see_what_sharing_saves(self, helora: Callable[..., Any]) -> None:
        shown = helora("plan", "--model", "qwen2.5-1.5b", "--share", *RANK_BSGS).stdout
        assert shown.count("shared input") == 2
        assert "instead of" in shown
        assert "of upload" in shown

    def test_a_run_writes_each_modules_own_delta(self, helora_json: Callable[..., Any], tmp_path: Path) -> None:
        shapes = {"q_proj": "37:20:3", "v_proj": "37:8:2"}
        modules = [
            synthetic_module(ModuleShape.parse(shape), seed=i, name=f"layers.0.{name}")
            for i, (name, shape) in enumerate(shapes.items())
        ]
        save_npz(LoRAAdapter.from_modules(modules, source="test"), tmp_path / "a.npz")
        x = synthetic_activations(modules[0].shape, 3, seed=1)
        np.save("x.npy", x)
        document = helora_json(
            "run", "--adapter", "a.npz", "--input", "x.npy", "--output", "d.npy", "--share", *NUMPY, *RANK_BSGS
        )
        (row,) = document["modules"]
        assert row["module"] == "layers.0.{q_proj,v_proj}"
        assert row["output"] == [f"d.{module.name}.npy" for module in modules]
        for module in modules:
            reference = module.reference_delta(x)
            found = np.load(f"d.{module.name}.npy")
            np.testing.assert_allclose(found, reference, rtol=0, atol=np.max(np.abs(reference)) / 2**10)


class TestShow:
    def test_passes_show_the_program_after_each_that_changes_it(self, helora_json: Callable[..., Any]) -> None:
        from helora_core.compiler.passes import PASSES

        row = helora_json("plan", "--shape", "64:64:4", *RANK_BSGS, "--show", "--passes")
        steps = [line for line in row["program"].splitlines() if line.startswith("── ")]
        assert [line.split()[1].rstrip(":") for line in steps] == ["emit", *(each.__name__ for each in PASSES)]
        assert any(line.endswith("nothing to do") for line in steps)
        final = helora_json("plan", "--shape", "64:64:4", *RANK_BSGS, "--show")["program"]
        assert final in row["program"]

    def test_zeros_are_skipped_before_the_other_passes(self, helora_json: Callable[..., Any], tmp_path: Path) -> None:
        dense = synthetic_module(ModuleShape.parse("64:64:4"), seed=1, name=Q)
        up = dense.up.copy()
        up[:32] = 0.0
        gated = LoRAModule("layers.1.self_attn.q_proj", dense.down, dense.up, 0.0)
        save_npz(
            LoRAAdapter.from_modules([LoRAModule(Q, dense.down, up, 1.0), gated], source="test"), tmp_path / "a.npz"
        )
        rows = helora_json("plan", "--adapter", "a.npz", *RANK_BSGS, "--show", "--passes")
        assert "return zero" in rows[1]["program"]
        assert (rows[1]["rotations"], rows[1]["encrypts"], rows[1]["rank"]) == (0, 0, 1)
        assert "── skip_zeros" in rows[1]["program"]


BUDGETS = [
    ("--max-rotations", 1, "rotations per token"),
    ("--max-keyswitches", 1, "keyswitches per token"),
    ("--max-bytes", 10, "bytes per token"),
    ("--max-key-bytes", 10, "key bytes"),
    ("--max-depth", 1, "depth"),
]


class TestBudgets:
    @pytest.mark.parametrize(("option", "bound", "said"), BUDGETS)
    def test_each_refuses_what_is_over_it(
        self, refusal: Callable[..., Any], option: str, bound: float, said: str
    ) -> None:
        error = refusal("plan", "--shape", "64:64:4", *RANK_BSGS, "--tokens", 1, option, bound)
        assert error["code"] == "budget-exceeded"
        assert said in error["message"]
        assert "64:64:4" in error["message"]

    def test_rescales_too(self, refusal: Callable[..., Any]) -> None:
        error = refusal(
            "plan", "--shape", "1536:256:16", "--packing", "zero_moai", "--no-private-weights", "--max-rescales", 1
        )
        assert "rescales per token" in error["message"]

    def test_the_hint_names_a_batch_that_really_fits(
        self, refusal: Callable[..., Any], helora_json: Callable[..., Any]
    ) -> None:
        asked = ("plan", "--shape", "1536:1536:16", *RANK_BSGS, "--max-rotations", 6)
        hint = refusal(*asked, "--tokens", 1)["hint"]
        batch = int(hint.split("fits from ")[1].split()[0])
        assert helora_json(*asked, "--tokens", batch)["rotations_per_token"] <= 6

    @pytest.mark.parametrize(("option", "bound", "said"), BUDGETS[2:3])
    def test_a_file_sets_them_too(
        self, refusal: Callable[..., Any], tmp_path: Path, option: str, bound: float, said: str
    ) -> None:
        key = option.removeprefix("--")
        (tmp_path / "helora.toml").write_text(f'{key} = {bound}\npacking = "rank_bsgs"\n', encoding="utf-8")
        error = refusal("plan", "--shape", "1536:256:16", "--tokens", 1)
        assert error["code"] == "budget-exceeded"
        assert said in error["message"]

    def test_every_setting_of_the_file_is_documented_and_an_option(
        self, documented: Callable[..., set[str]], helora: Callable[..., Any]
    ) -> None:
        from helora_core.cli.config import KEYS

        assert documented("Defaults", "setting") == set(KEYS)
        shown = helora("plan", "--help").stdout
        assert all(f"--{key.replace('_', '-')}" in shown for key in KEYS)

    @pytest.mark.parametrize("option", ["--max-rotations", "--max-bytes"])
    def test_demo_refuses_before_it_runs(self, refusal: Callable[..., Any], option: str) -> None:
        assert refusal("demo", *ONE, *RANK_BSGS, option, 1)["code"] == "budget-exceeded"

    def test_a_last_run_of_padding_counts(self, refusal: Callable[..., Any], helora_json: Callable[..., Any]) -> None:
        """A batch may keep what the tokens that are there do not: three run by plans for 32 share the cost by three."""
        shape = ModuleShape.parse("576:576:8")
        save_npz(LoRAAdapter.from_modules([synthetic_module(shape, seed=1, name=Q)], source="test"), Path("a.npz"))
        np.save("x.npy", synthetic_activations(shape, 3, seed=2))
        full = helora_json("plan", "--shape", str(shape), *RANK_BSGS, "--tokens", 32)
        bound = 1.5 * full["rotations"] / full["tokens_per_run"]
        few = ("run", "--adapter", "a.npz", "--input", "x.npy", "--output", "d.npy", "--tokens", 32, *NUMPY, *RANK_BSGS)
        error = refusal(*few, "--max-rotations", bound)
        assert error["code"] == "budget-exceeded"
        helora_json(*few, "--max-rotations", full["rotations"])


class TestPrivateWeights:
    SHOWS = ("--packing", "zero_moai")

    @pytest.mark.parametrize("command", ["plan", "demo"])
    def test_a_packing_that_shows_weights_is_refused_by_default(
        self, refusal: Callable[..., Any], command: str
    ) -> None:
        error = refusal(command, *(("--shape", "64:64:4") if command == "plan" else ONE), *self.SHOWS)
        assert error["code"] == "leakage-refused"
        for name in get_manager().packings():
            packing = get_manager().load_packing(name)
            shown = packing.client_finishes or packing.leakage.assumes
            assert (f" {name} " in error["hint"] or f" {name};" in error["hint"]) == (not shown)

    def test_with_no_private_weights_it_runs_and_warns(self, helora: Callable[..., Any]) -> None:
        shown = helora("demo", *ONE, *self.SHOWS, "--no-private-weights")
        assert shown.exit_code == 0
        assert "WEIGHTS NOT PRIVATE: packing zero_moai" in shown.stderr

    def test_results_that_are_not_sanitised_are_refused_or_warned_of(
        self, helora: Callable[..., Any], refusal: Callable[..., Any]
    ) -> None:
        assert refusal("demo", *ONE, *RANK_BSGS, "--sanitize", 0)["code"] == "leakage-refused"
        shown = helora("demo", *ONE, *RANK_BSGS, "--no-private-weights")
        assert shown.exit_code == 0
        assert "WEIGHTS NOT PRIVATE: results are not sanitised" in shown.stderr

    def test_auto_never_takes_one_that_shows_them(self, helora: Callable[..., Any]) -> None:
        shown = helora("demo", *ONE, "--json")
        row = json.loads(shown.stdout)["modules"][0]
        assert row["leakage_label"] in ("nothing", "masked z")
        assert row["sanitize_bits"] == 40
        assert "WEIGHTS NOT PRIVATE" not in shown.stderr


@pytest.mark.usefixtures("on_seal")
class TestSeveralTokens:
    """Decode and prefill: a plan for each number of tokens, under one key set."""

    def test_a_plan_for_each_and_what_their_keys_come_to(
        self, helora: Callable[..., Any], helora_json: Callable[..., Any]
    ) -> None:
        asked = ("plan", "--shape", "128:64:4", "--tokens", "128,4")
        few, many = helora_json(*asked)
        assert (few["tokens"], many["tokens"]) == (4, 128)
        assert few["joint"] == many["joint"]
        joint = few["joint"]
        assert joint["plans"] == [few["digest"], many["digest"]]
        assert set(joint["rotation_steps"]) == {*few["rotation_steps"], *many["rotation_steps"]}
        parameters = ("ring_degree", "data_bits", "special_bits", "modulus_bits")
        assert [few[each] for each in parameters] == [many[each] for each in parameters]
        apart = few["key_bytes_estimate"] + many["key_bytes_estimate"]
        assert joint["key_bytes_estimate"] <= joint["key_bytes_apart_estimate"] == apart
        assert "one for 2 plans" in helora(*asked).stdout

    def test_compiled_and_run_from_the_adapter_and_from_the_artifact(self, helora_json: Callable[..., Any]) -> None:
        shape = ModuleShape.parse("128:64:4")
        save_npz(LoRAAdapter.from_modules([synthetic_module(shape, seed=1, name=Q)], source="test"), Path("a.npz"))
        np.save("x.npy", synthetic_activations(shape, 132, seed=2))
        written = helora_json("compile", "--adapter", "a.npz", "--out", "served", "--tokens", "4,128", *NUMPY)
        assert [row["tokens"] for row in written["modules"]] == [4, 128]
        assert (written["plans"], written["key_sets"], written["schema"]) == (2, 1, 3)
        run = ("run", "--input", "x.npy", *NUMPY)
        by_adapter = helora_json(*run, "--adapter", "a.npz", "--output", "d.npy", "--tokens", "4,128")
        by_artifact = helora_json(*run, "--artifact", "served", "--output", "e.npy")
        many = written["modules"][1]["digest"]
        assert [each["modules"][0]["digest"] for each in (by_adapter, by_artifact)] == [many, many]
        np.testing.assert_allclose(np.load("d.npy"), np.load("e.npy"), atol=2e-2)

    @pytest.mark.parametrize("tokens", ["0,4", "4,,8", "a", "1,2,3,4,5"])
    def test_numbers_that_make_no_sense(self, helora: Callable[..., Any], tokens: str) -> None:
        shown = helora("plan", "--shape", "64:48:4", "--tokens", tokens)
        assert shown.exit_code in (1, 2)
        assert "Traceback" not in shown.stderr
