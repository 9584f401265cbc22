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

from helora_core.backend.checked_correlations import CheckedCorrelations
from helora_core.backend.correlations import Cut, Switching, Words
from helora_core.compiler.exponents import LARGEST_EXPONENT, times_powers
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

    @cached_property
    def row_bytes(self) -> int:
        """Bytes of a token's results, packed."""
        return -(-self.outputs * self.how.top_bits // 8)

    def answer_bytes(self, tokens: int) -> int:
        """Bytes of an answer for so many tokens, packed."""
        return -(-tokens * self.outputs * self.answer_bits // 8)

    @cached_property
    def cut(self) -> Cut:
        """How many bits of answers and of results are kept."""
        return Cut(self.answer_bits, self.how.top_bits)

    def padded(self, library: CheckedCorrelations, x: Vector, exponents: NDArray[np.int64], pads: Words) -> bytes:
        """y = x″ − r modulo t: words, little-endian, ``inputs`` for each token.

        Args:
            library: The backend's correlations.
            x: Activations, shape (tokens, d_in).
            exponents: Of each token, ‖x‖₂ ≤ 2^exponent: shape (tokens,).
            pads: r, shape (tokens, inputs).
        """
        read = x if self.features is None else x[:, self.features]
        factors = _powers(exponents, -1, self.x_bits)
        if factors is None:
            read, factors = times_powers(read, self.x_bits - exponents), np.ones(len(x))
        return library.padded(read, factors, pads)

    def delta(
        self, library: CheckedCorrelations, answers: bytes, results: bytes, exponents: NDArray[np.int64], shift: int
    ) -> Vector:
        """Δ, float64, shape (tokens, d_out), of the top bits of v and c.

        Args:
            library: The backend's correlations.
            answers: What the server answered, packed.
            results: What was prepared, ``row_bytes`` for each token.
            exponents: Of each token, shape (tokens,).
            shift: The module's exponent.

        Raises:
            CorruptPayload: The answers are not so many numbers.
        """
        factors = _powers(exponents, 1, shift - self.grid_bits)
        if factors is not None:
            values = library.revealed(answers, results, self.cut, factors, self.outputs)
        else:
            values = library.revealed(answers, results, self.cut, np.ones(len(exponents)), self.outputs)
            values = times_powers(values, exponents + (shift - self.grid_bits))
        if self.columns is None:
            return values
        delta = np.zeros((len(values), self.d_out))
        delta[:, self.columns] = values
        return delta


def _powers(exponents: NDArray[np.int64], sign: int, shift: int) -> Vector | None:
    """2^(sign·exponent + shift) of each token, if all are normal doubles."""
    if len(exponents) == 1:
        exponent = sign * exponents.item() + shift
        return np.array([2.0**exponent]) if abs(exponent) < LARGEST_EXPONENT else None
    shifted = sign * exponents + shift
    return np.ldexp(1.0, shifted) if np.abs(shifted).max() < LARGEST_EXPONENT else None


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
