"""The online step: activations under a pad, integer matrices times words with a mask, and Δ; only bits that are read.

It is called once a module and token, so that what a call costs beside the kernel counts: one call of the library does
all of it, and addresses that stay are taken once.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Sequence

import numpy as np

from helora_core.backend.correlations import Cut, Floats, OnlineWeights
from helora_rns import choice
from helora_rns.arrays import address, empty, residues
from helora_rns.compiled import SETS, library
from helora_rns.correlations import packing
from helora_rns.correlations.kernels import Integers, Words, packed_bytes
from helora_rns.correlations.ring import WRAP_BITS

_GROUP = 8
"""Rows of weights that stand together."""


def _start(out: bytearray | Floats) -> int:
    """Where memory of one's own begins, in one piece and not empty: all that ``address`` looks at is known."""
    return ctypes.addressof(ctypes.c_char.from_buffer(out))  # type: ignore[arg-type]


class NumPyOnline:
    """``SupportsCorrelations.padded`` and ``revealed`` in NumPy."""

    def padded(self, x: Floats, factors: Floats, pads: Words) -> bytes:
        whole = np.rint(x * factors[:, np.newaxis]).astype(np.int64).view(np.uint64)
        return (whole - pads).astype("<u8").tobytes()

    def revealed(self, answers: bytes, results: bytes, cut: Cut, factors: Floats, outputs: int) -> Floats:
        tokens, size = len(factors), packed_bytes(outputs, cut.result_bits)
        rows = [packing.unpack(results[t * size : (t + 1) * size], outputs, cut.result_bits) for t in range(tokens)]
        v = packing.unpack(answers, tokens * outputs, cut.answer_bits).reshape(tokens, outputs)
        total = _whole(v, cut.answer_bits) + _whole(np.stack(rows), cut.result_bits)
        return total.view(np.int64).astype(np.float64) * factors[:, np.newaxis]


def _whole(top: Words, bits: int) -> Words:
    """Words of which the top bits are these, in the middle of what the others may be."""
    lost = WRAP_BITS - bits
    middle: Words = (top << np.uint64(lost)) + np.uint64(1 << lost >> 1)
    return middle


class CompiledOnline:
    """The same by the compiled kernels."""

    def __init__(self) -> None:
        loaded = library()
        if loaded is None:
            raise ValueError("there are no compiled kernels")
        self._padded, self._revealed = loaded.hr_words_padded, loaded.hr_words_revealed

    def padded(self, x: Floats, factors: Floats, pads: Words) -> bytes:
        tokens, inputs = x.shape
        out = bytearray(8 * tokens * inputs)
        self._padded(_start(out), address(x), address(factors), address(pads), tokens, inputs)
        return bytes(out)

    def revealed(self, answers: bytes, results: bytes, cut: Cut, factors: Floats, outputs: int) -> Floats:
        tokens = len(factors)
        out = np.empty((tokens, outputs))
        self._revealed(_start(out), answers, results, address(factors), tokens, outputs, *cut)
        return out


class NumPyOnlineWeights:
    """``helora_core.backend.correlations.OnlineWeights`` in NumPy."""

    def __init__(self, matrices: Sequence[Integers]) -> None:
        self._matrices = [matrix.astype(np.uint64).T.copy() for matrix in matrices]

    def answer(self, y: bytes, masks: Words, top_bits: int) -> bytes:
        found: Words = np.frombuffer(y, dtype="<u8").reshape(len(masks), -1)
        for matrix in self._matrices:
            found = found @ matrix
        return packing.pack((found + masks) >> np.uint64(WRAP_BITS - top_bits), top_bits)


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

    def answer(self, y: bytes, masks: Words, top_bits: int) -> bytes:
        tokens = len(masks)
        out = bytearray((tokens * self._rows * top_bits + 7) // 8)
        scratch = getattr(self._local, "address", None) or self._scratch()
        self._answer(self._matrices, _start(out), y, address(masks), tokens, top_bits, scratch)
        return bytes(out)


def online_weights(matrices: Sequence[Integers]) -> OnlineWeights:
    """Matrices that are applied one after the other, for the kernel set that runs."""
    name = choice.chosen()
    return CompiledOnlineWeights(name, matrices) if name in SETS else NumPyOnlineWeights(matrices)


def online() -> NumPyOnline | CompiledOnline:
    """The client's side of it, for the kernel set that runs."""
    return CompiledOnline() if choice.chosen() in SETS else NumPyOnline()
