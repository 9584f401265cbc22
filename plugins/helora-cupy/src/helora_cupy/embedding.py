"""Slots in coefficients, and numbers in bytes, on a device."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from helora_cupy.building import PACKING
from helora_cupy.device import Array, Device, of_double
from helora_rns import embedding

TILE = 1024
"""Complex numbers that a block transforms in shared memory."""


class Embedding:
    """Those of one ring degree."""

    def __init__(self, device: Device, ring_degree: int) -> None:
        self._device, self._half = device, ring_degree // 2

    @cached_property
    def _powers(self) -> Array:
        powers = self._device.put(embedding.powers(2 * self._half))
        self._device.finish()
        return powers

    @cached_property
    def _places(self) -> tuple[Array, Array]:
        places = embedding.slot_places(2 * self._half)
        slot_of = np.empty_like(places)
        slot_of[places] = np.arange(places.size, dtype=places.dtype)
        both = self._device.put(places), self._device.put(slot_of)
        self._device.finish()
        return both

    def _each(self, name: str, items: int, polynomials: int, arguments: list[Any], threads: int = 256) -> None:
        self._device.launch(PACKING, name, (-(-items // threads), polynomials), threads, arguments)

    def _transform(self, values: Array, polynomials: int, *, back: bool) -> None:
        """In place, (polynomials, 2, N/2): stages of long spans one by one, those of short ones in tiles."""
        half, size = self._half, min(self._half, TILE)
        long = [1 << i for i in range((half // size).bit_length() - 1)]
        common = [self._powers, np.uint64(half)]

        def tiles() -> None:
            arguments = [values, *common, int(back)]
            self._device.launch(PACKING, "embedding_tiles", (half // size, polynomials), 512, arguments, 16 * size)

        if back:
            tiles()
        for groups in reversed(long) if back else long:
            self._each("embedding_stage", half // 2, polynomials, [values, *common, np.uint64(groups), int(back)])
        if not back:
            tiles()

    def slots_to_coefficients(self, slots: Array, factor: float) -> Array:
        """As ``Kernels.slots_to_coefficients``."""
        half, parts = self._half, 2 if slots.dtype.kind == "c" else 1
        out = self._device.empty((2 * half,), np.float64)
        arguments = [out, slots, np.uint64(slots.size), parts, self._places[1], np.uint64(half)]
        self._each("placed", half, 1, arguments)
        self._transform(out, 1, back=True)
        self._each("rounded", 2 * half, 1, [out, np.uint64(2 * half), of_double(factor)])
        return out

    def coefficients_to_slots(self, coefficients: Array, factor: float) -> Array:
        """As ``Kernels.coefficients_to_slots``."""
        out = self._device.empty((self._half,), np.complex128)
        self._transform(coefficients, 1, back=False)
        arguments = [out, coefficients, self._places[0], np.uint64(self._half), of_double(factor)]
        self._each("slots_of", self._half, 1, arguments)
        return out

    def pack(self, a: Array, bits: int) -> bytes:
        """As ``Kernels.pack``; waits for the device."""
        out = self._device.empty(((a.size * bits + 7) // 8,), np.uint8)
        self.pack_into(out, a, bits)
        return bytes(self._device.get(out).tobytes())

    def pack_into(self, out: Array, a: Array, bits: int, rows: int = 1, stride: int = 0) -> None:
        """As ``Kernels.pack_into``; of several rows, each from a place ``stride`` bytes after the last one's."""
        count = a.size // rows
        arguments = [out, np.uint64(stride), a, np.uint64(count), bits]
        self._each("pack", -(-count * bits // 64), rows, arguments)

    def unpack(self, payload: Any, count: int, bits: int, out: Array | None = None) -> Array:
        """As ``Kernels.unpack``, of bytes of the host's or an array of the device's."""
        out = self._device.empty((count,)) if out is None else out
        if isinstance(payload, bytes | bytearray | memoryview):
            payload = self._device.put(np.frombuffer(payload, np.uint8))
        self._each("unpack", count, 1, [out, payload, np.uint64(0), np.uint64(count), bits])
        return out

    def unpack_rows(self, payload: Array, count: int, bits: int, rows: int, stride: int) -> Array:
        """Rows of numbers, each from bytes ``stride`` after the last one's: (rows, count)."""
        out = self._device.empty((rows, count))
        self._each("unpack", count, rows, [out, payload, np.uint64(stride), np.uint64(count), bits])
        return out

    def count_beyond(self, found: Array, values: Array, primes: Array, limbs: int) -> None:
        """Add to ``found`` how many of the values, (…, limbs, N), are not below their row's prime."""
        n, log_n = 2 * self._half, (2 * self._half).bit_length() - 1
        arguments = [found, values, primes, limbs, log_n]
        self._device.launch(PACKING, "beyond", (n // 256, values.size // n), 256, arguments)
