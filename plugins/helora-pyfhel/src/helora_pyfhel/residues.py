"""Plaintexts as residues: the encoder goes through doubles, the serialised form does not.

A PyPtxt's bytes end with its residues, eight bytes each, those of the transformed polynomial prime by prime in the
order of ``helora_core.backend.ntt`` (SEAL 4, ``Plaintext::save_members``). What stands before them depends on level
and scale alone, and is taken from a plaintext that the library encoded itself."""

from __future__ import annotations

from typing import Any

import numpy as np

from helora_core.backend import ntt
from helora_core.backend.ntt import Residues

_BYTES = 8


def to_plaintext(residues: Residues, primes: tuple[int, ...], like: Any) -> Any:
    """A PyPtxt of the polynomial with these residues, uint64 of shape (primes, N), of the level and scale of
    ``like``.
    """
    values = ntt.forward_all(residues, primes)
    payload = like.to_bytes("none")
    head = payload[: len(payload) - _BYTES * values.size]
    like.from_bytes(head + values.astype("<u8").tobytes(), "ckks")
    return like


def from_plaintext(plaintext: Any, primes: tuple[int, ...], ring_degree: int) -> Residues:
    """The residues of a PyPtxt's polynomial: uint64, shape (primes, N)."""
    payload = plaintext.to_bytes("none")
    values = np.frombuffer(payload[-_BYTES * len(primes) * ring_degree :], dtype="<u8").astype(np.uint64)
    return ntt.inverse_all(values.reshape(len(primes), -1), primes)
