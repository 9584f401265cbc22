"""``helora backends`` and ``helora packings``."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helora_core.host.manager import get_manager

DISTS = Path(__file__).parents[1] / "dists"


def search_path(*dists: str) -> str:
    """Where Python looks for modules: in folders of tests/dists, and wherever else it does."""
    return os.pathsep.join([*(str(DISTS / name) for name in dists), os.environ.get("PYTHONPATH", "")])


@pytest.fixture
def backends(helora_json: Callable[..., Any]) -> dict[str, Any]:
    return {row["name"]: row for row in helora_json("backends")["backends"]}


class TestBackends:
    def test_the_keys_are_those_documented(
        self, helora_json: Callable[..., Any], documented: Callable[..., set[str]]
    ) -> None:
        document = helora_json("backends")
        assert set(document) == documented("helora backends")
        assert document["backends"]
        for row in document["backends"]:
            assert set(row) == documented("helora backends", "key of `backends`")

    def test_every_registered_backend_is_listed_with_what_it_can_do(self, backends: dict[str, Any]) -> None:
        assert set(backends) == set(get_manager().backends())
        for name, row in backends.items():
            if row["available"]:
                abilities = get_manager().load_backend(name).capabilities
                assert set(row["capabilities"]) == set(abilities.__struct_fields__)
                assert set(row["capabilities"]["encodings"]) == {each.value for each in abilities.encodings}
                assert row["reason"] is None
            else:
                assert row["capabilities"] is None
                assert row["reason"]

    def test_the_capabilities_are_those_documented(self, backends: dict[str, Any]) -> None:
        text = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
        (line,) = [line for line in text.splitlines() if line.startswith("| `capabilities`")]
        named = line.partition("else: ")[2].rstrip(". |").replace("`", "").split(", ")
        assert set(named) == set(backends["numpy"]["capabilities"])

    def test_the_emulation_is_marked_as_what_it_is(self, helora: Callable[..., Any], backends: dict[str, Any]) -> None:
        assert backends["numpy"]["secure"] is False
        assert backends["tenseal"]["secure"] is True
        lines = {line.split()[0]: line for line in helora("backends").stdout.splitlines() if line.strip()}
        assert "NO: emulation" in lines["numpy"]
        assert "NO: emulation" not in lines["tenseal"]
        assert "helora-tenseal" in lines["tenseal"]

    def test_an_emulation_is_marked_whatever_it_is_called(
        self, in_new_process: Callable[..., Any], tmp_path: Path
    ) -> None:
        """A plugin named like something that encrypts, and that would be preferred: in lists, choices and runs."""
        path = search_path("emulation_named_cuda")
        shown = in_new_process("-m", "helora_core", "backends", "--json", PYTHONPATH=path)
        (row,) = [row for row in json.loads(shown.stdout)["backends"] if row["name"] == "cuda"]
        assert row["secure"] is False
        module = ("--module", "model.layers.0.self_attn.q_proj", "--tokens", "1", "--json")
        named = in_new_process("-m", "helora_core", "demo", *module, "--backend", "cuda", PYTHONPATH=path)
        assert json.loads(named.stdout)["secure"] is False
        assert "backend cuda is an emulation: nothing was encrypted" in named.stderr
        chosen = in_new_process("-m", "helora_core", "demo", *module, PYTHONPATH=path, HELORA_PLUGINS="cuda,tenseal")
        assert json.loads(chosen.stdout)["backend"] == "tenseal"

    def test_broken_plugins_are_lines_in_the_report(
        self, in_new_process: Callable[..., Any], documented: Callable[..., set[str]]
    ) -> None:
        path = search_path("raises_oserror", "missing_library")
        shown = in_new_process("-m", "helora_core", "backends", "--json", PYTHONPATH=path)
        assert shown.returncode == 0, shown.stderr
        document = json.loads(shown.stdout)
        (failure,) = document["failures"]
        assert set(failure) == documented("helora backends", "key of `failures`")
        assert failure["stage"] == "import"
        unavailable = [row for row in document["backends"] if not row["available"]]
        assert unavailable
        told = in_new_process("-m", "helora_core", "backends", PYTHONPATH=path)
        assert told.returncode == 0
        assert f"warning: {failure['reason']}" in told.stderr
        assert unavailable[0]["name"] in told.stdout

    def test_a_backend_that_cannot_be_loaded_is_listed_with_the_reason(
        self, in_new_process: Callable[..., Any]
    ) -> None:
        shown = in_new_process("-m", "helora_core", "backends", "--json", PYTHONPATH=search_path("broken_target"))
        assert shown.returncode == 0, shown.stderr
        document = json.loads(shown.stdout)
        (row,) = [row for row in document["backends"] if row["name"] == "broken"]
        assert row["available"] is False
        assert "libfake_acme.so.3" in row["reason"]
        assert {failure["stage"] for failure in document["failures"]} == {"load"}


class TestPackings:
    def test_each_packing_is_listed_with_the_documented_keys(
        self, helora_json: Callable[..., Any], documented: Callable[..., set[str]]
    ) -> None:
        rows = helora_json("packings")
        assert [row["name"] for row in rows] == list(get_manager().packings())
        for row in rows:
            assert set(row) == documented("helora packings")
            packing = get_manager().load_packing(row["name"])
            assert (row["depth"], row["rotates"], row["version"]) == (packing.depth, packing.rotates, packing.version)
            assert row["leakage"] == packing.leakage.key_holder.value
            assert row["client_finishes"] is packing.client_finishes

    def test_people_see_what_the_key_holder_learns(self, helora: Callable[..., Any]) -> None:
        lines = {line.split()[0]: line for line in helora("packings").stdout.splitlines()}
        assert "nothing*" in lines["rank_bsgs"]
        assert "products" in lines["zero_moai"]
        assert "sanitised" in lines["*"]
