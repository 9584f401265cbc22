"""The client's arithmetic of online rounds: activations under a pad, and Δ out of what the server answers.

With t = 2^64 and W = U·D the integers of a module's weights, ahead of time the client draws r and gets c = W·r − s, of
the server's mask s. Online it sends y = x″ − r, the server answers v = W·y + s, and v + c = W·x″, all modulo t. Of c
and v only the top bits are kept, unless the plan is exact, so that what comes out is W·x″ up to the *trim*
(``helora_core.compiler.grid``): both are rounded down, which takes half a unit of each off on average, and the client
adds it.

y is uniform whatever x is, and v whatever W is; each r and s serves once. Numbers modulo t are uint64, whose arithmetic
is modulo t by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from helora_core.backend.correlations import WRAP_BITS, Switching, Words
from helora_core.compiler.exponents import times_powers
from helora_core.compiler.grid import Correlation
from helora_core.compiler.plan import Plan
from helora_core.errors import InvalidProgram
from helora_core.execution.streams import Stream, child
from helora_core.packing.protocol import Correlated, Vector


@dataclass(frozen=True, eq=False)
class OnlineRound:
    """A plan's online round, with what it takes worked out once.

    Attributes:
        grid_bits: Δ is a multiple of 2^-grid_bits before its exponent.
        x_bits: Activations with ‖x‖₂ ≤ 1 are multiples of 2^-x_bits.
        how: How results are cut.
        answer_bits: Bits of answers that are kept, from the top.
        features: The columns of x that the plan reads, int64; None for all.
        columns: The columns of Δ that it makes, int64; None for all.
        inputs, outputs: Their numbers.
        d_out: Columns of Δ.
    """

    grid_bits: int
    x_bits: int
    how: Switching
    answer_bits: int
    features: NDArray[np.int64] | None
    columns: NDArray[np.int64] | None
    inputs: int
    outputs: int
    d_out: int

    @property
    def row_bytes(self) -> int:
        """Bytes of a token's results, packed."""
        return -(-self.outputs * self.how.top_bits // 8)

    def answer_bytes(self, tokens: int) -> int:
        """Bytes of an answer for so many tokens, packed."""
        return -(-tokens * self.outputs * self.answer_bits // 8)

    def integers(self, x: Vector) -> Words:
        """x″ modulo t, of activations (tokens, d_in) with ‖x‖₂ ≤ 1 each."""
        read = x if self.features is None else x[:, self.features]
        return np.rint(read * 2.0**self.x_bits).astype(np.int64).view(np.uint64)

    def delta(self, v: Words, c: Words, exponents: NDArray[np.int64]) -> Vector:
        """Δ, float64, shape (tokens, d_out), of the top bits of v and c, shape (tokens, outputs).

        Args:
            v, c: What the server answered, and what was prepared.
            exponents: Those of each token and the module together, shape (tokens,).
        """
        total = v + c if self.how.exact else (v << self._dropped[0]) + (c << self._dropped[1]) + self._halves
        values = times_powers(total.view(np.int64).astype(np.float64), exponents - self.grid_bits)
        if self.columns is None:
            return values
        delta = np.zeros((len(values), self.d_out))
        delta[:, self.columns] = values
        return delta

    @cached_property
    def _dropped(self) -> tuple[np.uint64, np.uint64]:
        return np.uint64(WRAP_BITS - self.answer_bits), np.uint64(WRAP_BITS - self.how.top_bits)

    @cached_property
    def _halves(self) -> np.uint64:
        """Half a unit of each: what two divisions that round down take off on average."""
        of_answers, of_results = self._dropped
        halves: np.uint64 = np.uint64((1 << int(of_answers) >> 1) + (1 << int(of_results) >> 1))
        return halves


_KNOWN: WeakKeyDictionary[Plan, OnlineRound] = WeakKeyDictionary()


def online_of(plan: Plan) -> OnlineRound:
    """A plan's online round. Errors are those of ``correlation``."""
    known = _KNOWN.get(plan)
    if known is None:
        found, program, shape = correlation(plan), plan.program, plan.shape
        read = np.array(program.input_positions, dtype=np.int64)
        made = np.array([o for o, output in enumerate(program.outputs) if output is not None], dtype=np.int64)
        known = _KNOWN[plan] = OnlineRound(
            grid_bits=found.grid.bits,
            x_bits=found.grid.x_bits,
            how=found.how,
            answer_bits=found.answer_bits,
            features=None if read.size == shape.d_in else read,
            columns=None if made.size == shape.d_out else made,
            inputs=read.size,
            outputs=made.size,
            d_out=shape.d_out,
        )
    return known


def correlation(plan: Plan) -> Correlation:
    """What the plan's correlations are.

    Raises:
        InvalidProgram: It makes none, or its layout does not say by which matrices.
    """
    if plan.correlation is None or not isinstance(plan.layout, Correlated):
        raise InvalidProgram(
            f"Packing {plan.packing.name} does not say what is done online with what it makes ahead of time.",
            hint="Give its layout a method `factors`, as helora_core.packing.protocol.Correlated has.",
        )
    return plan.correlation


def pads(seed: bytes) -> Stream:
    """r of a batch: a row for each correlation, a word for each input."""
    return Stream(child(seed, "pad"))


def masks(secret: bytes, module: str, weights: bytes) -> Stream:
    """s of a module in a batch: a row for each correlation, a word for each output.

    Args:
        secret: The batch's secret at the server, which depends on the client's upload.
        module: The module's name.
        weights: SHA-256 of its integers.
    """
    return Stream(child(secret, "mask", module.encode(), weights))
