"""Whole models with text at both ends: ``helora_serve.hosted.torch_whole``, or anything else that does the same."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.float32]
"""Of all tokens, (vocabulary,)."""


class Variant(str, Enum):
    """What a base model is made to be."""

    BASE = "base"
    PLAINTEXT = "plaintext"
    ENCRYPTED = "encrypted"


class Pieces(Protocol):
    """Turns tokens into text one by one; the pieces add up to the text of all."""

    def add(self, token: int) -> str:
        """The text that is certain now, and was not before."""
        ...

    def rest(self) -> str:
        """What was held back."""
        ...


class Whole(Protocol):
    """A base model that can be each of the variants.

    Attributes:
        name: The base model's.
        adapters: Names of the adapters.
        positions: Most tokens of a prompt and its answer.
        ends: Tokens that end an answer.
    """

    name: str
    adapters: tuple[str, ...]
    positions: int
    ends: frozenset[int]

    def tokens(self, messages: Sequence[dict[str, str]]) -> list[int]:
        """The tokens of messages, up to where the answer begins.

        Raises:
            InvalidInput: The chat template refuses them.
        """
        ...

    def text(self, tokens: Sequence[int]) -> str:
        """Their text, without special tokens."""
        ...

    def pieces(self) -> Pieces:
        """What turns the tokens of one answer into text."""
        ...

    def next(self, tokens: Sequence[int], cache: Any, variant: Variant, adapter: str | None) -> tuple[Logits, Any]:
        """Logits of what comes after some more tokens, and the cache. One thread at a time.

        Args:
            tokens: What was not run yet.
            cache: As this returned it; None at first.
            variant, adapter: What the model is.
        """
        ...
