"""Products of matrices of integers with polynomials, on a device."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from helora_cupy import building
from helora_cupy.device import Array
from helora_cupy.rings import Ring
from helora_cupy.tables import WORD
from helora_rns import modular

MOST_TERMS = 2048
"""Of one launch: what sums of doubles' bits hold."""

FEW_ROWS, COLUMNS = 16, 64
MOST_LOADED = 64


def tile_bytes(rows: int) -> int:
    """Shared memory of a block of so many rows."""
    return 8 * 16 * (rows + 1 + COLUMNS)


class Products:
    """Those of one ring. Matrices that were multiplied last are kept on the device."""

    def __init__(self, ring: Ring) -> None:
        self._ring, self._unit = ring, building.products(wide=ring.wide)
        self._lock = threading.Lock()
        self._loaded: OrderedDict[tuple[Any, ...], tuple[Sequence[Any], Array]] = OrderedDict()

    def load(self, weights: Sequence[NDArray[np.int64]], basis: Sequence[int]) -> Array:
        """Matrices for each limb, on the device: residues times 2^64, (limbs, rows, terms)."""
        rows = []
        for matrix, i in zip(weights, basis, strict=True):
            q = np.array(self._ring.primes[i], np.uint64)
            factor = np.array(WORD % self._ring.primes[i], np.uint64)
            rows.append(modular.multiply(modular.of_integers(matrix, q), np.broadcast_to(factor, matrix.shape), q))
        return self._ring.device.put(np.stack(rows))

    def _kept(self, weights: Sequence[Any], basis: Sequence[int]) -> Array:
        key = (*map(id, weights), *basis)  # what is kept keeps the arrays, and so their ids
        with self._lock:
            found = self._loaded.get(key)
            if found is None:
                found = self._loaded[key] = weights, self.load(weights, basis)
                self._ring.device.finish()
                while len(self._loaded) > MOST_LOADED:
                    self._loaded.popitem(last=False)
            self._loaded.move_to_end(key)
            return found[1]

    def launch(
        self, weights: Sequence[Any], a: Sequence[Array], basis: Sequence[int], out: Sequence[Array], *, add: bool
    ) -> None:
        """As ``Kernels.gemm``."""
        ring, matrix = self._ring, self._kept(weights, basis)
        device, (limbs, rows, terms) = ring.device, matrix.shape
        columns = a[0].size // limbs
        left = device.put(np.array([device.address(each) for each in a], np.uint64))
        right = device.put(np.array([device.address(each) for each in out], np.uint64))
        size = FEW_ROWS if rows <= FEW_ROWS else 64
        for start in range(0, terms, MOST_TERMS):
            arguments = [
                matrix.reshape(-1)[start:], left[start:], right, device.put(np.array(basis, np.int32)), limbs, rows,
                min(MOST_TERMS, terms - start), terms, int(add or start > 0), ring.log_n, ring.mods,
            ]  # fmt: skip
            grid = -(-rows // size), columns // COLUMNS, limbs
            device.launch(self._unit, f"product_{size}", grid, 128 if size == 16 else 256, arguments, tile_bytes(size))
