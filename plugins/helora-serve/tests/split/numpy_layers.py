"""Layers in NumPy: the tiny model of the browser's tests, run anew for each request. It needs no torch."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from helora_serve.split.offer import SplitBase, digest_of
from helora_serve.split.selftest import SelfTest, selftest

ADAPTED = ("model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.v_proj")


class NumpyLayers:
    """``Layers``, with the adapters ``legal`` and ``medical``.

    Attributes:
        forwards: How many requests were run.
        received: The rows of all of them.
        hold: Requests wait until this is set.
    """

    adapters = ("legal", "medical")
    encrypted = False
    positions = 128
    bytes_per_position = 2 * 4 * 32 * 2

    def __init__(self, tiny: Any, folder: Path) -> None:
        self._tiny, self.model = tiny, tiny.weights()
        rng = np.random.default_rng(7)
        self.deltas: dict[str | None, Any] = {None: {}}
        for name in self.adapters:
            shapes = {each: self.model[f"{each}.weight"].shape for each in ADAPTED}
            self.deltas[name] = {each: rng.normal(size=shape) / 6 for each, shape in shapes.items()}
        self.base = SplitBase(name=folder.name, sha256=digest_of(folder), hidden=64, layers=2, vocabulary=260)
        self.forwards, self.received = 0, list[NDArray[np.float32]]()
        self.hold = threading.Event()
        self.hold.set()
        self.closed = False

    def forward(
        self, rows: NDArray[np.float32], cache: Any, position: int, adapter: str | None
    ) -> tuple[NDArray[np.float32], Any]:
        """As said."""
        assert self.hold.wait(120)
        self.forwards += 1
        self.received.append(rows)
        before = np.empty((0, 64), np.float32) if cache is None else cache[:position]
        x = np.concatenate([before, rows])
        return self._tiny.states_of(x, self.model, self.deltas[adapter])[position:].astype(np.float32), x

    def selftest(self, adapter: str | None) -> SelfTest:
        """As said."""
        embedding = self.model["model.embed_tokens.weight"]

        def head(rows: Any) -> NDArray[np.float32]:
            return np.asarray(rows @ self.model["lm_head.weight"].T, np.float32)

        def whole(tokens: list[int]) -> NDArray[np.float32]:
            return head(self._tiny.states_of(embedding[tokens], self.model, self.deltas[adapter]))

        return selftest(self, adapter, embedding, head, whole)

    def greedy(self, prompt: list[int], most: int, adapter: str | None) -> list[int]:
        """The most probable tokens, by the whole model."""
        made: list[int] = []
        for _ in range(most):
            made.append(int(self._tiny.logits_of(prompt + made, self.model, self.deltas[adapter]).argmax()))
        return made

    def close(self) -> None:
        """As said."""
        self.closed = True
