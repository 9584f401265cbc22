"""The primes a CKKS library would take, so that scales drift here as they do there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

# The first thirteen primes as Miller-Rabin bases decide every number below 3.3e24 (Sorenson and Webster, 2015).
_BASES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41)


def is_prime(number: int) -> bool:
    """Whether ``number`` (below 3.3e24) is prime."""
    if number < 2:
        return False
    for base in _BASES:
        if number % base == 0:
            return number == base
    odd, twos = number - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    return all(_passes(number, base, odd, twos) for base in _BASES)


def _passes(number: int, base: int, odd: int, twos: int) -> bool:
    power = pow(base, odd, number)
    if power in (1, number - 1):
        return True
    for _ in range(twos - 1):
        power = power * power % number
        if power == number - 1:
            return True
    return False


def _ntt_primes(bits: int, ring_degree: int) -> Iterator[int]:
    """Primes of exactly ``bits`` bits that are 1 mod 2N, from the largest down."""
    step = 2 * ring_degree
    candidate = ((1 << bits) - 1) // step * step + 1
    while candidate.bit_length() >= bits:
        if candidate.bit_length() == bits and is_prime(candidate):
            yield candidate
        candidate -= step


def distinct_ntt_primes(bits: Sequence[int], ring_degree: int) -> tuple[int, ...] | None:
    """One prime per entry of ``bits``, all different, or None if there are too few."""
    wanted = Counter(bits)
    found: dict[int, list[int]] = {}
    for size, count in wanted.items():
        found[size] = [prime for _, prime in zip(range(count), _ntt_primes(size, ring_degree), strict=False)]
        if len(found[size]) < count:
            return None
    return tuple(found[size].pop() for size in bits)
