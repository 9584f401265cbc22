"""The bundled adapter and activations: what they are, that they are what they were, and that Δ is torch's.

The same holds for the adapter bundled until November 2026, which stays here so that earlier figures can be repeated.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open

from helora_core.adapter.lora import LoRAAdapter, ModuleShape
from helora_core.data.bundled import DIRECTORY, bundled_activations, bundled_adapter

LAYERS = 30
FIRST = Path(__file__).parents[1] / "fixtures" / "smollm2_lora_2026_11"


@pytest.fixture(scope="module", params=[DIRECTORY, FIRST], ids=["bundled", "first"])
def directory(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


@pytest.fixture(scope="module")
def adapter(directory: Path) -> LoRAAdapter:
    return bundled_adapter(directory)


@pytest.fixture(scope="module")
def activations(directory: Path) -> dict[str, Any]:
    return bundled_activations(directory)


@pytest.fixture(scope="module")
def torch_deltas(directory: Path) -> dict[str, Any]:
    file: Any
    with safe_open(directory / "torch_deltas.safetensors", framework="numpy") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping


def test_it_has_q_and_v_of_all_layers_in_order(adapter: LoRAAdapter) -> None:
    names = [f"model.layers.{k}.self_attn.{p}_proj" for k in range(LAYERS) for p in "qv"]
    assert list(adapter.modules) == names
    for name, module in adapter.modules.items():
        assert module.shape == ModuleShape(d_in=576, d_out=576 if "q_proj" in name else 192, rank=8)
        assert module.scaling == 2.0


def test_every_module_has_activations_of_32_tokens(adapter: LoRAAdapter, activations: dict[str, Any]) -> None:
    assert set(activations) == set(adapter.modules)
    for x in activations.values():
        assert x.shape == (32, 576)
        assert x.dtype == np.float32
        assert np.isfinite(x).all()
        assert np.std(x) > 0.01


def test_q_and_v_of_a_layer_see_the_same_and_layers_do_not(activations: dict[str, Any]) -> None:
    per_layer = [activations[f"model.layers.{k}.self_attn.q_proj"] for k in range(LAYERS)]
    for k, x in enumerate(per_layer):
        assert activations[f"model.layers.{k}.self_attn.v_proj"] is x
    assert len({x.tobytes() for x in per_layer}) == LAYERS


def test_the_plaintext_reference_is_what_torch_and_peft_computed(
    adapter: LoRAAdapter, activations: dict[str, Any], torch_deltas: dict[str, Any]
) -> None:
    assert set(torch_deltas) == {f"model.layers.{k}.self_attn.{p}_proj" for k in (0, 14, 29) for p in "qv"}
    for name, expected in torch_deltas.items():
        delta = adapter.modules[name].reference_delta(activations[name])
        np.testing.assert_allclose(delta, expected, rtol=0, atol=1e-6)
        assert np.max(np.abs(delta)) > 0.005, "a comparison of zeros would say nothing"


def test_the_files_are_those_whose_digests_are_on_record(directory: Path) -> None:
    record = (directory / "PROVENANCE.md").read_text(encoding="utf-8")
    digests = dict(reversed(line) for line in re.findall(r"^([0-9a-f]{64})  (\S+)$", record, re.MULTILINE))
    files = [path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()]
    assert set(digests) == {name for name in files if name != "PROVENANCE.md"}
    for name, digest in digests.items():
        assert hashlib.sha256((directory / name).read_bytes()).hexdigest() == digest


def test_the_magnitudes_on_record_are_true(directory: Path, adapter: LoRAAdapter, activations: dict[str, Any]) -> None:
    record = (directory / "PROVENANCE.md").read_text(encoding="utf-8")
    for layer, largest, std in re.findall(r"^\| (\d+) \| ([\d.]+) \| ([\d.]+) \|$", record, re.MULTILINE):
        x = activations[f"model.layers.{layer}.self_attn.q_proj"]
        assert float(np.max(np.abs(x))) == pytest.approx(float(largest), abs=1e-3)
        assert float(np.std(x)) == pytest.approx(float(std), abs=1e-3)
    down, up = re.findall(r"Largest \|down\| ([\d.]+), largest \|up\| ([\d.]+)\.", record)[0]
    modules = adapter.modules.values()
    assert max(np.max(np.abs(module.down)) for module in modules) == pytest.approx(float(down), abs=1e-3)
    assert max(np.max(np.abs(module.up)) for module in modules) == pytest.approx(float(up), abs=1e-4)


@pytest.mark.parametrize("file", ["activations.safetensors", "torch_deltas.safetensors"])
def test_the_recordings_say_where_they_come_from(directory: Path, file: str) -> None:
    opened: Any
    with safe_open(directory / file, framework="numpy") as opened:
        metadata = opened.metadata()
    assert metadata["format"].startswith("helora-")
    assert metadata["prompt"]
    assert len(json.loads(metadata["tokens"])) == 32
    assert json.loads(metadata["versions"])


def test_the_two_adapters_differ() -> None:
    bundled, first = bundled_adapter(), bundled_adapter(FIRST)
    assert [module.shape for module in bundled.modules.values()] == [module.shape for module in first.modules.values()]
    for name, module in bundled.modules.items():
        assert not np.array_equal(module.up, first.modules[name].up)
