from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helora_core.adapter.lora import ModuleShape
from helora_core.adapter.peft import load_peft
from helora_core.errors import AdapterFormatError

FIXTURES = Path(__file__).parent / "fixtures"
A, B = "base_model.model.q_proj.lora_A.weight", "base_model.model.q_proj.lora_B.weight"
ONES = np.ones((1, 1), dtype="<f4")


class TestAgainstPEFT:
    """The fixtures were written, and the expected Δ computed, by PEFT itself: see fixtures/make_fixtures.py."""

    @pytest.mark.parametrize("directory", sorted((FIXTURES / "plain").iterdir()), ids=lambda path: path.name)
    def test_delta_is_what_pefts_layer_adds(self, directory: Path) -> None:
        adapter = load_peft(directory)
        with np.load(directory / "expected.npz") as expected:
            assert {name.rpartition(".")[0] for name in expected} == set(adapter.modules)
            for name, module in adapter.modules.items():
                delta = module.reference_delta(expected[f"{name}.x"])
                np.testing.assert_allclose(delta, expected[f"{name}.delta"], rtol=0, atol=1e-13)

    @pytest.mark.parametrize(
        ("name", "shape", "scaling"),
        [
            ("model.layers.0.self_attn.q_proj", "16:16:4", 16 / 4),
            ("model.layers.1.self_attn.q_proj", "16:16:6", 16 / 6),
            ("model.layers.0.self_attn.k_proj", "16:8:2", 7.5 / 2),
            ("model.layers.1.self_attn.k_proj", "16:8:4", 7.5 / 4),
            ("model.layers.1.mlp.down_proj", "24:16:4", 16 / 4),
            ("model.layers.2.mlp.down_proj", "24:16:4", 3 / 4),
        ],
    )
    def test_patterns_give_modules_their_own_rank_and_scaling(self, name: str, shape: str, scaling: float) -> None:
        module = load_peft(FIXTURES / "plain" / "llama_patterns_f32").modules[name]
        assert module.shape == ModuleShape.parse(shape)
        assert module.scaling == scaling

    @pytest.mark.parametrize(
        ("name", "scaling"),
        [("0.self_attn.v_proj", 8 / 3**0.5), ("0.self_attn.o_proj", 2 / 5**0.5), ("2.self_attn.o_proj", 8 / 5**0.5)],
    )
    def test_rank_stabilised_scaling(self, name: str, scaling: float) -> None:
        [module] = load_peft(FIXTURES / "plain" / "llama_rslora_bf16").select(name)
        assert module.scaling == scaling

    def test_fan_in_fan_out_leaves_the_matrices_as_they_are(self) -> None:
        [module] = load_peft(FIXTURES / "plain" / "gpt2_f16").select("c_attn")
        assert module.shape == ModuleShape.parse("8:24:2")

    @pytest.mark.parametrize(
        ("name", "feature"),
        [
            ("dora", "use_dora"),
            ("lora_bias", "lora_bias"),
            ("bias", "bias"),
            ("modules_to_save", "modules_to_save"),
            ("embedding", "embedding"),
            ("convolution", "convolution"),
            ("trainable_tokens", "trainable_token_indices"),
            ("target_parameters", "target_parameters"),
            ("kasa", "kasa_config"),
            ("block_diagonal", "use_bdlora"),
            ("pissa", "init_lora_weights"),
            ("olora", "init_lora_weights"),
        ],
    )
    def test_what_is_not_plain_lora_is_refused(self, refused: Callable[..., Any], name: str, feature: str) -> None:
        with refused(AdapterFormatError, name, feature):
            load_peft(FIXTURES / "refused" / name)

    @pytest.mark.parametrize("name", ["dora", "lora_bias", "bias", "modules_to_save", "trainable_tokens", "kasa"])
    def test_their_tensors_are_refused_even_if_the_configuration_is_silent(
        self, refused: Callable[..., Any], peft_directory: Callable[..., Path], name: str
    ) -> None:
        directory = peft_directory()
        shutil.copy(FIXTURES / "refused" / name / "adapter_model.safetensors", directory)
        with refused(AdapterFormatError, "adapter_model.safetensors", "base_model.model."):
            load_peft(directory)


class TestLoading:
    def test_matrices_scaling_name_and_source(self, peft_directory: Callable[..., Path]) -> None:
        directory = peft_directory()
        adapter = load_peft(str(directory))
        [module] = adapter.modules.values()
        assert (module.name, module.scaling, adapter.source) == ("q_proj", 2.0, str(directory))
        assert module.down.tolist() == [[0, 1, 2], [3, 4, 5]]
        assert module.up.tolist() == [[-4, -3], [-2, -1], [0, 1], [2, 3]]

    @pytest.mark.parametrize(
        ("key", "name"),
        [
            ("base_model.model.model.layers.0.q_proj.lora_{}.weight", "model.layers.0.q_proj"),
            ("model.layers.0.q_proj.lora_{}.weight", "model.layers.0.q_proj"),
            ("base_model.model.h.0.q_proj.lora_{}.default.weight", "h.0.q_proj"),
            ("base_model.model.base_model.model.q_proj.lora_{}.weight", "base_model.model.q_proj"),
            ("q_proj.lora_{}.weight", "q_proj"),
        ],
    )
    def test_keys_with_and_without_prefix_and_adapter_name(
        self, peft_directory: Callable[..., Path], key: str, name: str
    ) -> None:
        tensors = {A: None, B: None, key.format("A"): np.ones((2, 3)), key.format("B"): np.ones((4, 2))}
        assert list(load_peft(peft_directory(tensors=tensors)).modules) == [name]

    def test_modules_are_in_natural_order(self, peft_directory: Callable[..., Path]) -> None:
        tensors: dict[str, Any] = {A: None, B: None}
        for layer in (10, 9, 0, 100):
            tensors[f"h.{layer}.q.lora_A.weight"] = np.ones((2, 3))
            tensors[f"h.{layer}.q.lora_B.weight"] = np.ones((4, 2))
        modules = load_peft(peft_directory(tensors=tensors)).modules
        assert list(modules) == ["h.0.q", "h.9.q", "h.10.q", "h.100.q"]

    def test_a_pickle_beside_the_safetensors_is_not_touched(self, peft_directory: Callable[..., Path]) -> None:
        directory = peft_directory()
        (directory / "adapter_model.bin").write_bytes(b"not even a pickle")
        assert list(load_peft(directory).modules) == ["q_proj"]


class TestRefusals:
    def test_a_file_in_place_of_the_directory(
        self, peft_directory: Callable[..., Path], refused: Callable[..., Any]
    ) -> None:
        path = peft_directory() / "adapter_model.safetensors"
        with refused(AdapterFormatError, str(path), "not a directory", hint="adapter_config.json"):
            load_peft(path)

    @pytest.mark.parametrize("missing", ["adapter_config.json", "adapter_model.safetensors"])
    def test_a_missing_file(
        self, peft_directory: Callable[..., Path], refused: Callable[..., Any], missing: str
    ) -> None:
        directory = peft_directory()
        (directory / missing).unlink()
        with refused(AdapterFormatError, str(directory), missing):
            load_peft(directory)

    @pytest.mark.parametrize(("present", "lacking"), [(A, "lora_B"), (B, "lora_A")])
    def test_half_a_pair(
        self, peft_directory: Callable[..., Path], refused: Callable[..., Any], present: str, lacking: str
    ) -> None:
        directory = peft_directory(tensors={A if present == B else B: None})
        with refused(AdapterFormatError, "adapter_model.safetensors", present, lacking):
            load_peft(directory)

    @pytest.mark.parametrize(
        ("key", "feature"),
        [
            ("base_model.model.q_proj.lora_magnitude_vector", "DoRA"),
            ("base_model.model.q_proj.lora_magnitude_vector.default.weight", "DoRA"),
            ("base_model.model.q_proj.lora_B.bias", "lora_bias"),
            ("base_model.model.q_proj.lora_B.default.bias", "lora_bias"),
            ("base_model.model.embed.lora_embedding_A", "embedding"),
            ("base_model.model.embed.lora_embedding_B.default", "embedding"),
            ("base_model.model.q_proj.lora_diag", "KaSA"),
            ("base_model.model.embed.token_adapter.trainable_tokens_delta", "trainable_token_indices"),
            ("base_model.model.score.modules_to_save.default.weight", "modules_to_save"),
            ("base_model.model.q_proj.base_layer.bias", "bias"),
            ("base_model.model.lm_head.weight", "not part of a LoRA module"),
            ("base_model.model.q_proj.lora_E", "AdaLoRA"),
            ("base_model.model.q_proj.lora_C.weight", "not part of a LoRA module"),
            ("lora_A.weight", "not part of a LoRA module"),
        ],
    )
    def test_a_tensor_that_delta_does_not_account_for(
        self, peft_directory: Callable[..., Path], refused: Callable[..., Any], key: str, feature: str
    ) -> None:
        with refused(AdapterFormatError, "adapter_model.safetensors", repr(key), feature):
            load_peft(peft_directory(tensors={key: ONES}))

    def test_no_tensor_at_all(self, peft_directory: Callable[..., Path], refused: Callable[..., Any]) -> None:
        with refused(AdapterFormatError, "adapter_model.safetensors", "no LoRA matrix"):
            load_peft(peft_directory(tensors={A: None, B: None}))

    def test_one_module_twice(self, peft_directory: Callable[..., Path], refused: Callable[..., Any]) -> None:
        with refused(AdapterFormatError, "adapter_model.safetensors", repr(A), "'q_proj.lora_A.weight'", "same matrix"):
            load_peft(peft_directory(tensors={"q_proj.lora_A.weight": ONES}))

    def test_several_adapters_in_one_file(
        self, peft_directory: Callable[..., Path], refused: Callable[..., Any]
    ) -> None:
        tensors = {f"q_proj.lora_{side}.french.weight": ONES for side in "AB"}
        with refused(AdapterFormatError, "several adapters", "'french'", hint="selected_adapters"):
            load_peft(peft_directory(tensors=tensors))

    @pytest.mark.parametrize("key", [A, B])
    @pytest.mark.parametrize("dims", [(2, 3, 1), (2, 3, 1, 1), (2, 3, 1, 1, 1), (1,) * 6])
    def test_convolutions(
        self, peft_directory: Callable[..., Path], refused: Callable[..., Any], key: str, dims: tuple[int, ...]
    ) -> None:
        with refused(
            AdapterFormatError, "adapter_model.safetensors", repr(key), f"{len(dims)} dimensions", "convolution"
        ):
            load_peft(peft_directory(tensors={key: np.ones(dims)}))

    @pytest.mark.parametrize(
        ("dims", "what"),
        [((), "not a matrix"), ((6,), "not a matrix"), ((0,), "empty"), ((0, 3), "empty"), ((2, 0), "empty")],
    )
    def test_tensors_that_are_no_matrices_may_be_shards(
        self, peft_directory: Callable[..., Path], refused: Callable[..., Any], dims: tuple[int, ...], what: str
    ) -> None:
        with refused(AdapterFormatError, "adapter_model.safetensors", repr(A), what, hint="ZeRO-3"):
            load_peft(peft_directory(tensors={A: np.ones(dims)}))

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize(("key", "which", "dims"), [(A, "down", (2, 3)), (B, "up", (4, 2))])
    def test_values_that_are_not_finite(
        self,
        peft_directory: Callable[..., Path],
        refused: Callable[..., Any],
        value: float,
        key: str,
        which: str,
        dims: tuple[int, int],
    ) -> None:
        with refused(AdapterFormatError, "adapter_model.safetensors", "'q_proj'", which, "NaN or infinity"):
            load_peft(peft_directory(tensors={key: np.full(dims, value, dtype="<f4")}))

    @pytest.mark.parametrize("bits", [0x7F80, 0x7F81, 0x7FC0, 0xFF80])
    def test_values_that_are_not_finite_in_bfloat16(
        self, peft_directory: Callable[..., Path], refused: Callable[..., Any], bits: int
    ) -> None:
        data = np.full(6, bits, dtype="<u2").tobytes()
        with refused(AdapterFormatError, "adapter_model.safetensors", "'q_proj'", "NaN or infinity"):
            load_peft(peft_directory(tensors={A: ("BF16", (2, 3), data)}))

    @pytest.mark.parametrize(("dtype", "width"), [("I64", 8), ("U8", 1), ("BOOL", 1), ("F8_E4M3", 1)])
    def test_tensors_that_are_no_floats(
        self, peft_directory: Callable[..., Path], refused: Callable[..., Any], dtype: str, width: int
    ) -> None:
        with refused(AdapterFormatError, "adapter_model.safetensors", repr(A), dtype, hint="bfloat16"):
            load_peft(peft_directory(tensors={A: (dtype, (2, 3), bytes(6 * width))}))

    @pytest.mark.parametrize("config", [{"r": 3}, {"rank_pattern": {"q_proj": 4}}])
    def test_a_rank_other_than_the_configuration_says(
        self, peft_directory: Callable[..., Path], refused: Callable[..., Any], config: dict[str, Any]
    ) -> None:
        with refused(
            AdapterFormatError, "adapter_model.safetensors", "'q_proj'", "rank 2", "declares rank", hint="rank_pattern"
        ):
            load_peft(peft_directory(config=config))

    @pytest.mark.parametrize("down", [(3, 2), (2, 3)])
    def test_transposed_matrices(
        self, peft_directory: Callable[..., Path], refused: Callable[..., Any], down: tuple[int, int]
    ) -> None:
        tensors = {A: np.ones(down), B: np.ones((2, 4))}
        with refused(AdapterFormatError, "adapter_model.safetensors", "'q_proj'", hint="transposed"):
            load_peft(peft_directory(tensors=tensors))
