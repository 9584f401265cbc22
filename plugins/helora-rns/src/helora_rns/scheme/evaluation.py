"""What a server computes: sums, products with plaintexts, rescaling, rotations. Nothing is altered in place.

Levels and scales of operands are taken to fit; helora's core sees to that.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

from helora_rns.arrays import address
from helora_rns.embedding import galois_element
from helora_rns.kernels import MOST_TERMS
from helora_rns.modular import Residues
from helora_rns.scheme.ciphertexts import Ciphertext, Plaintext
from helora_rns.scheme.context import Context
from helora_rns.scheme.keys import RotationKey, interleaved_keys


class Evaluator:
    """Computes with rotation keys, and holds no secret.

    Args:
        context: Of the parameters.
        keys: A key for each step that will be asked for.

    Attributes:
        keys: The key for each step, as ``Kernels.rotated`` reads it.
    """

    def __init__(self, context: Context, keys: Sequence[RotationKey] = ()) -> None:
        self._context = context
        self._kernels = context.kernels
        steps = [key.steps for key in keys]
        self.keys: Mapping[int, Residues] = dict(zip(steps, interleaved_keys(context, keys), strict=True))

    @functools.cached_property
    def key_addresses(self) -> Mapping[int, int]:
        """Where each key begins, on the host."""
        return {step: address(key) for step, key in self.keys.items()}

    @property
    def steps(self) -> frozenset[int]:
        """Steps that there are keys for."""
        return frozenset(self.keys)

    def add(self, left: Ciphertext, right: Ciphertext) -> Ciphertext:
        """Sum."""
        basis = self._context.basis(left.level)
        return Ciphertext(self._kernels.add(left.values, right.values, basis), left.level, left.scale)

    def sub(self, left: Ciphertext, right: Ciphertext) -> Ciphertext:
        """Difference."""
        basis = self._context.basis(left.level)
        return Ciphertext(self._kernels.sub(left.values, right.values, basis), left.level, left.scale)

    def negate(self, ciphertext: Ciphertext) -> Ciphertext:
        """Negative."""
        basis = self._context.basis(ciphertext.level)
        return Ciphertext(self._kernels.negate(ciphertext.values, basis), ciphertext.level, ciphertext.scale)

    def add_plain(self, ciphertext: Ciphertext, plaintext: Plaintext) -> Ciphertext:
        """Sum with a plaintext."""
        basis, values = self._context.basis(ciphertext.level), self._context.residues(ciphertext.values.shape)
        self._kernels.add(ciphertext.values[0], plaintext.data, basis, out=values[0])
        values[1] = ciphertext.values[1]
        return Ciphertext(values, ciphertext.level, ciphertext.scale)

    def multiply_plain(self, ciphertext: Ciphertext, plaintext: Plaintext) -> Ciphertext:
        """Product with a plaintext; scales multiply."""
        values = self._kernels.multiply(ciphertext.values, plaintext.data, self._context.basis(ciphertext.level))
        return Ciphertext(values, ciphertext.level, ciphertext.scale * plaintext.scale)

    def dot_plain(self, ciphertexts: Sequence[Ciphertext], plaintexts: Sequence[Plaintext]) -> Ciphertext:
        """Σ ciphertexts[i] · plaintexts[i], reduced as seldom as the words allow."""
        first, basis = ciphertexts[0], self._context.basis(ciphertexts[0].level)
        left, right = [each.values for each in ciphertexts], [each.data for each in plaintexts]
        total = self._kernels.dot(left[:MOST_TERMS], right[:MOST_TERMS], basis)
        for start in range(MOST_TERMS, len(left), MOST_TERMS):
            end = start + MOST_TERMS
            self._kernels.add(total, self._kernels.dot(left[start:end], right[start:end], basis), basis, out=total)
        return Ciphertext(total, first.level, first.scale * plaintexts[0].scale)

    def rescale(self, ciphertext: Ciphertext) -> Ciphertext:
        """Divide by the last prime of the level, and round."""
        level, basis = ciphertext.level, self._context.basis(ciphertext.level)
        values = self._kernels.mod_down(ciphertext.values, basis, 1)
        return Ciphertext(values, level - 1, ciphertext.scale / self._context.data_primes[level])

    def rotate(self, ciphertext: Ciphertext, steps: int) -> Ciphertext:
        """Rotate slots left by ``steps``."""
        return self.rotate_many(ciphertext, [steps])[0]

    def rotate_many(self, ciphertext: Ciphertext, steps: Sequence[int]) -> list[Ciphertext]:
        """Rotations by each of ``steps``, of digits that are made once; each is divided by the special primes."""
        context, basis = self._context, self._context.basis(ciphertext.level)
        digits = self._digits(ciphertext)
        # Times the special primes, the first polynomial goes through the division that ends the key switch unchanged.
        factors = [context.special_product % context.primes[i] for i in basis]
        raised = self._kernels.times(ciphertext.values[0], factors, basis)
        return [self._rotated(ciphertext, digits, raised, each) for each in steps]

    def _digits(self, ciphertext: Ciphertext) -> Residues:
        extended = self._context.extended(ciphertext.level)
        return self._kernels.decompose(ciphertext.values[1], extended, self._context.specials)

    def _rotated(self, ciphertext: Ciphertext, digits: Residues, raised: Residues, steps: int) -> Ciphertext:
        context, level, n = self._context, ciphertext.level, self._context.ring_degree
        element, extended = galois_element(steps, n), context.extended(level)
        indices = context.index(element), context.index(pow(element, -1, 2 * n))
        moved = self._kernels.rotated(digits, self.keys[steps], raised, indices, extended)
        return Ciphertext(self._kernels.mod_down(moved, extended, context.specials), level, ciphertext.scale)
