"""diffusers' format beyond what its fixtures have: components, metadata, and files that do not say their scaling."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helora_core.adapter.load import load_adapter
from helora_core.errors import AdapterFormatError

Q = "transformer.blocks.0.attn.to_q"


def pair(module: str = Q, down: str = "lora_A", up: str = "lora_B", rank: int = 2) -> dict[str, Any]:
    return {f"{module}.{down}.weight": np.ones((rank, 3), "<f4"), f"{module}.{up}.weight": np.ones((4, rank), "<f4")}


def header(**fields: Any) -> dict[str, str]:
    named = {key.replace("__", "."): value for key, value in fields.items()}
    return {"lora_adapter_metadata": json.dumps(named), "format": "pt"}


def scalings(path: Path) -> dict[str, float]:
    return {name: module.scaling for name, module in load_adapter(path).modules.items()}


def test_each_component_has_its_configuration(single_file: Callable[..., Path]) -> None:
    text = "text_encoder.text_model.encoder.layers.0.self_attn"
    path = single_file(
        pair() | pair(f"{text}.q_proj", "lora_linear_layer.down", "lora_linear_layer.up") | pair(f"{text}.v_proj"),
        header(
            transformer__r=2,
            transformer__lora_alpha=6,
            transformer__use_rslora=True,
            text_encoder__r=2,
            text_encoder__lora_alpha=8,
            text_encoder__alpha_pattern={"v_proj": 2},
        ),
    )
    assert scalings(path) == {Q: 6 / 2**0.5, f"{text}.q_proj": 4, f"{text}.v_proj": 1}


def test_patterns_are_held_against_the_name_in_the_component(single_file: Callable[..., Path]) -> None:
    fields = {"transformer__r": 2, "transformer__lora_alpha": 2}
    for pattern, scaling in {"^blocks.0.attn.to_q": 8, f"^{Q}": 1}.items():
        path = single_file(pair(), header(**fields, transformer__alpha_pattern={pattern: 16}))
        assert scalings(path) == {Q: scaling}


def test_fields_without_a_component_are_the_whole_models(single_file: Callable[..., Path]) -> None:
    """As a model's own save_lora_adapter writes."""
    path = single_file(pair("blocks.0.to_q"), header(r=2, lora_alpha=8, alpha_pattern={"^blocks.0.to_q": 6}))
    assert scalings(path) == {"blocks.0.to_q": 3}


@pytest.mark.parametrize(
    ("module", "down", "up", "name"),
    [
        ("unet.a.attn1.to_k", "lora.down", "lora.up", "unet.a.attn1.to_k"),
        ("unet.a.attn1.processor.to_out_lora", "down", "up", "unet.a.attn1.to_out.0"),
        ("unet.a.attn1.processor.add_k_proj_lora", "down", "up", "unet.a.attn1.add_k_proj"),
        ("text_encoder.a.self_attn.to_out_lora", "down", "up", "text_encoder.a.self_attn.out_proj"),
        ("text_encoder_2.a.fc1", "lora_linear_layer.down", "lora_linear_layer.up", "text_encoder_2.a.fc1"),
        ("unet.base_model.model.a.to_q", "lora_A", "lora_B", "unet.a.to_q"),
        ("unet._orig_mod.a.to_q", "lora_A", "lora_B", "unet.a.to_q"),
        ("unet.a.to_q", "lora_A.default", "lora_B.default", "unet.a.to_q"),
    ],
)
def test_key_styles(single_file: Callable[..., Path], module: str, down: str, up: str, name: str) -> None:
    component = module.partition(".")[0]
    path = single_file(pair(module, down, up), header(**{f"{component}__r": 2, f"{component}__lora_alpha": 6}))
    assert scalings(path) == {name: 3}


class TestScaling:
    @pytest.mark.parametrize("style", [("lora_A", "lora_B"), ("lora.down", "lora.up")])
    def test_without_metadata_and_alpha_the_file_is_refused(
        self, single_file: Callable[..., Path], refused: Callable[..., Any], style: tuple[str, str]
    ) -> None:
        with refused(AdapterFormatError, "does not state its scaling", hint='"r": 2'):
            load_adapter(single_file(pair(Q, *style)))

    def test_the_hint_gives_what_it_says(self, single_file: Callable[..., Path]) -> None:
        config = {"peft_type": "LORA", "r": 2, "lora_alpha": 8}
        assert scalings(single_file(pair(), config=config)) == {Q: 4}
        assert scalings(single_file(pair(), config=config, name="pytorch_lora_weights.safetensors").parent) == {Q: 4}

    @pytest.mark.parametrize("ending", ["alpha", "lora.alpha", "lora_A.alpha"])
    def test_with_an_alpha_it_is_read(self, single_file: Callable[..., Path], ending: str) -> None:
        assert scalings(single_file(pair() | {f"{Q}.{ending}": np.array(8.0)})) == {Q: 4}

    def test_both_are_refused(self, single_file: Callable[..., Path], refused: Callable[..., Any]) -> None:
        path = single_file(pair() | {f"{Q}.alpha": np.array(8.0)}, header(transformer__r=2, transformer__lora_alpha=8))
        with refused(AdapterFormatError, f"{Q}.alpha", "lora_adapter_metadata"):
            load_adapter(path)

    @pytest.mark.parametrize("fields", [{"unet__r": 2, "unet__lora_alpha": 2}, {"transformer__r": 2}, {"a": 1}])
    def test_a_component_without_its_fields(
        self, single_file: Callable[..., Path], refused: Callable[..., Any], fields: dict[str, Any]
    ) -> None:
        with refused(AdapterFormatError, "lora_adapter_metadata", "no r and lora_alpha"):
            load_adapter(single_file(pair(), header(**fields)))

    @pytest.mark.parametrize("text", ["", "[]", "{", "null", '{"transformer.r": "2", "transformer.lora_alpha": 1}'])
    def test_metadata_that_is_none(
        self, single_file: Callable[..., Path], refused: Callable[..., Any], text: str
    ) -> None:
        with refused(AdapterFormatError, "lora.safetensors"):
            load_adapter(single_file(pair(), {"lora_adapter_metadata": text}))

    def test_a_rank_other_than_declared(self, single_file: Callable[..., Path], refused: Callable[..., Any]) -> None:
        with refused(AdapterFormatError, "rank 2", "rank 4"):
            load_adapter(single_file(pair(), header(transformer__r=4, transformer__lora_alpha=4)))

    def test_features_are_refused_as_in_pefts_configuration(
        self, single_file: Callable[..., Path], refused: Callable[..., Any]
    ) -> None:
        with refused(AdapterFormatError, "use_dora", "DoRA"):
            load_adapter(
                single_file(pair(), header(transformer__r=2, transformer__lora_alpha=4, transformer__use_dora=True))
            )

    def test_a_name_that_transformers_has_changed_must_not_matter(
        self, single_file: Callable[..., Path], refused: Callable[..., Any]
    ) -> None:
        module = "text_encoder.text_model.encoder.layers.0.self_attn.q_proj"
        fields = {"text_encoder__r": 2, "text_encoder__lora_alpha": 2}
        anchored = {"^encoder.layers.0.self_attn.q_proj": 8}
        with refused(AdapterFormatError, "as 'encoder.layers.0.self_attn.q_proj'"):
            load_adapter(single_file(pair(module), header(**fields, text_encoder__alpha_pattern=anchored)))


@pytest.mark.parametrize("ending", ["lora_magnitude_vector", "lora_B.bias", "dora_scale"])
def test_other_features_are_refused_by_name(
    single_file: Callable[..., Path], refused: Callable[..., Any], ending: str
) -> None:
    fields = header(transformer__r=2, transformer__lora_alpha=4)
    with refused(AdapterFormatError, f"{Q}.{ending}"):
        load_adapter(single_file(pair() | {f"{Q}.{ending}": np.ones(4)}, fields))
