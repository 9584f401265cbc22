"""Converts a model's folder, as transformers saves it, for browsers. It needs neither torch nor transformers."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np
from numpy.typing import NDArray

from helora_core.errors import InvalidInput
from helora_serve.base.manifest import PIECE_BYTES, Manifest, Part, Tensor, Weights
from helora_serve.split.offer import digest_of
from helora_serve.split.stored import Stored

MANIFEST, TOKENIZER, TOKENIZER_CONFIG = "manifest.json", "tokenizer.json", "tokenizer_config.json"
BLOCK = 32
_ALIGNED = 16

_PLAIN = ("llama", "mistral", "qwen2", "qwen3")
"""Types whose first layer reads the embedding's rows, and whose logits are the head's products, as they are."""


class _Config(msgspec.Struct):
    """What is read of ``config.json``."""

    model_type: str
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    vocab_size: int
    max_position_embeddings: int
    rms_norm_eps: float
    num_key_value_heads: int | None = None
    head_dim: int | None = None
    hidden_act: str = "silu"
    attention_bias: bool = False
    mlp_bias: bool = False
    tie_word_embeddings: bool = False
    rope_theta: float | None = None
    rope_scaling: dict[str, Any] | None = None
    rope_parameters: dict[str, Any] | None = None
    eos_token_id: int | list[int] | None = None


def convert(
    folder: Path,
    target: Path,
    *,
    weights: Weights = "q8",
    part: Part = "whole",
    on_share: Callable[[float], object] = lambda share: None,
) -> Manifest:
    """Write a base model as a manifest and pieces, each a file named by its SHA-256. What is there already stays.

    Args:
        folder: With ``config.json``, ``tokenizer.json``, ``tokenizer_config.json``, and weights as ``Stored`` reads.
        target: The folder to make; it appears when all of it is written.
        weights: ``q8`` for a quarter of the bytes, ``f32`` for the same numbers.
        part: ``ends`` for the embedding and the head alone.
        on_share: Called with the share that is written, for progress bars.

    Raises:
        InvalidInput: A file is missing or damaged, or the model is of another shape than Llama's.
    """
    config = _config(folder, part)
    target.parent.mkdir(parents=True, exist_ok=True)
    making = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        blob = making / "weights"
        with blob.open("wb") as out:
            tensors = tuple(_written(out, folder, config, weights, part, on_share))
            size = out.tell()
        manifest = _manifest(folder, config, weights, part, tensors, size, tuple(_cut(blob, making)))
        blob.unlink()
        for name, digest in ((TOKENIZER, manifest.tokenizer), (TOKENIZER_CONFIG, manifest.tokenizer_config)):
            shutil.copyfile(folder / name, making / digest)
        (making / MANIFEST).write_bytes(msgspec.json.encode(manifest))
        try:
            making.rename(target)
        except OSError:
            if not (target / MANIFEST).is_file():
                raise
        return manifest
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _config(folder: Path, part: Part) -> _Config:
    for name in ("config.json", TOKENIZER, TOKENIZER_CONFIG):
        if not (folder / name).is_file():
            raise InvalidInput(
                f"Base model {folder}: it has no {name}.",
                hint="Name a folder that transformers saved, with its tokenizer; helora model fetch makes one.",
            )
    try:
        config = msgspec.json.decode((folder / "config.json").read_bytes(), type=_Config)
    except msgspec.DecodeError as error:
        raise _unfit(folder, f"its config.json is not that of a model of Llama's shape ({error})") from error
    for what, so in _faults(config, part).items():
        if so:
            raise _unfit(folder, what)
    return config


def _faults(config: _Config, part: Part) -> dict[str, bool]:
    """What may be wrong with a model, and whether it is."""
    if part == "ends":
        return {
            f"it is of type {config.model_type}": config.model_type not in _PLAIN,
            "its width is no multiple of 32": bool(config.hidden_size % BLOCK),
        }
    rope = {**(config.rope_scaling or {}), **(config.rope_parameters or {})}
    head = config.head_dim or config.hidden_size // config.num_attention_heads
    return {
        f"it is of type {config.model_type}": config.model_type != "llama",
        "it has biases": config.attention_bias or config.mlp_bias,
        f"its activation is {config.hidden_act}": config.hidden_act != "silu",
        "its rotary embedding is scaled": rope.get("rope_type", rope.get("type", "default")) != "default",
        "a width is no multiple of 32": bool(
            config.hidden_size % BLOCK or config.intermediate_size % BLOCK or head % 8
        ),
    }


def _unfit(folder: Path, what: str) -> InvalidInput:
    return InvalidInput(
        f"Base model {folder}: {what}, and browsers run models of Llama's shape only.",
        hint="Use such a model, or helora proxy, which runs any that transformers does.",
    )


def _names(config: _Config, part: Part) -> Iterator[tuple[str, str]]:
    """Each tensor's name here, and in the file."""
    yield "embed", "model.embed_tokens.weight"
    for layer in range(config.num_hidden_layers if part == "whole" else 0):
        for name in (
            "input_layernorm", "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
            "post_attention_layernorm", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj",
        ):  # fmt: skip
            yield f"layers.{layer}.{name}", f"model.layers.{layer}.{name}.weight"
    if part == "whole":
        yield "norm", "model.norm.weight"
    if not config.tie_word_embeddings:
        yield "head", "lm_head.weight"


def _written(
    out: BinaryIO, folder: Path, config: _Config, weights: Weights, part: Part, on_share: Callable[[float], object]
) -> Iterator[Tensor]:
    names, file = list(_names(config, part)), Stored(folder)
    for number, (name, stored) in enumerate(names):
        matrix = np.atleast_2d(file.matrix(stored))
        if not np.isfinite(matrix).all():
            raise _unfit(folder, f"{stored} has values that are not finite")
        yield _tensor(out, name, matrix, in_blocks=weights == "q8" and len(matrix) > 1)
        on_share((number + 1) / len(names))


def _tensor(out: BinaryIO, name: str, matrix: NDArray[np.float32], *, in_blocks: bool) -> Tensor:
    rows, columns = matrix.shape
    if not in_blocks:
        return Tensor(name=name, rows=rows, columns=columns, at=_append(out, matrix))
    numbers, scales = blocks_of(matrix)
    at = _append(out, numbers)
    return Tensor(name=name, rows=rows, columns=columns, at=at, scales_at=_append(out, scales))


def blocks_of(matrix: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Blocks of 32 along the rows: integers of size 127 or less, and the scale of each block.

    Args:
        matrix: (rows, columns), columns a multiple of 32.

    Returns:
        int8, (rows, columns), and float32, (rows, columns / 32).
    """
    blocks = matrix.reshape(len(matrix), -1, BLOCK)
    scales = np.abs(blocks).max(axis=2) / np.float32(127)
    inverse = np.divide(1, scales, out=np.zeros_like(scales), where=scales > 0)
    numbers = np.clip(np.rint(blocks * inverse[..., np.newaxis]), -127, 127).astype(np.int8)
    return numbers.reshape(matrix.shape), scales


def _append(out: BinaryIO, array: NDArray[Any]) -> int:
    out.write(bytes(-out.tell() % _ALIGNED))
    at = out.tell()
    out.write(np.ascontiguousarray(array).data)
    return at


def _cut(blob: Path, folder: Path) -> Iterator[str]:
    """The digest of each piece, which becomes a file."""
    with blob.open("rb") as whole:
        while piece := whole.read(PIECE_BYTES):
            digest = hashlib.sha256(piece).hexdigest()
            (folder / digest).write_bytes(piece)
            yield digest


def _manifest(
    folder: Path,
    config: _Config,
    weights: Weights,
    part: Part,
    tensors: tuple[Tensor, ...],
    size: int,
    pieces: tuple[str, ...],
) -> Manifest:
    template = folder / "chat_template.jinja"
    ends = config.eos_token_id
    return Manifest(
        name=os.path.basename(os.path.abspath(folder)),
        source=digest_of(folder),
        part=part,
        weights=weights,
        hidden=config.hidden_size,
        layers=config.num_hidden_layers,
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads or config.num_attention_heads,
        head_dim=config.head_dim or config.hidden_size // config.num_attention_heads,
        intermediate=config.intermediate_size,
        vocabulary=config.vocab_size,
        norm_eps=config.rms_norm_eps,
        rope_theta=(config.rope_parameters or {}).get("rope_theta", config.rope_theta or 10000.0),
        positions=config.max_position_embeddings,
        tied=config.tie_word_embeddings,
        ends=() if ends is None else tuple(ends) if isinstance(ends, list) else (ends,),
        chat_template=template.read_text(encoding="utf-8") if template.is_file() else "",
        tokenizer=_digest(folder / TOKENIZER),
        tokenizer_config=_digest(folder / TOKENIZER_CONFIG),
        bytes=size,
        pieces=pieces,
        tensors=tensors,
    )


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
