"""A tiny model of Llama's shape for browsers: random weights, bytes for tokens, and its forward pass in NumPy."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

Floats = NDArray[np.float64]
VOCABULARY = 260
END = 256
CONFIG = {
    "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "intermediate_size": 96, "vocab_size": VOCABULARY, "eos_token_id": END,
    "max_position_embeddings": 128, "rms_norm_eps": 1e-5,
    "rope_parameters": {"rope_theta": 1e4, "rope_type": "default"}, "tie_word_embeddings": False,
}  # fmt: skip
TEMPLATE = "{% for turn in messages %}{{ turn.role[0] }}:{{ turn.content }}<end>{% endfor %}a:"


def weights(seed: int = 1) -> dict[str, NDArray[np.float32]]:
    """Its weights, by the names that transformers gives them."""
    rng = np.random.default_rng(seed)

    def matrix(*shape: int) -> NDArray[np.float32]:
        return (rng.normal(size=shape) / np.sqrt(shape[-1])).astype(np.float32)

    found = {"model.embed_tokens.weight": matrix(VOCABULARY, 64) * 8, "lm_head.weight": matrix(VOCABULARY, 64)}
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
    """It, in a folder as transformers saves models."""
    folder.mkdir()
    save_file(weights(), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIG | changes))
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    (folder / "tokenizer.json").write_text(json.dumps(_tokenizer()))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    return folder


def _characters() -> list[str]:
    """The character for each byte in a tokenizer by bytes: itself if it is printed, else one from 256 on."""
    printed = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(byte) if byte in printed else chr(next(others)) for byte in range(256)]


def _tokenizer() -> dict[str, Any]:
    end = {"id": END, "content": "<end>", "special": True, "single_word": False, "lstrip": False, "rstrip": False}
    by_bytes = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    vocabulary = {character: byte for byte, character in enumerate(_characters())} | {"<end>": END}
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [end | {"normalized": False}],
        "normalizer": None, "pre_tokenizer": by_bytes, "post_processor": None, "decoder": by_bytes,
        "model": {"type": "BPE", "vocab": vocabulary, "merges": [], "unk_token": None, "byte_fallback": False,
                  "ignore_merges": False, "fuse_unk": False, "dropout": None,
                  "continuing_subword_prefix": None, "end_of_word_suffix": None},
    }  # fmt: skip


def prompt_of(text: str) -> list[int]:
    """The tokens of a first turn."""
    return [*f"u:{text}".encode(), END, *b"a:"]


def logits_of(
    tokens: Sequence[int], model: Mapping[str, NDArray[np.float32]], deltas: Mapping[str, Floats] | None = None
) -> Floats:
    """Logits of the last token.

    Args:
        tokens: One or more.
        model, deltas: As ``states_of`` takes them.
    """
    states = states_of(model["model.embed_tokens.weight"][list(tokens)], model, deltas)
    logits: Floats = (states @ model["lm_head.weight"].astype(np.float64).T)[-1]
    return logits


def states_of(
    rows: NDArray[Any], model: Mapping[str, NDArray[np.float32]], deltas: Mapping[str, Floats] | None = None
) -> Floats:
    """Llama's forward pass (Touvron and others, 2023, with grouped queries), of all tokens at once in float64.

    Args:
        rows: Rows of the embedding, (tokens, hidden).
        model: As ``weights`` gives it.
        deltas: What is added to the weights of modules, by their names.

    Returns:
        Hidden states after the final norm.
    """
    at = {name: value.astype(np.float64) for name, value in model.items()}

    def project(name: str, x: Floats) -> Floats:
        delta = (deltas or {}).get(name)
        product: Floats = x @ at[f"{name}.weight"].T + (0 if delta is None else x @ delta.T)
        return product

    def normed(name: str, x: Floats) -> Floats:
        scaled: Floats = x / np.sqrt((x**2).mean(axis=1, keepdims=True) + 1e-5) * at[f"{name}.weight"]
        return scaled

    def rotated(x: Floats) -> Floats:
        angles = np.arange(len(x))[:, None] * 1e4 ** (-np.arange(8) / 8)
        cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
        a, b = x[..., :8], x[..., 8:]
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=2)

    x = rows.astype(np.float64)
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
    return normed("model.norm", x)


def answer_of(text: str, most: int, deltas: Mapping[str, Floats] | None = None) -> list[int]:
    """Greedy tokens after a first turn."""
    tokens, made, model = prompt_of(text), list[int](), weights()
    while len(made) < most:
        best = int(logits_of(tokens + made, model, deltas).argmax())
        if best == END:
            break
        made.append(best)
    return made
