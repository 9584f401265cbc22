"""Primes that are 1 mod 2N, as CKKS libraries use them; also for code that has no library to ask."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import islice

# The first thirteen primes as Miller-Rabin bases decide every number below 3.3e24 (Sorenson and Webster, 2015).
_BASES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41)


def is_prime(number: int) -> bool:
    """Whether ``number`` (below 3.3e24) is prime."""
    if number in _BASES:
        return True
    if number < 2 or any(number % base == 0 for base in _BASES):
        return False
    twos = ((number - 1) & (1 - number)).bit_length() - 1
    odd = (number - 1) >> twos
    return all(
        pow(base, odd, number) == 1
        or any(pow(base, odd << doublings, number) == number - 1 for doublings in range(twos))
        for base in _BASES
    )


def ntt_primes(bits: int, ring_degree: int) -> Iterator[int]:
    """Primes of exactly ``bits`` bits that are 1 mod 2N, from the largest down."""
    step = 2 * ring_degree
    candidate = ((1 << bits) - 1) // step * step + 1
    while candidate.bit_length() >= bits:
        if candidate.bit_length() == bits and is_prime(candidate):
            yield candidate
        candidate -= step


def distinct_ntt_primes(bits: Sequence[int], ring_degree: int) -> tuple[int, ...]:
    """The largest primes of these bit lengths, all different.

    Raises:
        ValueError: There are too few of one length.
    """
    wanted = Counter(bits)
    found = {size: list(_largest(size, ring_degree, count)) for size, count in wanted.items()}
    for size, count in wanted.items():
        if len(found[size]) < count:
            raise ValueError(f"too few primes of {size} bits are 1 mod {2 * ring_degree}")
    return tuple(found[size].pop() for size in bits)


@cache  # sessions are opened and parameters resolved for the same few chains again and again
def _largest(bits: int, ring_degree: int, count: int) -> tuple[int, ...]:
    return tuple(islice(ntt_primes(bits, ring_degree), count))
