"""Arrays as the kernels take them: contiguous, and aligned to a cache line.

Large ones are kept when they are let go, up to a bound, and given out again: what the C library returns to the system
has to be mapped and cleared anew, page by page, which takes as long as the kernels that fill it.
"""

from __future__ import annotations

import ctypes
import itertools
import math
import weakref
from collections import defaultdict
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import DTypeLike, NDArray

ALIGNMENT = 64

KEPT_FROM = 1 << 16
"""Bytes from which arrays are kept."""

MOST_KEPT = 32 << 20
"""Bytes that are kept at most, of arrays of each size."""

_PAGE, _COLOUR = 4096, 5 * ALIGNMENT
_colours = itertools.count()
_first = ctypes.c_char.from_buffer

Array = TypeVar("Array", bound=NDArray[Any])
Block = NDArray[np.uint8]


class _Lease(weakref.ref[Block]):
    """Notices when the last view of a block is gone."""

    __slots__ = ("block",)
    block: Block


class _Kept:
    """Blocks that nobody uses, by size. Appending to lists and popping from them is atomic, so threads may share it."""

    def __init__(self) -> None:
        self.blocks: defaultdict[int, list[Block]] = defaultdict(list)
        self._leases: dict[int, _Lease] = {}

    def given(self, size: int) -> Block:
        """``size`` aligned bytes."""
        try:
            block = self.blocks[size].pop()
        except IndexError:
            block = _aligned(size)
        view = np.frombuffer(block.data, dtype=np.uint8)
        # Views of this view refer to it, since what it refers to is no array.
        lease = _Lease(view, self._returned)
        lease.block = block
        self._leases[id(lease)] = lease
        return view

    def _returned(self, lease: _Lease, most: int = MOST_KEPT) -> None:
        # ``most`` is bound here, since globals are gone when the interpreter ends.
        del self._leases[id(lease)]
        blocks = self.blocks[lease.block.size]
        if (len(blocks) + 1) * lease.block.size <= most:
            blocks.append(lease.block)


_kept = _Kept()


def _aligned(size: int) -> Block:
    """New memory, at changing places within a page: rows that are read together shall not share a cache's few lines."""
    raw = np.empty(size + _PAGE, dtype=np.uint8)
    start = (next(_colours) * _COLOUR - address(raw)) % _PAGE
    return raw[start : start + size]


def empty(shape: tuple[int, ...], dtype: DTypeLike = np.uint64) -> NDArray[Any]:
    """An array whose values are not set."""
    kind = np.dtype(dtype)
    size = math.prod(shape) * kind.itemsize
    block = _aligned(size) if size < KEPT_FROM else _kept.given(size)
    return block.view(kind).reshape(shape)


def residues(shape: tuple[int, ...]) -> NDArray[np.uint64]:
    """Rows of residues, not set."""
    return empty(shape)


def doubles(shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Doubles, not set."""
    return empty(shape, np.float64)


def address(array: NDArray[Any]) -> int:
    """Where the array's first element is. A tenth of what NumPy's own ways take, for arrays in one piece."""
    try:
        if array.flags.writeable:  # asking takes less than what is raised if it is not
            return ctypes.addressof(_first(array))  # type: ignore[arg-type]
        return int(array.__array_interface__["data"][0])
    except (TypeError, ValueError, BufferError):  # empty, or with gaps
        return int(array.__array_interface__["data"][0])


def aligned_copy(array: Array) -> Array:
    """A copy in one piece, aligned."""
    copy = empty(array.shape, array.dtype)
    copy[...] = array
    return cast("Array", copy)


def private(array: Array) -> Array:
    """A copy in memory that is not kept for others, of an array that is then wiped: for what must stay secret."""
    copy = _aligned(array.nbytes).view(array.dtype).reshape(array.shape)
    copy[...] = array
    array.fill(0)
    return cast("Array", copy)
