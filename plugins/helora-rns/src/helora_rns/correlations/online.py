"""The online step: integer matrices times words, a mask, and the bits that are read.

It is called once a module and token, so that what a call costs beside the kernel counts: addresses that stay are taken
once.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np

from helora_core.backend.correlations import OnlineWeights
from helora_rns import choice
from helora_rns.arrays import address, empty, residues
from helora_rns.compiled import SETS, library
from helora_rns.correlations.kernels import Integers, Words
from helora_rns.correlations.ring import WRAP_BITS

_GROUP = 8
"""Rows of weights that stand together."""


class NumPyOnlineWeights:
    """``helora_core.backend.correlations.OnlineWeights`` in NumPy."""

    def __init__(self, matrices: Sequence[Integers]) -> None:
        self._matrices = [matrix.astype(np.uint64).T.copy() for matrix in matrices]

    def answer(self, y: Words, masks: Words, top_bits: int) -> Words:
        for matrix in self._matrices:
            y = y @ matrix
        answer: Words = (y + masks) >> np.uint64(WRAP_BITS - top_bits)
        return answer


class CompiledOnlineWeights:
    """The same by a compiled kernel set. Thread-safe."""

    def __init__(self, name: str, matrices: Sequence[Integers]) -> None:
        loaded = library()
        if loaded is None:
            raise ValueError("there are no compiled kernels")
        self._rows, self._packed = len(matrices[-1]), []
        terms, table = matrices[0].shape[1], np.zeros((len(matrices), 3), dtype=np.uint64)
        for row, matrix in zip(table, matrices, strict=True):
            groups = -(-len(matrix) // _GROUP)
            weights = np.zeros((len(matrix), terms), dtype=np.int64)
            weights[:, : matrix.shape[1]] = matrix
            packed = empty((groups * terms * _GROUP + 1,), np.int32)
            packed[-1] = 0
            loaded.hr_words_pack_weights(address(packed), address(weights), len(matrix), terms)
            self._packed.append(packed)
            row[:] = address(packed), groups, terms
            terms = groups * _GROUP  # as many as come out, with zeros behind
        whole = np.array([address(table), len(matrices), self._rows, SETS.index(name)], dtype=np.uint64)
        self._tables, self._matrices = (table, whole), address(whole)
        self._words = loaded.hr_words_answer_words(self._matrices)
        self._local = threading.local()
        self._answer = loaded.hr_words_answer

    def _scratch(self) -> int:
        """Words of this thread's own."""
        self._local.words = residues((self._words,))
        self._local.address = address(self._local.words)
        return int(self._local.address)

    def answer(self, y: Words, masks: Words, top_bits: int) -> Words:
        tokens = len(y)
        out = np.empty((tokens, self._rows), dtype=np.uint64)
        y, masks = _in_one_piece(y), _in_one_piece(masks)
        scratch = getattr(self._local, "address", None) or self._scratch()
        self._answer(self._matrices, address(out), address(y), address(masks), tokens, top_bits, scratch)
        return out


def _in_one_piece(words: Words) -> Words:
    return words if words.flags.c_contiguous else np.ascontiguousarray(words)


def online_weights(matrices: Sequence[Integers]) -> OnlineWeights:
    """Matrices that are applied one after the other, for the kernel set that runs."""
    name = choice.chosen()
    return CompiledOnlineWeights(name, matrices) if name in SETS else NumPyOnlineWeights(matrices)
