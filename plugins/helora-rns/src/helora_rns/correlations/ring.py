"""The modulus 2^64·q₁ and the primes that products with machine words are computed by."""

from __future__ import annotations

import functools
import math

from helora_core.backend.primes import ntt_primes
from helora_core.errors import InvalidParameters
from helora_core.params.ckks import CKKSParams
from helora_rns.kernels import Basis
from helora_rns.scheme.context import Context, Parameters, context

WRAP_BITS = 64
WRAP = 1 << WRAP_BITS
WORD_BYTES = WRAP_BITS // 8
AUXILIARY_BITS = 49
"""As long as transforms of doubles with few reductions go."""

_SMALLEST = 1 << 32


class WordRing:
    """A polynomial modulo q = 2^64·q₁ is a row of words, its coefficients modulo 2^64, and residues modulo the primes
    of q₁, as values.

    One prime more is no part of q. A product of words and a polynomial of coefficients −1, 0 and 1 is an integer below
    N·2^63, which its residues modulo the first two primes of the ring say; of short words, the auxiliary prime alone.

    Attributes:
        context: Of the data primes, with the auxiliary prime in the place of a special one.
        limbs: The primes of q₁.
        pair: The two primes for products with words.
        auxiliary: The auxiliary prime.
    """

    def __init__(self, ring_degree: int, data_primes: tuple[int, ...]) -> None:
        auxiliary = next(prime for prime in ntt_primes(AUXILIARY_BITS, ring_degree) if prime not in data_primes)
        self.context: Context = context(Parameters(ring_degree, data_primes, (auxiliary,)))
        self.kernels = self.context.kernels
        self.ring_degree = ring_degree
        self.primes = self.context.primes
        self.limbs: Basis = tuple(range(len(data_primes)))
        self.pair: Basis = (0, 1)
        self.auxiliary: Basis = (len(data_primes),)
        first, second = self.primes[:2]
        ascending = _SMALLEST < first < second < 1 << AUXILIARY_BITS
        if len(data_primes) > 2 or not ascending or first * (second - 1) < ring_degree * WRAP:
            raise InvalidParameters(
                f"helora-rns: with a wrap limb there are one or two data primes, ascending, of 33 to {AUXILIARY_BITS} "
                f"bits, long enough for products of words; {data_primes} are not.",
                hint="Use two of 42 bits at N=8192 or one of 41 bits at N=4096.",
            )
        self.q1 = math.prod(data_primes)


@functools.lru_cache(maxsize=16)
def _made(ring_degree: int, data_primes: tuple[int, ...]) -> WordRing:
    return WordRing(ring_degree, data_primes)


def ring_of(params: CKKSParams) -> WordRing:
    """The ring of resolved parameters with a wrap limb; one object for all that ask.

    Raises:
        InvalidParameters: There is no wrap limb, or the primes do not do.
    """
    if params.wrap_bits != WRAP_BITS or not params.data_primes or params.special_bits:
        raise InvalidParameters(
            "helora-rns: plans that run ahead of time need a wrap limb of 64 bits and no special primes.",
            hint="Resolve parameters with wrap_bits=64 first.",
        )
    return _made(params.ring_degree, params.data_primes)
