"""The scaling is the one PEFT computed with, or the adapter is refused; and a hint that is followed gives it too."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helora_core.adapter.peft import load_peft
from helora_core.errors import AdapterFormatError

FIXTURES = Path(__file__).parent / "fixtures"
NAME = "model.layers.1.q_proj"


@pytest.fixture
def adapter(peft_directory: Callable[..., Path]) -> Callable[..., Path]:
    """A PEFT directory of modules by the front of their keys, each r = 2 in α = 4, but for what the config says."""

    def write(*fronts: str, rank: int = 2, **config: Any) -> Path:
        tensors: dict[str, Any] = {f"base_model.model.q_proj.lora_{side}.weight": None for side in "AB"}
        for front in fronts:
            tensors[f"{front}.lora_A.weight"] = np.arange(rank * 3, dtype="<f4").reshape(rank, 3)
            tensors[f"{front}.lora_B.weight"] = np.arange(4 * rank, dtype="<f4").reshape(4, rank)
        return peft_directory(config=config, tensors=tensors)

    return write


class TestWrappers:
    @pytest.mark.parametrize(
        "front",
        [
            "base_model.model.",
            "_orig_mod.base_model.model.",
            "module.base_model.model.",
            "module._orig_mod.base_model.model.",
            "_forward_module.module.base_model.model.",
            "_fsdp_wrapped_module.base_model.model._fsdp_wrapped_module.",
            "llm.base_model.model.",
            "base_model._orig_mod.model.",
        ],
    )
    def test_an_anchored_pattern_is_held_against_the_name_that_peft_saw(
        self, adapter: Callable[..., Path], front: str
    ) -> None:
        [module] = load_peft(adapter(front + NAME, alpha_pattern={f"^{NAME}": 64})).modules.values()
        assert (module.name, module.scaling) == (NAME, 32)

    @pytest.mark.parametrize("front", ["_orig_mod.", "module.", "base_model.model._orig_mod."])
    @pytest.mark.parametrize("field", ["alpha_pattern", "rank_pattern"])
    def test_wrappers_that_leave_the_name_open_are_refused_where_it_matters(
        self, adapter: Callable[..., Path], refused: Callable[..., Any], front: str, field: str
    ) -> None:
        front = front if front.startswith("base_model") else f"base_model.model.{front}"
        with refused(AdapterFormatError, repr(NAME), f"{front.removeprefix('base_model.model.')}{NAME}"):
            load_peft(adapter(front + NAME, **{field: {f"^{NAME}": 2 if field == "rank_pattern" else 64}}, r=4))
        [module] = load_peft(adapter(front + NAME, alpha_pattern={"q_proj": 64})).modules.values()
        assert (module.name, module.scaling) == (NAME, 32)

    @pytest.mark.parametrize("front", ["", "_orig_mod.", "language_model.", "model."])
    @pytest.mark.parametrize("pattern", [f"^{NAME}", rf"\A{NAME}", f"(^{NAME}|k_proj)"])
    def test_anchors_need_the_prefix(
        self, adapter: Callable[..., Path], refused: Callable[..., Any], front: str, pattern: str
    ) -> None:
        with refused(AdapterFormatError, "no prefix 'base_model.model.'", repr(pattern)):
            load_peft(adapter(front + NAME, alpha_pattern={pattern: 64}))

    def test_a_set_that_excludes_is_no_anchor(self, adapter: Callable[..., Path]) -> None:
        [module] = load_peft(adapter(NAME, alpha_pattern={r"layers\.[^.]+\.q_proj": 64})).modules.values()
        assert module.scaling == 32

    def test_without_the_prefix_a_pattern_may_be_longer_than_what_is_left_of_the_name(
        self, adapter: Callable[..., Path], refused: Callable[..., Any]
    ) -> None:
        with refused(AdapterFormatError, "'layers.1.q_proj'", repr(NAME)):
            load_peft(adapter("layers.1.q_proj", alpha_pattern={NAME: 64}))

    @pytest.mark.parametrize("pattern", [f"base_model.model.{NAME}", f"^base_model.model.{NAME}", "^layers.1.q_proj"])
    def test_patterns_match_as_in_peft_and_not_otherwise(self, adapter: Callable[..., Path], pattern: str) -> None:
        [module] = load_peft(adapter(f"base_model.model.{NAME}", alpha_pattern={pattern: 64})).modules.values()
        assert module.scaling == 2

    def test_adapters_of_several_models_are_refused(
        self, adapter: Callable[..., Path], refused: Callable[..., Any]
    ) -> None:
        for front in ("b.base_model.model.", "base_model.model."):
            with refused(AdapterFormatError, "several models"):
                load_peft(adapter("a.base_model.model.v", f"{front}q"))

    @pytest.mark.parametrize("directory", sorted((FIXTURES / "plain").iterdir()), ids=lambda path: path.name)
    @pytest.mark.parametrize("front", ["_orig_mod.", "module.", "module._orig_mod.", "_fsdp_wrapped_module.", "llm."])
    def test_no_front_changes_an_adapter_of_pefts(
        self, tmp_path: Path, directory: Path, front: str, safetensors_bytes: Callable[..., bytes]
    ) -> None:
        content = (directory / "adapter_model.safetensors").read_bytes()
        length = int.from_bytes(content[:8], "little")
        header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
        header.pop("__metadata__", None)
        tensors = {
            front + key: (entry["dtype"], entry["shape"], data[slice(*entry["data_offsets"])])
            for key, entry in header.items()
        }
        (tmp_path / "adapter_model.safetensors").write_bytes(safetensors_bytes(tensors))
        (tmp_path / "adapter_config.json").write_bytes((directory / "adapter_config.json").read_bytes())
        assert load_peft(tmp_path).digest == load_peft(directory).digest


class TestRanks:
    def test_the_hint_for_a_merged_adapter_keeps_the_scaling(self, adapter: Callable[..., Path]) -> None:
        """As PEFT's add_weighted_adapter writes: α = r, patterns dropped, matrices of the ranks that were in them."""
        directory = adapter(f"base_model.model.{NAME}", r=8, lora_alpha=8)
        with pytest.raises(AdapterFormatError) as caught:
            load_peft(directory)
        assert "must stay what it was" in caught.value.hint
        self._follow(caught.value.hint, directory)
        [module] = load_peft(directory).modules.values()
        assert module.scaling == 1

    @pytest.mark.parametrize("rslora", [False, True])
    def test_modules_of_one_ending_with_several_ranks(self, peft_directory: Callable[..., Path], rslora: bool) -> None:
        tensors: dict[str, Any] = {f"base_model.model.q_proj.lora_{side}.weight": None for side in "AB"}
        for name, rank in {"h.0.q": 2, "h.1.q": 3, "h.2.q": 8, "h.0.v": 4, "h.1.v": 4, "x.h.0.q": 8}.items():
            tensors[f"base_model.model.{name}.lora_A.weight"] = np.ones((rank, 3))
            tensors[f"base_model.model.{name}.lora_B.weight"] = np.ones((4, rank))
        directory = peft_directory(config={"r": 8, "lora_alpha": 8, "use_rslora": rslora}, tensors=tensors)
        with pytest.raises(AdapterFormatError, match="3 more like it") as caught:
            load_peft(directory)
        self._follow(caught.value.hint, directory)
        scalings = {name: module.scaling for name, module in load_peft(directory).modules.items()}
        assert len(scalings) == 6
        assert list(scalings.values()) == pytest.approx([8 / 8**0.5 if rslora else 1.0] * 6, rel=1e-15)

    def test_otherwise_the_hint_sets_no_rank_without_its_scaling(self, adapter: Callable[..., Path]) -> None:
        with pytest.raises(AdapterFormatError) as caught:
            load_peft(adapter(f"base_model.model.{NAME}", r=8, lora_alpha=16))
        assert "must stay what it was" in caught.value.hint
        assert "{" not in caught.value.hint

    @staticmethod
    def _follow(hint: str, directory: Path) -> None:
        path = directory / "adapter_config.json"
        config = json.loads(path.read_text())
        for field in ("rank_pattern", "alpha_pattern"):
            found = re.search(rf'"{field}": (\{{.*?\}})', hint)
            assert found is not None
            config[field] = json.loads(found[1])
        path.write_text(json.dumps(config))


class TestLeftovers:
    @pytest.mark.parametrize(
        "key",
        [
            f"{front}.{name}"
            for front in ("base_model.model.q_proj", "_orig_mod.base_model.model.q_proj.lora_A")
            for name in ("alpha", "lora_alpha")
        ],
    )
    def test_an_alpha_that_agrees_says_nothing_new(self, peft_directory: Callable[..., Path], key: str) -> None:
        assert load_peft(peft_directory(tensors={key: np.array(4, "<f2")})).modules["q_proj"].scaling == 2

    def test_an_alpha_that_does_not_is_refused_and_not_taken_for_a_base_weight(
        self, peft_directory: Callable[..., Path], refused: Callable[..., Any]
    ) -> None:
        key = "base_model.model.q_proj.alpha"
        for value in (np.array(3.0), np.array([1.0]), np.array(np.nan), np.ones(2)):
            with refused(AdapterFormatError, repr(key)) as _:
                load_peft(peft_directory(tensors={key: value}))
        with refused(AdapterFormatError, "its module is not there", hint="converter"):
            load_peft(peft_directory(tensors={"base_model.model.k_proj.alpha": np.array(4.0)}))

    @pytest.mark.parametrize("entry", ["weight", "weight.absmax", "weight.quant_map", "qweight", "scales", "SCB"])
    def test_a_base_layer_is_no_part_of_delta(self, peft_directory: Callable[..., Path], entry: str) -> None:
        key = f"base_model.model.lm_head.base_layer.{entry}"
        plain = load_peft(peft_directory()).digest
        assert load_peft(peft_directory(tensors={key: np.ones((2, 2))})).digest == plain

    def test_nor_is_its_bias_where_the_whole_layer_was_saved(
        self, peft_directory: Callable[..., Path], refused: Callable[..., Any]
    ) -> None:
        base = "base_model.model.lm_head.base_layer"
        load_peft(peft_directory(tensors={f"{base}.weight": np.ones((2, 2)), f"{base}.bias": np.ones(2)}))
        with refused(AdapterFormatError, f"{base}.bias", "bias"):
            load_peft(peft_directory(tensors={f"{base}.bias": np.ones(2)}))


class TestStacks:
    @pytest.mark.parametrize(("down", "up"), [((4, 2, 3), (4, 5, 2)), ((4, 3, 2), (4, 2, 5))])
    def test_stacked_experts_are_called_so(
        self, peft_directory: Callable[..., Path], refused: Callable[..., Any], down: Any, up: Any
    ) -> None:
        a, b = (f"base_model.model.q_proj.lora_{side}.weight" for side in "AB")
        with refused(AdapterFormatError, repr(a), "3 dimensions", "4 stacked experts"):
            load_peft(peft_directory(tensors={a: np.ones(down), b: np.ones(up)}))

    def test_a_convolution_over_time_is_none(
        self, peft_directory: Callable[..., Path], refused: Callable[..., Any]
    ) -> None:
        a, b = (f"base_model.model.q_proj.lora_{side}.weight" for side in "AB")
        with refused(AdapterFormatError, repr(a), "LoRA on a convolution"):
            load_peft(peft_directory(tensors={a: np.ones((2, 3, 5)), b: np.ones((4, 2, 1))}))
