"""The online step: integer matrices times words, a mask, and the bits that are read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from helora_rns.correlations.kernels import Integers, Words
from helora_rns.correlations.ring import WRAP_BITS


class NumPyOnlineWeights:
    """``helora_core.backend.correlations.OnlineWeights`` in NumPy."""

    def __init__(self, matrices: Sequence[Integers]) -> None:
        self._matrices = [matrix.astype(np.uint64).T.copy() for matrix in matrices]

    def answer(self, y: Words, masks: Words, top_bits: int) -> Words:
        for matrix in self._matrices:
            y = y @ matrix
        answer: Words = (y + masks) >> np.uint64(WRAP_BITS - top_bits)
        return answer
