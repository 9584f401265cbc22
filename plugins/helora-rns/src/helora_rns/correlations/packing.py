"""Numbers packed to their bits, for whom there is no ring."""

from __future__ import annotations

import functools

import numpy as np

from helora_core.backend.primes import distinct_ntt_primes
from helora_rns import choice
from helora_rns.correlations.kernels import Words
from helora_rns.kernels import Kernels
from helora_rns.scheme.fields import corrupt

_SMALLEST = 64


@functools.cache
def _kernels() -> Kernels:
    return choice.kernels(_SMALLEST, distinct_ntt_primes((30,), _SMALLEST))


def pack(numbers: Words, bits: int) -> bytes:
    """Numbers below 2^bits, one after another from the lowest bit on."""
    return _kernels().pack(np.ascontiguousarray(numbers), bits)


def unpack(payload: bytes, count: int, bits: int) -> Words:
    """Undo ``pack``: (count,).

    Raises:
        CorruptPayload: The length is not that of so many numbers.
    """
    if len(payload) != (count * bits + 7) // 8:
        raise corrupt(f"{len(payload)} bytes are not {count} numbers of {bits} bits")
    return _kernels().unpack(payload, count, bits)
