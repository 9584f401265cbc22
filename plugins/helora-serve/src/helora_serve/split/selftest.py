"""``GET /v1/split/selftest``: a fixed prompt by the split path and by the whole model; they have to agree."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from helora_serve.split.layers import Layers

PROMPT_TOKENS, NEW_TOKENS = 16, 4


class SelfTest(msgspec.Struct, frozen=True, kw_only=True):
    """How the two agree, with one adapter.

    Attributes:
        adapter: The adapter; None for the base model alone.
        encrypted: Whether the split path had its Δ encrypted; the whole model has it in plaintext.
        prompt_tokens, new_tokens: How many were run.
        max_logit_difference: The largest |Δlogit| of any token.
        tokens_equal: Whether both chose the same tokens, each time the most probable one.
        split_ms, whole_ms: What each took; the split path keeps a cache and runs each token once.
    """

    adapter: str | None
    encrypted: bool
    prompt_tokens: int
    new_tokens: int
    max_logit_difference: float
    tokens_equal: bool
    split_ms: float
    whole_ms: float


Logits = NDArray[np.float32]
Whole = Callable[[list[int]], Logits]
"""Logits of all tokens, (tokens, vocabulary), by the whole model."""


def selftest(
    layers: Layers, adapter: str | None, embedding: NDArray[np.float32], head: Callable[[Any], Logits], whole: Whole
) -> SelfTest:
    """Compare the two.

    Args:
        layers: The split path.
        adapter: The adapter.
        embedding: What a client has: (vocabulary, hidden).
        head: The same: logits of rows.
        whole: The other path.
    """
    vocabulary = len(embedding)
    tokens = [(1 + 7919 * number) % vocabulary for number in range(PROMPT_TOKENS)]
    start = time.perf_counter()
    rows, cache = layers.forward(embedding[tokens], None, 0, adapter)
    by_split = [head(rows)]
    chosen = [int(by_split[0][-1].argmax())]
    for position in range(PROMPT_TOKENS, PROMPT_TOKENS + NEW_TOKENS - 1):
        rows, cache = layers.forward(embedding[chosen[-1:]], cache, position, adapter)
        by_split.append(head(rows))
        chosen.append(int(by_split[-1][-1].argmax()))
    split_ms = (time.perf_counter() - start) * 1e3
    start = time.perf_counter()
    by_whole = whole([*tokens, *chosen[:-1]])
    whole_ms = (time.perf_counter() - start) * 1e3
    return SelfTest(
        adapter=adapter,
        encrypted=layers.encrypted and adapter is not None,
        prompt_tokens=PROMPT_TOKENS,
        new_tokens=NEW_TOKENS,
        max_logit_difference=float(abs(np.concatenate(by_split) - by_whole).max()),
        tokens_equal=by_whole[PROMPT_TOKENS - 1 :].argmax(axis=1).tolist() == chosen,
        split_ms=split_ms,
        whole_ms=whole_ms,
    )
