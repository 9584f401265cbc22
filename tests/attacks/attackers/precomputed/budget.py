"""How much of the weights one query carries, and audits that an error passes."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from attackers.precomputed.model import DEGREE, EXACT, Q1, TRIM, Key, Server, T, centred, delta

from helora_core.backend.correlations import Switching

WEIGHT_BITS = 13
"""Of ``down``, with the sign."""

UP_BITS = 19
D_IN = 24


@dataclass(frozen=True)
class Mode:
    """How the bits of D·x come to be seen: the top bits of every output, and below them what ``up`` lifts there.

    Attributes:
        how: How results leave the server.
        fields: log2 of x where one query has a column, below 0 for fractions.
    """

    how: Switching
    fields: tuple[int, ...]

    @property
    def bits_per_query(self) -> int:
        """The bits of D·x that a query shows."""
        return self.how.top_bits + UP_BITS


TRIMMED = Mode(TRIM, (24, 37, 50))
FRACTIONS = Mode(EXACT, (-17, -4, 9, 22, 35, 48))
"""A ciphertext's message need not be a multiple of q₁, and an integer larger than 1 makes fractions visible."""


def down_read(mode: Mode, queries: int) -> float:
    """The share of a row of ``down`` that so many queries read, a column a field. The attacker knows ``up``."""
    bound = 1 << WEIGHT_BITS - 1
    down = np.random.default_rng(8).integers(-bound + 1, bound, (1, D_IN)).astype(object)
    up = np.array([[1], [1 << 10], [1 << UP_BITS]], dtype=object)
    server, key = Server([(down, up)], how=mode.how), Key()
    asked = [[(len(mode.fields) * token + i) % D_IN for i in range(len(mode.fields))] for token in range(DEGREE)]
    phases = np.zeros((D_IN, DEGREE), dtype=object)
    for token, columns in enumerate(asked):
        phases[columns, token] = [(Q1 << field) if field >= 0 else Q1 >> -field for field in mode.fields]
    c = key.decrypt(server.results(0, key.public(), key.encrypt_phases(phases)), mode.how)
    read = {}
    for token in range(queries):
        v = server.answer(0, token, np.zeros(D_IN, dtype=object))
        shown = delta(v, c[:, token], mode.how) if not mode.how.exact else centred(v + c[:, token])
        z = Fraction(int(shown[0]))
        for multiple, weight in zip(shown[1:], up[1:, 0], strict=True):
            # z modulo 2^64 / weight is known more closely
            z += Fraction(int(centred(int(multiple) - round(weight * z))), int(weight))
        rest = round(z / Fraction(2) ** mode.fields[0])
        for column in asked[token]:
            read[column] = int(centred(rest, 1 << WEIGHT_BITS))
            rest = (rest - read[column]) >> WEIGHT_BITS
    return sum(read.get(column) == down[0, column] for column in range(D_IN)) / D_IN


def queries_for(bits_per_query: int) -> int:
    """A budget of fewer queries than carry all bits of a row."""
    return math.ceil(D_IN * WEIGHT_BITS / bits_per_query) - 1


PRIME = (1 << 61) - 1


def audits_passed(modulus: int, tries: int = 400) -> float:
    """The share of audits, each of one random sum of all results, that do not notice half of t added to one of them."""
    rng = random.Random(2)
    passed = 0
    for _ in range(tries):
        right = [rng.randrange(-(1 << 62), 1 << 62) for _ in range(8)]
        claimed = [right[0] + T // 2, *right[1:]]
        factors = [rng.randrange(modulus) for _ in right]
        sums = (sum(f * value for f, value in zip(factors, values, strict=True)) for values in (right, claimed))
        passed += (next(sums) - next(sums)) % modulus == 0
    return passed / tries
