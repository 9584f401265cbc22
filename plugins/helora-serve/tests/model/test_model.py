"""The base model in WebAssembly, run by Node, beside the same forward pass in NumPy."""

from __future__ import annotations

import importlib.util
import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from helora_core.errors import InvalidInput
from helora_serve.base.convert import MANIFEST, blocks_of, convert

Floats = NDArray[np.float64]
HERE = Path(__file__).parent
PLUGIN = HERE.parents[1]
WEB = PLUGIN / "src" / "helora_serve" / "web" / "model"
CONFIG = {
    "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "intermediate_size": 96, "vocab_size": 50, "eos_token_id": 2,
    "max_position_embeddings": 128, "rms_norm_eps": 1e-5,
    "rope_parameters": {"rope_theta": 1e4, "rope_type": "default"},
    "tie_word_embeddings": False,
}  # fmt: skip
TOKENS = [3, 17, 42, 5, 5, 11, 49, 0, 23]
SITES = {
    "model.layers.0.self_attn.q_proj": (64, 64), "model.layers.0.self_attn.v_proj": (32, 64),
    "model.layers.1.self_attn.o_proj": (64, 64), "model.layers.1.mlp.up_proj": (96, 64),
    "model.layers.0.mlp.down_proj": (64, 96),
}  # fmt: skip


def weights(seed: int = 1) -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng(seed)

    def matrix(*shape: int) -> NDArray[np.float32]:
        return (rng.normal(size=shape) / np.sqrt(shape[-1])).astype(np.float32)

    found = {"model.embed_tokens.weight": matrix(50, 64) * 8, "lm_head.weight": matrix(50, 64)}
    found["model.norm.weight"] = 1 + matrix(64)
    for layer in range(2):
        at = f"model.layers.{layer}."
        found |= {f"{at}{name}.weight": 1 + matrix(64) for name in ("input_layernorm", "post_attention_layernorm")}
        for name, shape in (("q", (64, 64)), ("k", (32, 64)), ("v", (32, 64)), ("o", (64, 64))):
            found[f"{at}self_attn.{name}_proj.weight"] = matrix(*shape)
        for name, shape in (("gate", (96, 64)), ("up", (96, 64)), ("down", (64, 96))):
            found[f"{at}mlp.{name}_proj.weight"] = matrix(*shape)
    return found


def saved(folder: Path, **changes: Any) -> Path:
    folder.mkdir()
    save_file(weights(), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIG | changes))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "tokenizer_config.json").write_text("{}")
    return folder


def logits_of(
    tokens: Sequence[int], model: Mapping[str, NDArray[np.float32]], deltas: Mapping[str, Floats] | None = None
) -> Floats:
    """Llama's forward pass (Touvron and others, 2023, with grouped queries), of all tokens at once in float64."""
    at = {name: value.astype(np.float64) for name, value in model.items()}

    def project(name: str, x: Floats) -> Floats:
        delta = (deltas or {}).get(name)
        return x @ at[f"{name}.weight"].T + (0 if delta is None else x @ delta.T)

    def normed(name: str, x: Floats) -> Floats:
        return x / np.sqrt((x**2).mean(axis=1, keepdims=True) + 1e-5) * at[f"{name}.weight"]

    def rotated(x: Floats) -> Floats:
        angles = np.arange(len(x))[:, None] * 1e4 ** (-np.arange(8) / 8)
        cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
        a, b = x[..., :8], x[..., 8:]
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=2)

    x = at["model.embed_tokens.weight"][list(tokens)]
    for layer in range(2):
        own = f"model.layers.{layer}."
        h = normed(f"{own}input_layernorm", x)
        q, k, v = (project(f"{own}self_attn.{name}_proj", h).reshape(len(x), -1, 16) for name in "qkv")
        q, k, v = rotated(q), np.repeat(rotated(k), 2, axis=1), np.repeat(v, 2, axis=1)
        scores = np.einsum("qhd,khd->hqk", q, k) / 4 + np.triu(np.full((len(x), len(x)), -np.inf), 1)
        shares = np.exp(scores - scores.max(axis=2, keepdims=True))
        shares /= shares.sum(axis=2, keepdims=True)
        x = x + project(f"{own}self_attn.o_proj", np.einsum("hqk,khd->qhd", shares, v).reshape(len(x), -1))
        h = normed(f"{own}post_attention_layernorm", x)
        gate, up = project(f"{own}mlp.gate_proj", h), project(f"{own}mlp.up_proj", h)
        x = x + project(f"{own}mlp.down_proj", gate / (1 + np.exp(-gate)) * up)
    logits: Floats = (normed("model.norm", x) @ at["lm_head.weight"].T)[-1]
    return logits


def run(folder: Path, steps: list[dict[str, Any]], *, together: int = 64, positions: int = 64) -> list[dict[str, Any]]:
    asked = {"web": str(WEB), "folder": str(folder), "together": together, "positions": positions, "steps": steps}
    child = subprocess.run(
        ["node", str(HERE / "run.mjs")],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    results: list[dict[str, Any]] = json.loads(child.stdout)
    return results


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("base")
    convert(saved(base / "model"), base / "f32", weights="f32")
    convert(base / "model", base / "q8", weights="q8")
    return base


@pytest.fixture(scope="module")
def matrices() -> dict[str, Floats]:
    rng = np.random.default_rng(2)
    return {name: rng.normal(size=shape) / 8 for name, shape in SITES.items()}


def off(found: Sequence[float], expected: Floats) -> float:
    return float(np.abs(np.array(found) - expected).max() / np.abs(expected).max())


def test_logits_are_those_of_the_same_model_in_numpy(folder: Path, matrices: dict[str, Floats]) -> None:
    """With Δ at every kind of module, and without; in one pass, in chunks, and token by token."""
    lists = {name: matrix.tolist() for name, matrix in matrices.items()}
    plain, adapted = logits_of(TOKENS, weights()), logits_of(TOKENS, weights(), matrices)
    assert off(plain.tolist(), adapted) > 0.1  # Δ matters
    (base,) = run(folder / "f32", [{"tokens": TOKENS}])
    assert off(base["logits"], plain) < 1e-5
    (whole,) = run(folder / "f32", [{"tokens": TOKENS, "matrices": lists}])
    (chunks,) = run(folder / "f32", [{"tokens": TOKENS, "matrices": lists}], together=4)
    *_, last = run(folder / "f32", [{"tokens": [token], "matrices": lists} for token in TOKENS])
    for result in (whole, chunks, last):
        assert off(result["logits"], adapted) < 1e-5
        assert result["greatest"] == int(adapted.argmax())
    # Modules of one input are asked for together, with that input's width.
    assert whole["asked"] == [
        [["model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.v_proj"], 64],
        [["model.layers.0.mlp.down_proj"], 96],
        [["model.layers.1.self_attn.o_proj"], 64],
        [["model.layers.1.mlp.up_proj"], 64],
    ]


def test_blocks_of_bytes_are_the_model_with_rounded_weights(folder: Path) -> None:
    """What is left is the rounding of activations, to 1/254 of the largest in a block."""
    rounded = {}
    for name, matrix in weights().items():
        if matrix.ndim == 1:
            rounded[name] = matrix
            continue
        numbers, scales = blocks_of(matrix)
        assert np.abs(numbers * np.repeat(scales, 32, axis=1) - matrix).max() <= scales.max() / 2 * 1.0001
        rounded[name] = (numbers * np.repeat(scales, 32, axis=1)).astype(np.float32)
    (found,) = run(folder / "q8", [{"tokens": TOKENS}])
    assert off(found["logits"], logits_of(TOKENS, rounded)) < 0.02


def test_a_pass_that_fails_leaves_the_cache_as_it_was(folder: Path, matrices: dict[str, Floats]) -> None:
    lists = {name: matrix.tolist() for name, matrix in matrices.items()}
    steps = [
        {"tokens": TOKENS[:4], "matrices": lists},
        {"tokens": TOKENS[4:], "matrices": lists, "fails": True},
        {"tokens": TOKENS[4:], "matrices": lists},
        {"tokens": TOKENS[2:], "matrices": lists, "rewind": 2},
        {"tokens": [1] * 60},
        {"tokens": [50]},
    ]
    first, failed, second, again, full, unknown = run(folder / "f32", steps)
    assert failed == {"error": "Error: no Δ", "length": first["length"]}
    adapted = logits_of(TOKENS, weights(), matrices)
    assert off(second["logits"], adapted) < 1e-5
    assert off(again["logits"], adapted) < 1e-5
    assert full["error"].startswith("ContextFull: 9 tokens")
    assert unknown == {"error": "RangeError: no token has the number 50", "length": 9}


def test_pieces_are_named_by_their_digests_and_a_second_conversion_changes_nothing(
    folder: Path, tmp_path: Path
) -> None:
    again = convert(folder / "model", tmp_path / "again", weights="q8")
    assert {path.name for path in (tmp_path / "again").iterdir()} == {
        MANIFEST, again.tokenizer, again.tokenizer_config, *again.pieces
    }  # fmt: skip
    assert (tmp_path / "again" / MANIFEST).read_bytes() == (folder / "q8" / MANIFEST).read_bytes()
    convert(folder / "model", tmp_path / "again", weights="q8")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again"]


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"model_type": "gpt2"}, "of type gpt2"),
        ({"attention_bias": True}, "biases"),
        ({"hidden_act": "gelu"}, "activation is gelu"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "scaled"),
        ({"hidden_size": 66}, "multiple of 32"),
        ({"num_hidden_layers": 3}, r"model\.safetensors could not be read"),
    ],
)
def test_models_of_other_shapes_are_refused(tmp_path: Path, changes: dict[str, Any], what: str) -> None:
    with pytest.raises(InvalidInput, match=what):
        convert(saved(tmp_path / "model", **changes), tmp_path / "base")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


def test_the_kernels_are_what_their_source_compiles_to(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("build_model", PLUGIN / "build_model.py")
    assert spec is not None
    assert spec.loader is not None
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    pytest.importorskip("ziglang")
    build.compile_kernels(tmp_path / "kernels.wasm")
    assert (tmp_path / "kernels.wasm").read_bytes() == (WEB / "kernels.wasm").read_bytes()
