"""The base model in WebAssembly, run by Node, beside the same forward pass in NumPy."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from helora_core.errors import InvalidInput
from helora_serve.base.convert import MANIFEST, blocks_of, convert
from tests.loading import module_at

Floats = NDArray[np.float64]
HERE = Path(__file__).parent
PLUGIN = HERE.parents[1]
WEB = PLUGIN / "src" / "helora_serve" / "web" / "model"
TOKENS = [3, 17, 42, 5, 5, 11, 49, 0, 23]
SITES = {
    "model.layers.0.self_attn.q_proj": (64, 64), "model.layers.0.self_attn.v_proj": (32, 64),
    "model.layers.1.self_attn.o_proj": (64, 64), "model.layers.1.mlp.up_proj": (96, 64),
    "model.layers.0.mlp.down_proj": (64, 96),
}  # fmt: skip


tiny = module_at(HERE / "tiny.py")
logits_of, saved, weights = tiny.logits_of, tiny.saved, tiny.weights


def run(folder: Path, steps: list[dict[str, Any]], *, together: int = 64, positions: int = 64) -> list[dict[str, Any]]:
    asked = {"web": str(WEB), "folder": str(folder), "together": together, "positions": positions, "steps": steps}
    child = subprocess.run(
        ["node", str(HERE / "run.mjs")],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        timeout=300,
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
        {"tokens": [260]},
    ]
    first, failed, second, again, full, unknown = run(folder / "f32", steps)
    assert failed == {"error": "Error: no Δ", "length": first["length"]}
    adapted = logits_of(TOKENS, weights(), matrices)
    assert off(second["logits"], adapted) < 1e-5
    assert off(again["logits"], adapted) < 1e-5
    assert full["error"].startswith("ContextFull: 9 tokens")
    assert unknown == {"error": "RangeError: no token has the number 260", "length": 9}


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
    build = module_at(PLUGIN / "build_model.py")
    pytest.importorskip("ziglang")
    build.compile_kernels(tmp_path / "kernels.wasm")
    assert (tmp_path / "kernels.wasm").read_bytes() == (WEB / "kernels.wasm").read_bytes()


def test_libraries_of_others_are_as_they_were_published() -> None:
    vendor = WEB.parent / "vendor"
    text = (vendor / "README.md").read_text("utf-8")
    stated = re.findall(r"^\| `(\w+\.js)` .* ([0-9a-f]{64}) \|$", text, re.MULTILINE)
    assert {name: hashlib.sha256((vendor / name).read_bytes()).hexdigest() for name, _ in stated} == dict(stated)
    assert {path.name for path in vendor.glob("*.js")} == {name for name, _ in stated}
    assert all((vendor / f"{Path(name).stem}.LICENSE").is_file() for name, _ in stated)
