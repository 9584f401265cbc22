"""Checks of words, doubles, matrices and bits, that plans which run ahead of time pass to libraries."""

from __future__ import annotations

from typing import TypeVar

import numpy as np

from helora_core.backend.correlations import Floats, Integers, Switching, Words
from helora_core.errors import CorruptPayload, InvalidInput
from helora_core.params.ckks import WRAP_BITS, CKKSParams

Numbers = TypeVar("Numbers", Words, Floats)

WORD, DOUBLE = np.dtype(np.uint64), np.dtype(np.float64)

LARGEST_INTEGER = 1 << 23
"""Integers of weights are below this in size."""


def are_words(numbers: Words, shape: tuple[int | None, ...]) -> bool:
    fits = len(numbers.shape) == len(shape) and all(
        length == wanted or (wanted is None and length) for length, wanted in zip(numbers.shape, shape, strict=True)
    )
    return fits and numbers.dtype == np.uint64


def check_words(numbers: Words, shape: tuple[int | None, ...], who: str) -> None:
    if not are_words(numbers, shape):
        raise InvalidInput(
            f"{who}: {numbers.dtype} of shape {numbers.shape}; it takes uint64 of {shown(shape)}.",
            hint="Give numbers modulo the wrap limb.",
        )


def check_integers(matrix: Integers, shape: tuple[int | None, int | None], who: str) -> None:
    fits = matrix.ndim == 2 and all(
        length == wanted or (wanted is None and length) for length, wanted in zip(matrix.shape, shape, strict=True)
    )
    if not fits or matrix.dtype != np.int64:
        raise InvalidInput(
            f"{who}: a matrix of {matrix.dtype} and shape {matrix.shape}; it takes int64 of {shown(shape)}.",
            hint="Give the integers of helora_core.compiler.integers.",
        )
    if matrix.size and not -LARGEST_INTEGER < matrix.min() <= matrix.max() < LARGEST_INTEGER:
        raise InvalidInput(f"{who}: integers of 2^23 or more in size.", hint="Use a coarser grid of weights.")


def in_one_piece(array: Numbers) -> Numbers:
    return array if array.flags.c_contiguous else np.ascontiguousarray(array)


def other_shapes(who: str, doing: str, numbers: Words | Floats, factors: Floats) -> InvalidInput:
    return InvalidInput(
        f"{who} {doing}: {numbers.dtype} of shape {numbers.shape}, with factors of {factors.dtype} and shape "
        f"{factors.shape}.",
        hint="Give float64 of shape (tokens, d_in), uint64 pads of the same, and a float64 factor for each token.",
    )


def other_numbers(who: str, doing: str, expected: str) -> CorruptPayload:
    return CorruptPayload(
        f"{who} {doing}: the library gave other numbers than {expected}.",
        hint="Report it to the author of the backend.",
    )


def shown(shape: tuple[int | None, ...]) -> str:
    return "(" + ", ".join("any" if length is None else str(length) for length in shape) + ")"


def check_count(count: int, who: str) -> None:
    if count < 1:
        raise InvalidInput(f"{who}: a count of {count}.", hint="Give a number of rows, at least one.")


def check_bits(bits: int, who: str) -> None:
    if not 1 <= bits <= WRAP_BITS:
        raise InvalidInput(f"{who}: numbers of {bits} bits.", hint=f"Give 1 to {WRAP_BITS}.")


def check_switching(how: Switching, params: CKKSParams, who: str) -> None:
    check_bits(how.top_bits, who)
    check_bits(how.key_bits, who)
    if how.exact and (how.top_bits < WRAP_BITS or how.key_bits < WRAP_BITS or len(params.data_primes) < 2):
        raise InvalidInput(
            f"{who}: exact results of {how.top_bits} and {how.key_bits} bits, with {len(params.data_primes)} primes.",
            hint="Exact results keep all bits, and take two data primes.",
        )
