"""Commands take every container that is read, and say of others what they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helora_core.adapter.load import load_adapter

FIXTURES = Path(__file__).parents[1] / "adapter" / "fixtures" / "containers"


@pytest.mark.parametrize(
    ("container", "module"),
    [
        ("kohya/pytorch_lora_weights.safetensors", "*attn1_to_q"),
        ("diffusers/pytorch_lora_weights.safetensors", "attn1.to_q"),
        ("gguf_bf16/lora.gguf", "blk.0.attn_q"),
        ("mlx", "q_proj"),
    ],
)
def test_run_writes_delta(helora_json: Callable[..., Any], tmp_path: Path, container: str, module: str) -> None:
    [loaded] = load_adapter(FIXTURES / container).select(module)
    x = np.random.default_rng(0).normal(size=(3, loaded.shape.d_in)).astype(np.float16)
    np.save(tmp_path / "x.npy", x)
    document = helora_json(
        "run", "--adapter", FIXTURES / container, "--module", module, "--input", "x.npy", "--output", "delta.npy",
        "--backend", "numpy",
    )  # fmt: skip
    assert document["modules"][0]["module"] == loaded.name
    reference = loaded.reference_delta(x)
    np.testing.assert_allclose(np.load(tmp_path / "delta.npy"), reference, rtol=0, atol=np.abs(reference).max() / 2**12)


@pytest.mark.parametrize("command", [("plan",), ("compile", "--out", "artifact", "--tokens", "2")])
def test_plan_and_compile_take_files_too(helora_json: Callable[..., Any], command: tuple[str, ...]) -> None:
    helora_json(*command, "--adapter", FIXTURES / "gguf_f16" / "lora.gguf", "--module", "blk.0.attn_q")
