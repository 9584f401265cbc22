"""What runs the layers: ``helora_serve.split.torch_layers``, or anything else that does the same."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from helora_serve.split.offer import SplitBase

Rows = NDArray[np.float32]
"""Hidden states: (tokens, hidden)."""


class Layers(Protocol):
    """A base model's layers and final norm, with the adapters of a server.

    Attributes:
        base: The base model.
        adapters: Names of the adapters.
        encrypted: Whether their Δ is computed encrypted, with both parties in this process.
        positions: Most positions of a context.
        bytes_per_position: Bytes of the cache for each.
    """

    base: SplitBase
    adapters: tuple[str, ...]
    encrypted: bool
    positions: int
    bytes_per_position: int

    def forward(self, rows: Rows, cache: Any, position: int, adapter: str | None) -> tuple[Rows, Any]:
        """Run the layers. One thread at a time.

        Args:
            rows: (tokens, hidden).
            cache: Keys and values of the context before, as this returned it; None for none.
            position: Where the first row belongs: what the cache has from there on is forgotten first, also if this
                fails.
            adapter: The adapter; None for the base model alone.

        Returns:
            Hidden states after the final norm, (tokens, hidden), and the cache.
        """
        ...

    def selftest(self, adapter: str | None) -> Any:
        """A ``SelfTest`` with that adapter. In the same thread."""
        ...

    def close(self) -> None:
        """Let go of the model."""
        ...
