"""kohya's format: Δ = α/r · up · down by hand, and nothing that its relatives put into the same names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helora_core.adapter.load import load_adapter
from helora_core.errors import AdapterFormatError

NAME = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
X = np.array([[1.0, -2.0, 0.5]])
DOWN = np.array([[1, 2, 3], [4, 5, 6]], "<f2")
UP = np.array([[1, 0], [0, 1], [1, -1], [2, 2]], "<f2")
DELTA = np.array([[-1.5, -3.0, 1.5, -9.0]])
"""up · (down · x), by hand: down · x is (−1.5, −3)."""


ONE = np.array(1.0, "<f2")


def module(name: str = NAME, alpha: Any = ONE) -> dict[str, Any]:
    tensors = {f"{name}.lora_down.weight": DOWN, f"{name}.lora_up.weight": UP, f"{name}.alpha": alpha}
    return {key: values for key, values in tensors.items() if values is not None}


@pytest.mark.parametrize(
    ("alpha", "scaling"),
    [(np.array(1.0, "<f2"), 0.5), (np.array([3.0]), 1.5), (np.array(2, "<i8"), 1.0), (("BF16", (), b"\x80\x40"), 2.0)],
)
def test_alpha_is_divided_by_the_rank(single_file: Callable[..., Path], alpha: Any, scaling: float) -> None:
    adapter = load_adapter(single_file(module(alpha=alpha), {"ss_network_alpha": "9", "ss_network_dim": "2"}))
    [loaded] = adapter.modules.values()
    assert (loaded.name, loaded.scaling) == (NAME, scaling)
    assert loaded.reference_delta(X).tolist() == (scaling * DELTA).tolist()


def test_each_module_has_its_own(single_file: Callable[..., Path]) -> None:
    tensors = module("lora_te1_a", np.array(4.0)) | module("lycoris_b", np.array(8.0)) | module("diffusion_model.c.0.q")
    loaded = load_adapter(single_file(tensors)).modules
    assert {name: each.scaling for name, each in loaded.items()} == {
        "diffusion_model.c.0.q": 0.5,
        "lora_te1_a": 2.0,
        "lycoris_b": 4.0,
    }


def test_convolutions_of_one_position_are_linear_layers(single_file: Callable[..., Path]) -> None:
    tensors = module() | {
        f"{NAME}.lora_down.weight": DOWN[:, :, None, None],
        f"{NAME}.lora_up.weight": UP[:, :, None, None],
    }
    [loaded] = load_adapter(single_file(tensors)).modules.values()
    assert loaded.reference_delta(X).tolist() == (0.5 * DELTA).tolist()


def test_others_are_not(single_file: Callable[..., Path], refused: Callable[..., Any]) -> None:
    tensors = module() | {
        f"{NAME}.lora_down.weight": np.ones((2, 3, 3, 3)),
        f"{NAME}.lora_up.weight": UP[:, :, None, None],
    }
    with refused(AdapterFormatError, f"{NAME}.lora_down.weight", "convolution"):
        load_adapter(single_file(tensors))


class TestScaling:
    def test_a_file_that_does_not_say_it_is_refused(
        self, single_file: Callable[..., Path], refused: Callable[..., Any]
    ) -> None:
        with refused(AdapterFormatError, "does not state its scaling", hint='"r": 2'):
            load_adapter(single_file(module(alpha=None)))

    @pytest.mark.parametrize(("alpha", "scaling"), [(2, 1.0), (16, 8.0)])
    def test_unless_a_configuration_beside_it_does_as_the_hint_says(
        self, single_file: Callable[..., Path], alpha: float, scaling: float
    ) -> None:
        config = {"peft_type": "LORA", "r": 2, "lora_alpha": alpha}
        [loaded] = load_adapter(single_file(module(alpha=None), config=config)).modules.values()
        assert loaded.scaling == scaling

    def test_a_configuration_of_another_rank_or_another_adapter_is_not_taken(
        self, single_file: Callable[..., Path], refused: Callable[..., Any], peft_directory: Callable[..., Path]
    ) -> None:
        with refused(AdapterFormatError, "rank 2", "rank 4"):
            load_adapter(single_file(module(alpha=None), config={"peft_type": "LORA", "r": 4, "lora_alpha": 4}))
        peft_directory()
        with refused(AdapterFormatError, "does not state its scaling"):
            load_adapter(single_file(module(alpha=None)))

    def test_an_alpha_of_the_file_counts_and_no_configuration(self, single_file: Callable[..., Path]) -> None:
        config = {"peft_type": "LORA", "r": 2, "lora_alpha": 64}
        [loaded] = load_adapter(single_file(module(), config=config)).modules.values()
        assert loaded.scaling == 0.5

    @pytest.mark.parametrize("alpha", [np.array(0.0), np.array(np.nan), np.ones(2), ("BOOL", (), b"\1")])
    def test_an_alpha_that_means_nothing_certain(
        self, single_file: Callable[..., Path], refused: Callable[..., Any], alpha: Any
    ) -> None:
        with refused(AdapterFormatError, f"{NAME}.alpha"):
            load_adapter(single_file(module(alpha=alpha)))

    def test_a_module_without_one_among_others(
        self, single_file: Callable[..., Path], refused: Callable[..., Any]
    ) -> None:
        with refused(AdapterFormatError, "'lora_te_b' has no α"):
            load_adapter(single_file(module() | module("lora_te_b", None)))
        with refused(AdapterFormatError, "'lora_te_b.alpha'", "no matrices"):
            load_adapter(single_file(module() | {"lora_te_b.alpha": np.array(1.0)}))


@pytest.mark.parametrize(
    ("ending", "feature"),
    [
        ("hada_w1_a", "LoHa"),
        ("hada_t2", "LoHa"),
        ("lokr_w1", "LoKr"),
        ("lokr_w2_b", "LoKr"),
        ("oft_blocks", "OFT"),
        ("a1.weight", "GLoRA"),
        ("on_input", "IA³"),
        ("w_norm", "normalisation"),
        ("diff", "full difference"),
        ("diff_b", "full difference"),
        ("dora_scale", "DoRA"),
        ("lora_mid.weight", "Tucker"),
        ("lora_down.0.weight", "split layer"),
        ("lora_up.bias", "bias"),
        ("lora_E", "AdaLoRA"),
        ("scalar", "not part of a LoRA module"),
    ],
)
def test_other_algorithms_are_refused_by_name(
    single_file: Callable[..., Path], refused: Callable[..., Any], ending: str, feature: str
) -> None:
    for others in ({}, module()):
        with refused(AdapterFormatError, f"{NAME}.{ending}", feature):
            load_adapter(single_file({f"{NAME}.{ending}": np.ones((2, 2))} | others))
