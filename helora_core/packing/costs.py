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
