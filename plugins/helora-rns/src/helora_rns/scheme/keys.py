"""Keys: the secret, the public key, and those that switch keys after an automorphism.

Rotating is φ: x → x^g on both polynomials, after which they are under φ(s). A rotation key takes the step before: it is
under s' = φ⁻¹(s), so that what it makes of (c₀, c₁) is under s', and φ brings it back to s. So digits of c₁ serve all
rotations of a ciphertext (hoisting), and φ moves two polynomials instead of all digits.

A key has for each data prime i a pair (bᵢ, aᵢ), with bᵢ = eᵢ - aᵢ·s' + P·gᵢ·s, where P is the product of the special
primes and gᵢ is 1 modulo prime i and 0 modulo the others. Of digits dᵢ = c₁ mod prime i, Σ dᵢ·(bᵢ, aᵢ) is P·c₁·s under
s', and an error that dividing by P makes small. (Hybrid key switching, Han and Ki, CT-RSA 2020, with digits of one
prime.)
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from helora_rns.embedding import galois_element
from helora_rns.kernels import CHUNK, Kernels, interleaved
from helora_rns.modular import Residues
from helora_rns.scheme import sampling
from helora_rns.scheme.context import Context


def wipe(*arrays: NDArray[Any]) -> None:
    """Clear what the secret could be read from: memory is given out again."""
    for array in arrays:
        array.fill(0)


def wiped_with(owner: object, kernels: Kernels, *arrays: NDArray[Any]) -> None:
    """Clear these when their owner is gone."""
    weakref.finalize(owner, kernels.wipe, *arrays).atexit = False


class SecretKey:
    """A ternary secret, of a seed.

    Attributes:
        seed: 32 bytes: all that has to be kept.
        values: (primes, N), modulo all primes.
    """

    def __init__(self, context: Context, seed: bytes | None = None) -> None:
        self.seed = sampling.fresh_seed() if seed is None else seed
        ternary = sampling.ternary(context, self.seed)
        self.values = context.kernels.private(context.kernels.values_of_doubles(ternary, context.whole))
        ternary.fill(0.0)
        wiped_with(self, context.kernels, self.values)

    def __repr__(self) -> str:
        return "SecretKey()"


@dataclass(frozen=True, eq=False)
class PublicKey:
    """An encryption of zero at the highest level: ``first`` and the seed of the other polynomial.

    Attributes:
        first: (limbs, N).
        seed: 32 bytes.
    """

    first: Residues
    seed: bytes

    @classmethod
    def of(cls, context: Context, secret: SecretKey) -> PublicKey:
        """A fresh one."""
        kernels, basis, seed = context.kernels, context.basis(context.max_level), sampling.fresh_seed()
        (a,) = sampling.uniform(context, seed, basis)
        error = kernels.values_of_doubles(sampling.errors(context)[0], basis)
        product = kernels.multiply(a, secret.values[: len(basis)], basis)
        first = kernels.sub(error, product, basis)
        wipe(error, product)
        return cls(first, seed)

    def pair(self, context: Context) -> Residues:
        """Both polynomials: (2, limbs, N)."""
        basis = context.basis(context.max_level)
        (a,) = sampling.uniform(context, self.seed, basis)
        return context.copied(np.stack([self.first, a]))


@dataclass(frozen=True, eq=False)
class RotationKey:
    """The key for one step, as it travels: the first polynomials of its pairs and the seed of the others.

    Attributes:
        steps: By which slots go left.
        first: (digits, primes, N).
        seed: 32 bytes.
    """

    steps: int
    first: Residues
    seed: bytes

    @classmethod
    def of(cls, context: Context, secret: SecretKey, steps: int) -> RotationKey:
        """A fresh one.

        Raises:
            ValueError: There is no special prime.
        """
        if not context.specials:
            raise ValueError("rotation keys need a special prime")
        kernels, whole, n = context.kernels, context.whole, context.ring_degree
        digits = len(context.data_primes)
        back = pow(galois_element(steps, n), -1, 2 * n)
        before = kernels.permute(secret.values, context.index(back))
        seed = sampling.fresh_seed()
        error, first = sampling.errors(context, digits), context.residues((digits, len(whole), n))
        for i, a in enumerate(sampling.uniform(context, seed, whole, digits)):
            masked, product = kernels.values_of_doubles(error[i], whole), kernels.multiply(a, before, whole)
            kernels.sub(masked, product, whole, out=first[i])
            row, factor = first[i, i : i + 1], context.special_product % context.primes[i]
            own = kernels.times(secret.values[i : i + 1], [factor], (i,))
            kernels.add(row, own, (i,), out=row)
            wipe(masked, product, own)
        wipe(before, error)
        return cls(steps, first, seed)


def interleaved_keys(context: Context, keys: Sequence[RotationKey]) -> Residues:
    """All as ``Kernels.rotated`` reads them, (keys, primes, N/8, digits, 2, 8): in one piece, since only arrays of
    some megabytes get huge pages.
    """
    whole, digits, n = context.whole, len(context.data_primes), context.ring_degree
    block = context.residues((len(keys), len(whole), n // CHUNK, digits, 2, CHUNK))
    for key, row in zip(keys, block, strict=True):
        others = sampling.uniform(context, key.seed, whole, digits)
        row[...] = interleaved(np.stack([key.first, others], axis=1))
    return block
