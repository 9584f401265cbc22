from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from helora_core.adapter.lora import LoRAAdapter, ModuleShape
from helora_core.adapter.synthetic import LLM_LAYERS, LLM_SHAPES, synthetic_activations, synthetic_module
from helora_core.errors import AdapterFormatError, InvalidInput

SHAPE = ModuleShape.parse("1536:256:16")


class TestModule:
    def test_magnitudes_are_those_of_a_trained_adapter(self) -> None:
        module = synthetic_module(SHAPE, seed=1)
        bound = 1 / np.sqrt(1536)
        assert module.shape == SHAPE
        assert 0.99 * bound < np.abs(module.down).max() <= bound
        assert module.down.std() == pytest.approx(bound / np.sqrt(3), rel=0.02)
        assert 1e-3 < module.up.std() < 1e-2
        assert abs(module.up.mean()) < 1e-3

    def test_scaling_is_alpha_over_rank_and_two_by_default(self) -> None:
        assert synthetic_module(SHAPE, seed=0).scaling == 2.0
        assert synthetic_module(SHAPE, seed=0, alpha=8).scaling == 0.5

    def test_the_seed_and_the_name_decide(self) -> None:
        def digest(seed: int, name: str) -> str:
            return LoRAAdapter.from_modules([synthetic_module(SHAPE, seed=seed, name=name)], source="").digest

        assert digest(3, "q") == digest(3, "q")
        assert digest(3, "q") != digest(4, "q")
        down = [synthetic_module(SHAPE, seed=3, name=name).down for name in "qk"]
        assert not np.array_equal(*down)

    def test_bad_arguments_are_refused(self, refused: Callable[..., Any]) -> None:
        with refused(InvalidInput, "seed", "-1"):
            synthetic_module(SHAPE, seed=-1)
        with refused(AdapterFormatError, "'synthetic'", "scaling"):
            synthetic_module(SHAPE, seed=0, alpha=float("nan"))


class TestActivations:
    def test_most_channels_are_standard_normal_and_a_thousandth_are_outliers(self) -> None:
        x = synthetic_activations(ModuleShape.parse("4096:1:1"), 256, seed=0)
        assert x.shape == (256, 4096)
        assert x.dtype == np.float64
        spread = x.std(axis=0)
        outliers = spread > 5
        assert outliers.sum() == 4
        assert spread[outliers] == pytest.approx(20, rel=0.25)
        assert spread[~outliers].mean() == pytest.approx(1, rel=0.01)

    def test_narrow_inputs_have_an_outlier_too(self) -> None:
        assert (synthetic_activations(ModuleShape.parse("8:8:1"), 64, seed=0).std(axis=0) > 5).sum() == 1

    def test_the_seed_decides_and_the_reference_takes_them(self) -> None:
        x = synthetic_activations(SHAPE, 2, seed=5)
        assert np.array_equal(x, synthetic_activations(SHAPE, 2, seed=5))
        assert not np.array_equal(x, synthetic_activations(SHAPE, 2, seed=6))
        assert synthetic_module(SHAPE, seed=5).reference_delta(x).shape == (2, 256)

    @pytest.mark.parametrize(("tokens", "seed", "word"), [(0, 0, "0 tokens"), (-3, 0, "-3"), (1, -1, "seed")])
    def test_bad_arguments_are_refused(self, refused: Callable[..., Any], tokens: int, seed: int, word: str) -> None:
        with refused(InvalidInput, word):
            synthetic_activations(SHAPE, tokens, seed=seed)


class TestShapes:
    @pytest.mark.parametrize(
        ("model", "layers", "parameters"), [("qwen2.5-1.5b", 28, 1_310_195_712), ("llama-2-7b", 32, 6_476_005_376)]
    )
    def test_base_matrices_have_the_models_published_size(self, model: str, layers: int, parameters: int) -> None:
        """The projections are all of the model but its embeddings, norms and biases."""
        assert LLM_LAYERS[model] == layers
        assert layers * sum(shape.d_in * shape.d_out for _, shape in LLM_SHAPES[model]) == parameters

    @pytest.mark.parametrize("model", LLM_SHAPES)
    def test_names_are_patterns_that_select_takes(self, model: str) -> None:
        assert len(LLM_SHAPES[model]) == 7
        for pattern, _ in LLM_SHAPES[model]:
            tiny = synthetic_module(ModuleShape.parse("2:2:1"), seed=0, name=pattern.replace("*", "13"))
            assert LoRAAdapter.from_modules([tiny], source="").select(pattern) == (tiny,)
