"""Finds known numbers in bytes in any format, so that a plaintext in a message is found even if it is scaled."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

_FORMATS = ("<f8", ">f8", "<i8", ">i8", "<f4", ">f4", "<i4", ">i4", "<f2", ">f2", "<i2", ">i2", "i1")


def strongest_correlation(message: bytes, secret: NDArray[np.float64]) -> float:
    """The largest correlation of signs between ``secret`` and any run of numbers in ``message``.

    The bytes are read as floats and integers of up to 8 bytes in both orders, from every offset, in steps of one number
    and of two (complex numbers, or pairs of anything). Only signs relative to the median are compared, which finds
    values at any scale, with noise, and after any monotonic map. For n random signs the correlation has a standard
    deviation of 1/sqrt(n), so with a few thousand values chance never reaches 0.3.
    """
    pattern = _signs(secret)
    return max((_sliding(_signs(numbers), pattern) for numbers in _readings(message)), default=0.0)


def _readings(message: bytes) -> Iterator[NDArray[np.float64]]:
    for format_ in _FORMATS:
        width = np.dtype(format_).itemsize
        for offset in range(width):
            count = max(len(message) - offset, 0) // width
            # Most bit patterns are absurd as floats; only their order matters.
            with np.errstate(all="ignore"):
                numbers = np.nan_to_num(np.frombuffer(message[offset:], format_, count).astype(np.float64))
            yield numbers
            yield numbers[::2]
            yield numbers[1::2]


def _signs(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    signs: NDArray[np.float64] = np.sign(numbers - np.median(numbers)) if numbers.size else numbers
    return signs


def _sliding(signs: NDArray[np.float64], pattern: NDArray[np.float64]) -> float:
    """The largest correlation of ``pattern`` with a run of ``signs``, by FFT."""
    if signs.size < pattern.size:
        return 0.0
    size = 1 << (signs.size + pattern.size - 1).bit_length()
    products = np.fft.irfft(np.fft.rfft(signs, size) * np.fft.rfft(pattern, size).conj(), size)
    return float(np.max(np.abs(products))) / pattern.size
