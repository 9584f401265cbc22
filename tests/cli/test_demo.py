"""``helora demo``: the bundled adapter on real ciphertexts, every Δ checked."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import helora_core.data.bundled
from helora_core.adapter.lora import LoRAAdapter, LoRAModule
from helora_core.compiler.compile import compile_plan
from helora_core.data.bundled import bundled_activations, bundled_adapter
from helora_core.host.manager import get_manager
from helora_core.host.records import RegisteredBackend
from helora_core.planning.selection import select_backend

ONE = ("--module", "layers.0.self_attn.q_proj")


@pytest.mark.parametrize(
    "modules", ["layers.0.*", pytest.param("all", marks=pytest.mark.thorough)], ids=["two", "sixty"]
)
def test_modules_run_encrypted_with_twelve_bits_and_more(
    helora_json: Callable[..., Any], documented: Callable[..., set[str]], modules: str
) -> None:
    document = helora_json("demo", "--backend", "tenseal", "--tokens", 4, "--module", modules)
    assert set(document) == documented("helora demo")
    assert (document["backend"], document["secure"]) == ("tenseal", True)
    assert [row["module"] for row in document["modules"]] == [
        module.name for module in bundled_adapter().select(modules)
    ]
    keys = documented("Keys of a plan") - {"program", "batch_for_default_budget"}
    keys |= documented("helora demo", "key of `modules`")
    for row in document["modules"]:
        assert set(row) == keys
        assert row["precision_bits"] >= row["bound_bits"] >= 12
        assert row["security_bits"] >= 128
        assert row["sanitize_bits"] == 40
        assert row["tokens"] == 4
        assert row["executed"] == {name: row[name] * row["runs"] for name in row["executed"]}
        assert 0 < row["max_abs_error"] <= row["error_bound"], "an encrypted result has noise"


def test_what_the_ledger_counts_is_documented(helora_json: Callable[..., Any]) -> None:
    (row,) = helora_json("demo", *ONE, "--backend", "tenseal", "--tokens", 1)["modules"]
    text = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
    (line,) = [line for line in text.splitlines() if line.startswith("| `executed`")]
    assert line.partition("counted: ")[2].rstrip(". |").replace("`", "").split(", ") == list(row["executed"])


@pytest.fixture
def faint_module(monkeypatch: pytest.MonkeyPatch, turned_away: Callable[..., LoRAModule]) -> str:
    """Makes one bundled module see next to nothing of the prompt: its name."""
    modules = dict(bundled_adapter().modules)
    name = "model.layers.0.self_attn.q_proj"
    modules[name] = turned_away(modules[name], bundled_activations()[name])
    monkeypatch.setattr(helora_core.data.bundled, "bundled_adapter", lambda: LoRAAdapter(modules, "faint"))
    return name


def test_a_result_below_the_bits_asked_for_is_exit_status_1_and_one_document(
    helora: Callable[..., Any], faint_module: str
) -> None:
    arguments = ("demo", "--module", "layers.0.*", "--backend", "tenseal", "--tokens", 1)
    told, shown = helora(*arguments, "--json"), helora(*arguments)
    assert told.exit_code == shown.exit_code == 1
    error = json.loads(told.stdout)["error"]
    assert error["code"] == "precision-lost"
    assert f"{faint_module} has" in error["message"]
    assert "v_proj" not in error["message"]
    assert "all 2" in shown.stdout, "people see the rows all the same"
    assert "error [precision-lost]" in shown.stderr


def test_sixty_bits_are_refused(refusal: Callable[..., Any]) -> None:
    assert (
        refusal("demo", "--target-bits", "60", "--packing", "rank_bsgs", "--no-private-weights", *ONE)["code"]
        == "invalid-parameters"
    )


def test_the_last_tokens_of_the_prompt_are_run(helora_json: Callable[..., Any]) -> None:
    for tokens in (1, 32):
        (row,) = helora_json("demo", *ONE, "--backend", "tenseal", "--tokens", tokens)["modules"]
        assert row["tokens"] == tokens


def test_the_options_reach_the_compiler(helora_json: Callable[..., Any]) -> None:
    arguments = (
        "--backend", "numpy", "--security", "192", "--packing", "zero_moai", "--target-bits", "9",
        "--no-private-weights",
    )  # fmt: skip
    (row,) = helora_json("demo", *ONE, *arguments)["modules"]
    plan = compile_plan(
        bundled_adapter().select(ONE[1])[0].shape,
        get_manager().load_packing("zero_moai"),
        security_bits=192,
        precision_bits=9.0,
        tokens=16,
        private_weights=False,
    )
    assert (row["digest"], row["security_limit_bits"]) == (plan.digest, plan.verdict.limit_bits)
    (row,) = helora_json("demo", *ONE, "--backend", "tenseal", "--ring", "16384")["modules"]
    assert row["ring_degree"] == 16384


class TestBackendChoice:
    def test_by_default_the_backend_encrypts(self, helora_json: Callable[..., Any]) -> None:
        document = helora_json("demo", *ONE, "--tokens", 1)
        assert document["secure"] is True

    def test_what_was_passed_over_is_said_on_standard_error(
        self, helora: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        manager = get_manager()
        backends, best = manager.backends(), select_backend(manager).name
        spec = replace(backends[best].spec, name="faster", preference=99, availability=lambda: "it has no device")
        absent = RegisteredBackend(backends[best].origin, spec, backends[best].report)
        monkeypatch.setattr(type(manager), "backends", lambda self: {**backends, "faster": absent})
        shown = helora("demo", *ONE, "--tokens", 1)
        assert f"backend {best} (skipped faster: it has no device" in shown.stderr
        assert "skipped" not in shown.stdout

    def test_an_emulation_is_never_chosen_without_leave(self, in_new_process: Callable[..., Any]) -> None:
        arguments = ("-m", "helora_core", "demo", *ONE, "--tokens", "1")
        refused = in_new_process(*arguments, "--json", HELORA_PLUGINS="numpy")
        assert refused.returncode == 1
        assert json.loads(refused.stdout)["error"]["code"] == "backend-unavailable"
        assert "numpy: it encrypts nothing" in refused.stdout
        allowed = in_new_process(*arguments, "--allow-emulation", HELORA_PLUGINS="numpy")
        assert allowed.returncode == 0, allowed.stderr
        assert "nothing was encrypted" in allowed.stderr
