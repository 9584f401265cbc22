"""Which rows of a batch are padding, and need not be encrypted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray


class Kept(NamedTuple):
    """Rows that are not padding.

    Attributes:
        rows: Their numbers, increasing.
        of: The number of all rows: batch · tokens.
    """

    rows: NDArray[np.intp]
    of: int


def kept_rows(arguments: Mapping[str, Any]) -> Kept | None:
    """Rows that the attention mask keeps; None if it keeps all, or does not tell.

    A padded position takes part in no other position's result, so its Δ may be anything.

    Args:
        arguments: The named arguments of the model's forward pass.
    """
    mask, tokens = arguments.get("attention_mask"), _tokens(arguments)
    if not isinstance(mask, torch.Tensor) or mask.ndim != 2 or tokens is None:
        return None  # masks of other forms are by position and head: all rows are run then
    before = _cached(arguments)
    if before is None or mask.shape[1] != before + tokens:
        return None  # a mask for a cache of fixed length: its last columns are not the current tokens
    rows, of = np.flatnonzero(mask[:, -tokens:].reshape(-1).to(device="cpu").numpy()), mask.shape[0] * tokens
    return None if len(rows) in (0, of) else Kept(rows, of)


def _tokens(arguments: Mapping[str, Any]) -> int | None:
    for name in ("input_ids", "inputs_embeds"):
        given = arguments.get(name)
        if isinstance(given, torch.Tensor) and given.ndim >= 2:
            return int(given.shape[1])
    return None


def _cached(arguments: Mapping[str, Any]) -> int | None:
    """How many tokens the cache holds; ``cache`` is what newer releases of transformers call ``past_key_values``."""
    for name in ("past_key_values", "cache"):
        cache = arguments.get(name)
        if cache is not None:
            return int(cache.get_seq_length()) if hasattr(cache, "get_seq_length") else None
    return 0
