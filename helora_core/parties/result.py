"""The results of requests, and the link that carries their messages."""

from __future__ import annotations

from typing import Protocol

import msgspec
import numpy as np

from helora_core.packing.protocol import Vector
from helora_core.parties.request_report import Report


class Link(Protocol):
    """Carries a message to a server's session and brings its answer; a ``Session`` is one itself."""

    def answer(self, message: bytes) -> bytes:
        """The answer to a message."""
        ...


class Result(msgspec.Struct, frozen=True):
    """The results of requests.

    Attributes:
        deltas: Δ of every part, by its name: float64, shape (tokens, its d_out).
        error_bounds: For each module a bound on the error of each value of a token's Δ, except with probability 2^-40:
            float64, shape (tokens,).
        report: Their operations, times and bytes.
        wanted: The parts that were named.
    """

    deltas: dict[str, Vector]
    error_bounds: dict[str, Vector]
    report: Report
    wanted: tuple[str, ...]

    @property
    def delta(self) -> Vector:
        """Δ of the parts named: float64, shape (tokens, d_out); several parts side by side."""
        return np.concatenate([self.deltas[name] for name in self.wanted], axis=1)

    def followed_by(self, later: Result) -> Result:
        """The tokens of both, one after the other."""
        return Result(
            {name: np.concatenate([each, later.deltas[name]]) for name, each in self.deltas.items()},
            {name: np.concatenate([each, later.error_bounds[name]]) for name, each in self.error_bounds.items()},
            self.report.plus(later.report),
            self.wanted,
        )
