"""What a browser is told of a base model: its shape, and where each tensor lies in the run of bytes that it loads."""

from __future__ import annotations

from typing import Literal

import msgspec

FORMAT, SCHEMA = "helora-base", 2
PIECE_BYTES = 8 << 20
"""Bytes of a piece; the last may have fewer."""

Part = Literal["whole", "ends"]
Weights = Literal["f32", "q8"]


class Tensor(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One tensor: float32, or blocks of 32 signed bytes with a float32 scale each.

    Attributes:
        name: Its name, without ``model.`` and ``.weight``.
        rows, columns: Its shape; a vector has one row.
        at: Where its numbers begin.
        scales_at: Where the scales begin, (rows, columns / 32), if it is in blocks.
    """

    name: str
    rows: int
    columns: int
    at: int
    scales_at: int | None = None


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A base model.

    Attributes:
        format, schema: ``helora-base`` and its version.
        name: The folder's.
        source: Digest of the model that it was made of, as ``helora_serve.split.offer.digest_of`` computes it.
        part: ``whole``, or ``ends``: the embedding and the head alone, for clients whose server runs the layers.
        weights: ``f32``, as they are, or ``q8``: matrices in blocks of bytes.
        hidden, layers, heads, kv_heads, head_dim, intermediate, vocabulary, norm_eps, rope_theta: Its shape.
        positions: Most tokens of a context.
        tied: Whether the head is the embedding.
        ends: Tokens that end an answer.
        chat_template: In Jinja's language; empty if it has none.
        tokenizer, tokenizer_config: SHA-256 of these files.
        bytes, piece_bytes: Of all tensors, and of a piece.
        pieces: SHA-256 of each piece.
        tensors: Where everything is.
    """

    format: str = FORMAT
    schema: int = SCHEMA
    name: str
    source: str
    part: Part
    weights: Weights
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocabulary: int
    norm_eps: float
    rope_theta: float
    positions: int
    tied: bool
    ends: tuple[int, ...]
    chat_template: str
    tokenizer: str
    tokenizer_config: str
    bytes: int
    piece_bytes: int = PIECE_BYTES
    pieces: tuple[str, ...]
    tensors: tuple[Tensor, ...]
