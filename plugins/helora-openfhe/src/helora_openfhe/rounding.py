"""Corrects the mean error of OpenFHE's key switches.

The division by the special primes that ends a key switch rounds down, and subtracts one more for each special prime but
the first in half of the coefficients. Both polynomials of the result are off by k/2 in the mean, with k special primes:
by −k/2·(1 + s)·(1 + x + … + x^(N−1)), which is k·N/π·|1 + s| in slot 0 and falls off slowly next to it, up to a hundred
times the error of rounding to nearest. Adding k/2 to every coefficient, with a random bit if it is not whole,
leaves an error with mean zero, equally large in all slots: its variance is k/12, plus 1/4 for the bit.
"""

from __future__ import annotations

import secrets
from typing import Any

import numpy as np

from helora_core.backend.embedding import coefficients_to_slots

_KEPT = 32
"""Pairs of polynomials per level. One is drawn for each key switch: the more there are, the less two switches have
in common."""


class HalfUnits:
    """Ciphertexts whose two polynomials have k/2 in every coefficient, in the mean.

    Args:
        context: The OpenFHE context.
        ring_degree: N.
        halves: k, the number of special primes.
        unit: The library's scale.
        slot_generator: As in ``Capabilities``.
    """

    def __init__(self, context: Any, ring_degree: int, halves: int, unit: float, slot_generator: int) -> None:
        self._context = context
        self._ring_degree = ring_degree
        self._halves = halves
        self._unit = unit
        self._slot_generator = slot_generator
        self._kept: dict[tuple[int, int], list[Any]] = {}

    def added_to(self, switched: Any) -> Any:
        """The result of a key switch, without the mean error of its rounding."""
        kept = self._kept.setdefault((switched.GetLevel(), switched.GetNoiseScaleDeg()), [])
        if len(kept) < _KEPT:
            kept.append(self._drawn(switched))
            halves = kept[-1]
        else:
            halves = secrets.choice(kept)
        return self._context.EvalAdd(switched, halves)

    def _drawn(self, like: Any) -> Any:
        halves = like.Clone()
        halves.SetElements([self._polynomial(like), self._polynomial(like)])
        return halves

    def _polynomial(self, like: Any) -> Any:
        """A polynomial with k/2 in the mean, at the level of a ciphertext: the change by adding it as a plaintext."""
        n = self._ring_degree
        whole, odd = divmod(self._halves, 2)
        bits = np.unpackbits(np.frombuffer(secrets.token_bytes(n // 8), dtype=np.uint8))
        slots = coefficients_to_slots(np.float64(whole) + odd * bits, n, self._slot_generator) / self._unit
        plaintext = self._context.MakeCKKSPackedPlaintext(slots, like.GetNoiseScaleDeg(), like.GetLevel())
        return self._context.EvalSub(self._context.EvalAdd(like, plaintext), like).GetElements()[0]
