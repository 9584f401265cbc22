"""Encryption and decryption."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from helora_rns.kernels import Doubles
from helora_rns.modular import Residues
from helora_rns.scheme import sampling
from helora_rns.scheme.ciphertexts import Ciphertext, ShortCiphertext
from helora_rns.scheme.context import Context
from helora_rns.scheme.encoding import Message, are_values, largest, residues_of
from helora_rns.scheme.keys import SecretKey, wiped_with
from helora_rns.scheme.shortening import restored
from helora_rns.scheme.zeros import Zeros

EXACT = 2.0**52


def with_errors(context: Context, message: Message, error: Doubles) -> Residues:
    """Values of message + error at the highest level; a message is coefficients, or values if they are residues."""
    kernels, basis = context.kernels, context.basis(context.max_level)
    if not are_values(message) and largest(message) < EXACT:
        error += message
        return kernels.values_of_doubles(error, basis)
    if are_values(message):
        noise = kernels.values_of_doubles(error, basis)
        return kernels.add(noise, message, basis, out=noise)
    whole = residues_of(context, message, basis)
    kernels.add(whole, kernels.of_doubles(error, basis), basis, out=whole)
    kernels.forward(whole, basis)
    return whole


class Encryptor:
    """Encrypts with the secret key: one polynomial is of a seed, and is not sent.

    Attributes:
        minus: Minus the secret, as values at the highest level: (limbs, N).
    """

    def __init__(self, context: Context, secret: SecretKey) -> None:
        self._context = context
        limbs = context.max_level + 1
        # Minus the secret, so that a product and a sum make b = e + m - a·s.
        kernels, basis = context.kernels, context.basis(context.max_level)
        self.minus = kernels.private(kernels.negate(secret.values[:limbs], basis))
        wiped_with(self, kernels, self.minus)

    def encrypt(self, message: Message, scale: float) -> Ciphertext:
        """A fresh ciphertext at the highest level, of coefficients in doubles or of values."""
        context, kernels = self._context, self._context.kernels
        basis, seed = context.basis(context.max_level), sampling.fresh_seed()
        (a,) = sampling.uniform(context, seed, basis)
        noisy = with_errors(context, message, sampling.errors(context)[0])
        values = context.residues((2, *a.shape))
        kernels.multiply_add(a, self.minus, noisy, basis, out=values[0])
        values[1] = a
        return Ciphertext(values, context.max_level, scale, seed)


class PublicEncryptor:
    """Encrypts with a public key."""

    def __init__(self, context: Context, zeros: Zeros) -> None:
        self._context = context
        self._zeros = zeros

    def encrypt(self, message: Message, scale: float) -> Ciphertext:
        """A fresh ciphertext at the highest level, of coefficients in doubles or of values."""
        context = self._context
        first = with_errors(context, message, sampling.errors(context)[0])
        return Ciphertext(self._zeros.encrypted(context.max_level, first), context.max_level, scale)


class Decryptor:
    """Decrypts, to coefficients."""

    def __init__(self, context: Context, secret: SecretKey) -> None:
        self._context = context
        self._key = secret

    def residues(self, ciphertext: Ciphertext | ShortCiphertext) -> Residues:
        """The message's coefficients modulo the primes of its level: (limbs, N)."""
        kernels, basis = self._context.kernels, self._context.basis(ciphertext.level)
        if isinstance(ciphertext, ShortCiphertext):
            return self._of_coefficients(*restored(self._context, ciphertext))
        first, second = ciphertext.values
        message = kernels.multiply_add(second, self._key.values[: len(basis)], first, basis)
        kernels.inverse(message, basis)
        return message

    def residues_of_many(self, ciphertexts: Sequence[Ciphertext] | Sequence[ShortCiphertext]) -> Residues:
        """The same of several of one level, all whole or all short: (count, limbs, N), in as many steps as for one."""
        kernels, basis = self._context.kernels, self._context.basis(ciphertexts[0].level)
        if isinstance(ciphertexts[0], ShortCiphertext):
            pairs = [restored(self._context, each) for each in ciphertexts]  # type: ignore[arg-type]
        else:
            pairs = [each.values for each in ciphertexts]  # type: ignore[union-attr]
        first, second = (self._context.copied(np.stack([pair[i] for pair in pairs])) for i in range(2))
        if isinstance(ciphertexts[0], ShortCiphertext):
            return self._of_coefficients(first, second)
        kernels.multiply_add(second, self._key.values[: len(basis)], first, basis, out=first)
        kernels.inverse(first, basis)
        return first

    def _of_coefficients(self, first: Residues, second: Residues) -> Residues:
        """Of polynomials at level 0 by their coefficients, which are overwritten: one of them needs no transform."""
        kernels, basis = self._context.kernels, self._context.basis(0)
        kernels.forward(second, basis)
        kernels.multiply(second, self._key.values[:1], basis, out=second)
        kernels.inverse(second, basis)
        return kernels.add(first, second, basis, out=first)

    def coefficients(self, ciphertext: Ciphertext | ShortCiphertext) -> Doubles:
        """The integers of least size that those are, in the last bits of doubles."""
        return self._context.kernels.to_doubles(self.residues(ciphertext), self._context.basis(ciphertext.level))
