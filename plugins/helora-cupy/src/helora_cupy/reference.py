"""Reference results of the kernels, in Python's integers."""

from __future__ import annotations

from helora_cupy.tables import centred, powers


def forward(values: list[int], q: int, log_n: int) -> list[int]:
    """Negacyclic transform from natural to bit-reversed order: the value at ψ^(2·rev(i)+1) is at i."""
    x, twiddles, half, groups = list(values), powers(q, log_n), len(values) // 2, 1
    while half:
        for group in range(groups):
            w, start = twiddles[groups + group], 2 * group * half
            for j in range(start, start + half):
                u, v = x[j], x[j + half] * w % q
                x[j], x[j + half] = (u + v) % q, (u - v) % q
        half, groups = half // 2, groups * 2
    return x


def inverse(values: list[int], q: int, log_n: int) -> list[int]:
    """The inverse of `forward`."""
    x, twiddles, half, groups = list(values), powers(q, log_n, inverse=True), 1, len(values) // 2
    while groups:
        for group in range(groups):
            w, start = twiddles[groups + group], 2 * group * half
            for j in range(start, start + half):
                u, v = x[j], x[j + half]
                x[j], x[j + half] = (u + v) % q, (u - v) * w % q
        half, groups = half * 2, groups // 2
    scale = pow(len(x), -1, q)
    return [v * scale % q for v in x]


def switched(
    digits: list[list[int]], others: list[int], key: list[list[list[int]]], q: int, log_n: int
) -> list[list[int]]:
    """Σ of centred, transformed digits times key[digit][part], modulo q: [part][N]."""
    lifted = [forward([centred(x, o) % q for x in d], q, log_n) for d, o in zip(digits, others, strict=True)]
    return [
        [sum(d[i] * k[part][i] for d, k in zip(lifted, key, strict=True)) % q for i in range(1 << log_n)]
        for part in range(2)
    ]
