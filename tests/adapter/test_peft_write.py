from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helora_core.adapter.lora import LoRAAdapter, LoRAModule
from helora_core.adapter.peft import load_peft
from helora_core.adapter.peft_write import save_peft
from helora_core.adapter.safetensors_io import FloatDType
from helora_core.errors import AdapterFormatError, InvalidInput

NAMES = st.text(st.sampled_from("ab.[]*+(1\\ü"), min_size=1, max_size=10)
SCALINGS = st.one_of(st.sampled_from([2.0, 0.5, 1 / 3, 0.1, -1.0, 0.0]), st.floats(-1e6, 1e6))


def module(name: str, rank: int, scaling: float, value: float = 1.0) -> LoRAModule:
    return LoRAModule(name, np.full((rank, 3), value), np.full((4, rank), -value), scaling)


def adapter(*modules: LoRAModule) -> LoRAAdapter:
    return LoRAAdapter.from_modules(modules, source="memory")


@given(st.dictionaries(NAMES, st.tuples(st.integers(1, 7), SCALINGS), min_size=1, max_size=5))
def test_load_undoes_save(tmp_path_factory: pytest.TempPathFactory, modules: dict[str, tuple[int, float]]) -> None:
    directory = tmp_path_factory.mktemp("peft") / "adapter"
    before = adapter(*(module(name, rank, scaling, 1 / 3) for name, (rank, scaling) in modules.items()))
    save_peft(before, directory, base_model="tiny", dtype="f64")
    after = load_peft(directory)
    assert list(after.modules) == list(before.modules)
    for name, original in before.modules.items():
        loaded, rank = after.modules[name], original.shape.rank
        assert np.array_equal(loaded.down, original.down)
        assert np.array_equal(loaded.up, original.up)
        slack = 0.0 if rank & (rank - 1) == 0 else math.ulp(original.scaling)
        assert abs(loaded.scaling - original.scaling) <= slack


@given(st.integers(1, 4096), st.floats(1e-3, 1e3))
def test_a_scaling_that_came_from_an_alpha_comes_back(
    tmp_path_factory: pytest.TempPathFactory, rank: int, alpha: float
) -> None:
    directory = tmp_path_factory.mktemp("peft")
    save_peft(adapter(module("q", rank, alpha / rank)), directory, base_model="tiny")
    assert load_peft(directory).modules["q"].scaling == alpha / rank


@pytest.mark.parametrize(("dtype", "bits"), [("f64", 53), ("f32", 24), ("f16", 11), ("bf16", 8)])
def test_matrices_are_rounded_to_the_dtype_and_no_further(tmp_path: Path, dtype: FloatDType, bits: int) -> None:
    value = 1 + 2.0 ** (1 - bits)
    save_peft(adapter(module("q", 2, 1.0, value)), tmp_path, base_model="tiny", dtype=dtype)
    assert load_peft(tmp_path).modules["q"].down[0, 0] == value


def test_the_configuration_is_pefts(tmp_path: Path) -> None:
    modules = [module(f"h.{i}.q", 4, 2.0) for i in range(3)]
    save_peft(adapter(*modules, module("h.3.q", 2, 1.5)), tmp_path / "new", base_model="org/tiny")
    config = json.loads((tmp_path / "new" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (4, 8)
    assert config["rank_pattern"] == {r"^h\.3\.q": 2}
    assert config["alpha_pattern"] == {r"^h\.3\.q": 3}
    assert config["base_model_name_or_path"] == "org/tiny"
    assert config["target_modules"] == ["h.0.q", "h.1.q", "h.2.q", "h.3.q"]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]


def test_an_adapter_there_is_kept_unless_it_may_be_overwritten(tmp_path: Path, refused: Callable[..., Any]) -> None:
    old, new = adapter(module("q", 2, 1.0)), adapter(module("k", 3, 1.0))
    save_peft(old, tmp_path, base_model="tiny")
    with refused(InvalidInput, str(tmp_path), "already"):
        save_peft(new, tmp_path, base_model="tiny")
    assert load_peft(tmp_path).digest == old.digest
    save_peft(new, tmp_path, base_model="tiny", overwrite=True)
    assert load_peft(tmp_path).digest == new.digest


def test_values_too_large_for_the_dtype_leave_the_old_adapter(tmp_path: Path, refused: Callable[..., Any]) -> None:
    old = adapter(module("q", 2, 1.0))
    save_peft(old, tmp_path, base_model="tiny")
    with refused(InvalidInput, "q.lora_A.weight", "f32"):
        save_peft(adapter(module("q", 2, 1.0, 1e300)), tmp_path, base_model="tiny", overwrite=True)
    assert load_peft(tmp_path).digest == old.digest


def test_what_is_left_half_written_is_refused_by_the_loader(
    tmp_path: Path, refused: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash_before_the_configuration(source: Path, target: Path) -> None:
        if target.name == "adapter_config.json":
            raise OSError("power cut")
        source.rename(target)

    save_peft(adapter(module("q", 2, 1.0)), tmp_path, base_model="tiny")
    monkeypatch.setattr(os, "replace", crash_before_the_configuration)
    with refused(InvalidInput, "adapter_config.json", "power cut"):
        save_peft(adapter(module("q", 2, 8.0)), tmp_path, base_model="tiny", overwrite=True)
    with refused(AdapterFormatError, "no adapter_config.json"):
        load_peft(tmp_path)


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path, refused: Callable[..., Any]) -> None:
    (tmp_path / "file").write_bytes(b"")
    for directory in (tmp_path / "missing" / "adapter", tmp_path / "file"):
        with refused(InvalidInput, str(directory), "cannot be written"):
            save_peft(adapter(module("q", 2, 1.0)), directory, base_model="tiny")


def test_a_scaling_without_an_alpha_is_refused(tmp_path: Path, refused: Callable[..., Any]) -> None:
    with refused(InvalidInput, "'q'", "overflows"):
        save_peft(adapter(module("q", 2, 1.7e308)), tmp_path / "new", base_model="tiny")
    assert not (tmp_path / "new").exists()
