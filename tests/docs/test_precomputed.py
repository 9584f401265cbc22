"""The page on plans that run ahead of time: its example runs as it is written."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from helora_core.adapter.lora import LoRAAdapter, ModuleShape
from helora_core.adapter.synthetic import synthetic_activations, synthetic_module

PAGE = Path(__file__).parents[2] / "docs" / "precomputed.md"


def test_the_example_gives_delta(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HELORA_BACKEND", "numpy")
    shapes = {"layers.0.self_attn.q_proj": "24:20:3", "layers.0.self_attn.v_proj": "24:12:3"}
    modules = [
        synthetic_module(ModuleShape.parse(shape), seed=seed, name=name)
        for seed, (name, shape) in enumerate(shapes.items())
    ]
    x = synthetic_activations(modules[0].shape, 5, seed=1)
    example = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)[0]
    names = {"adapter": LoRAAdapter({module.name: module for module in modules}, "the test"), "x": x}
    exec(example, names)
    expected = np.concatenate([module.reference_delta(x) for module in modules], axis=1)
    assert np.max(np.abs(names["delta"] - expected)) < 2.0**-11 * np.max(np.abs(expected))  # type: ignore[operator]
