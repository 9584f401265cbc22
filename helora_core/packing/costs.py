"""The costs of operations relative to each other, by which layouts and programs are compared.

The defaults stand in for a backend that was not calibrated. They only have to rank layouts; times come from profiles.
"""

from __future__ import annotations

import msgspec


class OperationCosts(msgspec.Struct, frozen=True, kw_only=True):
    """The cost of each operation, in milliseconds or any multiple of them.

    The defaults are those of SEAL through TenSEAL 0.3.18 at N=8192, primes 60-40-40 and a special one of 60 (means over
    a run on a 2-core x86-64 machine, one thread).

    Attributes:
        decompose: What all rotations of one ciphertext share where a backend hoists: its decomposition.
        key_product: What each rotation costs beyond that. Where nothing is shared, all of it.
        divide: What rotations share that are summed, where a backend divides the sum and not each of them: dividing one
            polynomial by the special primes. 0 where it is part of ``key_product``.
        multiply_plain: A product with an encoded plaintext.
        multiply_scalar: A product with one scalar, encoded on the fly.
        add: A sum.
        rescale: A rescale.
        encrypt: A ciphertext encrypted, sent and read.
        decrypt: A ciphertext sent, read and decrypted.
        sanitize: A result re-randomised and flooded.
        round_trip: A message to the client and back: network latency.
    """

    decompose: float = 0.0
    key_product: float = 1.13
    divide: float = 0.0
    multiply_plain: float = 0.10
    multiply_scalar: float = 0.15
    add: float = 0.04
    rescale: float = 0.33
    encrypt: float = 2.1
    decrypt: float = 0.34
    sanitize: float = 12.0
    round_trip: float = 0.0


DEFAULT_COSTS = OperationCosts()

DEFERRED_COSTS = OperationCosts(
    decompose=0.87,
    key_product=0.44,
    divide=0.23,
    multiply_plain=0.08,
    multiply_scalar=0.06,
    add=0.0,
    rescale=0.41,
    encrypt=3.3,
    decrypt=3.5,
    sanitize=2.0,
)
"""The same for a library that decomposes once for many rotations and divides their sum once: helora-rns at N=8192, four
data primes of 42 bits and a special one, as ``helora calibrate`` found them (on such a machine, by AVX2)."""


def typical_costs(*, defers_division: bool) -> OperationCosts:
    """The costs that stand in for a backend that was not calibrated."""
    return DEFERRED_COSTS if defers_division else DEFAULT_COSTS
