"""MLX's adapters beyond what the fixture has: what its configurations may say, and what else its tensors may be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helora_core.adapter.load import load_adapter
from helora_core.errors import AdapterFormatError

Q = "model.layers.0.self_attn.q_proj"
A, B = np.array([[1, 2], [3, 4], [5, 6]], "<f4"), np.array([[1, 0, 1, 2], [0, 1, -1, 2]], "<f4")
LORA = {"rank": 2, "scale": 20.0, "dropout": 0.0}


@pytest.fixture
def adapter(single_file: Callable[..., Path]) -> Callable[..., Path]:
    def write(
        tensors: Mapping[str, Any] = {}, parameters: dict[str, Any] | None = LORA, without: str = "", **config: Any
    ) -> Path:
        entries = {f"{Q}.lora_a": A, f"{Q}.lora_b": B, **tensors}
        entries = {key: values for key, values in entries.items() if values is not None}
        fields = {"fine_tune_type": "lora", "lora_parameters": parameters, "num_layers": 1, **config}
        path = single_file(
            entries,
            name="adapters.safetensors",
            config={key: value for key, value in fields.items() if value is not None and key != without},
        )
        return path.parent

    return write


def test_both_matrices_are_transposed_and_scale_is_the_scaling(adapter: Callable[..., Path]) -> None:
    [module] = load_adapter(adapter()).modules.values()
    assert (module.name, module.scaling) == (Q, 20)
    x = np.array([[1.0, 0.5, -1.0]])
    assert module.reference_delta(x).tolist() == (20 * (x @ A @ B)).tolist()


@pytest.mark.parametrize("without", ["fine_tune_type", "num_layers"])
def test_older_configurations(adapter: Callable[..., Path], without: str) -> None:
    assert load_adapter(adapter(without=without)).modules[Q].scaling == 20


@pytest.mark.parametrize(("alpha", "refused_for"), [(2, ""), (2.0, ""), (16.0, "alpha"), (0, "alpha")])
def test_an_alpha_beside_the_scale_must_not_matter(adapter: Callable[..., Path], alpha: Any, refused_for: str) -> None:
    directory = adapter(parameters={**LORA, "alpha": alpha})
    if refused_for:
        with pytest.raises(AdapterFormatError, match=refused_for):
            load_adapter(directory)
    else:
        assert load_adapter(directory).modules[Q].scaling == 20


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"fine_tune_type": "dora"}, "'dora'"),
        ({"fine_tune_type": "full"}, "'full'"),
        ({"parameters": None}, "lora_parameters"),
        ({"parameters": {"rank": 2}}, "scale"),
        ({"parameters": {"rank": 2, "scale": True}}, "scale"),
        ({"parameters": {"rank": 2, "scale": "20"}}, "scale"),
        ({"parameters": {"rank": 2.5, "scale": 20}}, "rank"),
        ({"parameters": {"rank": 3, "scale": 20}}, "rank 3"),
        ({"tensors": {f"{Q}.m": np.ones(4)}}, "DoRA"),
        ({"tensors": {"lm_head.weight": A}}, "lm_head.weight"),
        ({"tensors": {"model.embed_tokens.lora_a": A, "model.embed_tokens.lora_b": B}}, "embedding"),
        ({"tensors": {"transformer.wte.lora_a": A, "transformer.wte.lora_b": B}}, "embedding"),
        ({"tensors": {f"{Q}.lora_a": np.ones((5, 2, 3)), f"{Q}.lora_b": np.ones((5, 4, 2))}}, "5 stacked experts"),
        ({"tensors": {f"{Q}.lora_a": A.T}}, "ranks 3 and 2 differ"),
        ({"tensors": {f"{Q}.lora_b": None}}, "no lora_b"),
        ({"tensors": {f"{Q}.lora_a": None, f"{Q}.lora_b": None}}, "no LoRA matrix"),
    ],
)
def test_refusals(adapter: Callable[..., Path], change: dict[str, Any], word: str) -> None:
    with pytest.raises(AdapterFormatError, match=word):
        load_adapter(adapter(**change))


def test_a_configuration_of_mlx_vlm_is_taken_for_mlx(single_file: Callable[..., Path]) -> None:
    path = single_file({f"{Q}.A": A, f"{Q}.B": B}, name="adapters.safetensors", config={"rank": 2, "alpha": 0.1})
    with pytest.raises(AdapterFormatError, match="no lora_parameters"):
        load_adapter(path.parent)


def test_files_that_are_missing(adapter: Callable[..., Path], refused: Callable[..., Any]) -> None:
    directory = adapter()
    (directory / "adapter_config.json").rename(directory / "config.json")
    for path in (directory, directory / "adapters.safetensors"):
        with refused(AdapterFormatError, "MLX", "adapter_config.json"):
            load_adapter(path)
    (directory / "config.json").rename(directory / "adapter_config.json")
    (directory / "adapters.safetensors").unlink()
    with refused(AdapterFormatError, "MLX", "adapters.safetensors"):
        load_adapter(directory)
