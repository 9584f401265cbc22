"""Primes, roots and the tables that the kernels of ``native/`` read, in each form of a modular product.

A form is a policy of ``native/arith.cuh``; tables are NumPy arrays in the layout that file and ``ntt.cuh`` state.
"""

from __future__ import annotations

import struct
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

WORD = 1 << 64


class Form(NamedTuple):
    """One way of multiplying modulo a prime: `policy` names it in C++, `word` is a residue's type in memory."""

    policy: str
    word: Any
    prime_bits: int
    pad: int


FORMS = {
    "shoup64": Form("Shoup64", np.uint64, 50, 4),
    "montgomery64": Form("Montgomery64", np.uint64, 50, 4),
    "friendly64": Form("Friendly64", np.uint64, 50, 4),
    "fma50": Form("Fma50", np.uint64, 50, 4),
    "shoup32": Form("Shoup32", np.uint32, 30, 5),
}


def is_prime(n: int) -> bool:
    """Miller and Rabin with twelve primes as bases, which no composite below 2^78 passes (Sorenson, Webster 2015)."""
    small = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)
    if n < 2 or any(n % p == 0 for p in small):
        return n in small
    odd, twos = n - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for base in small:
        x = pow(base, odd, n)
        if x not in (1, n - 1) and not any((x := x * x % n) == n - 1 for _ in range(twos - 1)):
            return False
    return True


@cache
def primes(form: str, count: int = 2, log_n: int = 14, bits: int | None = None) -> tuple[int, ...]:
    """The `count` largest primes below 2^`bits` that a form takes, each 1 modulo 2N."""
    step = 1 << (32 if form == "friendly64" else log_n + 1)
    found: list[int] = []
    candidate = (1 << (bits or FORMS[form].prime_bits)) - step + 1
    while len(found) < count and candidate > step:
        if is_prime(candidate):
            found.append(candidate)
        candidate -= step
    return tuple(found)


def reversed_bits(i: int, bits: int) -> int:
    return int(format(i, f"0{bits}b")[::-1], 2) if bits else 0


@cache
def powers(q: int, log_n: int, inverse: bool = False) -> tuple[int, ...]:
    """Powers of a primitive 2N-th root of one (or its inverse), in bit-reversed order of exponents: ψ^rev(i)."""
    n = 1 << log_n
    root = next(r for g in range(2, 1000) if pow(r := pow(g, (q - 1) // (2 * n), q), n, q) == q - 1)
    if inverse:
        root = pow(root, -1, q)
    straight = [1]
    for _ in range(n - 1):
        straight.append(straight[-1] * root % q)
    return tuple(straight[reversed_bits(i, log_n)] for i in range(n))


def passes(stages: int, log_e: int, start: int = 0) -> list[tuple[int, int]]:
    """(first stage, stages) of each pass; as ``Passes`` in ``ntt.cuh``."""
    count = -(-stages // log_e)
    lengths = [stages // count + (p >= count - stages % count) for p in range(count)]
    return [(start + sum(lengths[:p]), length) for p, length in enumerate(lengths)]


def table_order(log_n: int, log_e: int, halves: bool = False) -> NDArray[np.int64]:
    """Which power stands at each place of a table; `halves` is for the transform in two launches."""
    order, first_half = np.zeros(1 << log_n, np.int64), log_n // 2
    whole = passes(log_n, log_e)
    for first, length in passes(first_half, log_e) + passes(log_n - first_half, log_e, first_half) if halves else whole:
        groups = np.arange(1 << first)
        for stage in range(length):
            for group in range(1 << stage):
                slot = (1 << stage) - 1 + group
                order[(1 << first) - 1 + (slot << first) + groups] = (1 << (first + stage)) + (groups << stage) + group
    return order


def centred(x: int, q: int) -> int:
    return x - q if x > q // 2 else x


def constants(form: str, values: list[int] | tuple[int, ...], q: int) -> NDArray[Any]:
    """Numbers to multiply by, prepared: [len] or, with Shoup quotients, [len, 2]."""
    if form == "fma50":
        return np.array([float(centred(w, q)) for w in values])
    if form == "shoup32":
        return np.array([(w, (w << 32) // q) for w in values], np.uint32)
    if form == "shoup64":
        return np.array([(w, (w << 64) // q) for w in values], np.uint64)
    return np.array([(w << 64) % q for w in values], np.uint64)


@cache
def _constants(form: str, q: int, log_n: int, inverse: bool) -> NDArray[Any]:
    values = list(powers(q, log_n, inverse))
    if inverse:  # the last stage's twiddle scales, too
        values[1] = values[1] * pow(1 << log_n, -1, q) % q
    return constants(form, values, q)


def table(
    form: str, moduli: tuple[int, ...], log_n: int, log_e: int, *, inverse: bool, halves: bool = False
) -> NDArray[Any]:
    """Twiddles of some primes, [primes, N(, 2)], in the order of the passes."""
    order = table_order(log_n, log_e, halves)
    return np.stack([_constants(form, q, log_n, inverse)[order] for q in moduli])


def bits_of(x: float) -> int:
    return int(struct.unpack("<Q", struct.pack("<d", x))[0])


def mod_rows(form: str, moduli: tuple[int, ...], log_n: int) -> NDArray[np.uint64]:
    """[primes, 16], as ``arith.cuh`` says."""
    rows = []
    for q in moduli:
        scale = constants(form, [pow(1 << log_n, -1, q)], q).reshape(-1)
        words = [bits_of(float(scale[0]))] if form == "fma50" else [int(w) for w in scale]
        row = [q, WORD // q, -pow(q, -1, WORD) % WORD, *words, *[0] * (2 - len(words))]
        rows.append([*row, bits_of(float(q)), bits_of(1.0 / q), WORD * WORD % q, 0, q.bit_length(), *[0] * 6])
    return np.array(rows, np.uint64)


def buffer_bytes(form: str, log_n: int, log_e: int) -> int:
    """Shared memory of a transform: the limb and its padding."""
    pad = max(FORMS[form].pad, passes(log_n, log_e)[-1][1])
    return ((1 << log_n) + (1 << log_n >> pad)) * int(np.dtype(FORMS[form].word).itemsize)


class Half(NamedTuple):
    """One of the two launches of a transform in halves."""

    kernel: str
    tiles: int
    threads: int
    shared: int


def halves(form: str, log_n: int, log_e: int, *, inverse: bool = False) -> tuple[Half, Half]:
    """In the order in which they run; as ``Halves`` in ``ntt.cuh``."""
    first, item = log_n // 2, np.dtype(FORMS[form].word).itemsize
    kernels = []
    for name, log_size in (("columns", first + 4), ("rows", log_n - first + 3)):
        size = 1 << log_size
        shared = (size + (size >> FORMS[form].pad)) * item
        name = f"{'inverse_' if inverse else ''}{name}_{log_e}"
        kernels.append(Half(name, (1 << log_n) // size, size >> log_e, shared))
    return (kernels[1], kernels[0]) if inverse else (kernels[0], kernels[1])
