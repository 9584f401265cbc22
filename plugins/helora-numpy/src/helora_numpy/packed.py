"""Numbers of any bits packed one after another: 64 numbers of b bits fill b words."""

from __future__ import annotations

import numpy as np

from helora_core.backend.correlations import WRAP_BITS, Words


def packed_size(count: int, bits: int) -> int:
    """Bytes of so many numbers."""
    return (count * bits + 7) // 8


def pack(numbers: Words, bits: int) -> bytes:
    """Numbers below 2^bits, one after another from the lowest bit on.

    Raises:
        ValueError: A number has more bits.
    """
    flat = numbers.reshape(-1).astype(np.uint64)
    if bits < WRAP_BITS and flat.size and int(flat.max()) >> bits:
        raise ValueError(f"a number of more than {bits} bits")
    groups = np.zeros((-(-flat.size // WRAP_BITS), WRAP_BITS), dtype=np.uint64)
    groups.reshape(-1)[: flat.size] = flat
    words = np.zeros((len(groups), bits), dtype=np.uint64)
    for j in range(WRAP_BITS):
        word, shift = divmod(j * bits, WRAP_BITS)
        words[:, word] |= groups[:, j] << np.uint64(shift)
        if shift + bits > WRAP_BITS:
            words[:, word + 1] |= groups[:, j] >> np.uint64(WRAP_BITS - shift)
    return words.astype("<u8").tobytes()[: packed_size(flat.size, bits)]


def unpack(payload: bytes, count: int, bits: int) -> Words:
    """Undo ``pack``: shape (count,).

    Raises:
        ValueError: There are more bytes or fewer, or bits after the last number.
    """
    if len(payload) != packed_size(count, bits):
        raise ValueError(f"{len(payload)} bytes for {count} numbers of {bits} bits")
    if len(payload) * 8 > count * bits and payload[-1] >> (8 - (len(payload) * 8 - count * bits)):
        raise ValueError("bits after the last number")
    groups = -(-count // WRAP_BITS)
    words = np.frombuffer(payload.ljust(8 * groups * bits, b"\0"), "<u8").reshape(groups, bits).astype(np.uint64)
    numbers = np.zeros((groups, WRAP_BITS), dtype=np.uint64)
    for j in range(WRAP_BITS):
        word, shift = divmod(j * bits, WRAP_BITS)
        numbers[:, j] = words[:, word] >> np.uint64(shift)
        if shift + bits > WRAP_BITS:
            numbers[:, j] |= words[:, word + 1] << np.uint64(WRAP_BITS - shift)
    if bits < WRAP_BITS:
        numbers &= np.uint64((1 << bits) - 1)
    return numbers.reshape(-1)[:count]
