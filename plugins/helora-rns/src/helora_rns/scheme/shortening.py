"""Results without low bits: their coefficients modulo the base prime, over a power of two and rounded."""

from __future__ import annotations

import numpy as np

from helora_rns.modular import Residues
from helora_rns.scheme.ciphertexts import Ciphertext, ShortCiphertext
from helora_rns.scheme.context import Context


def shortened(context: Context, ciphertext: Ciphertext, low_bits: tuple[int, int]) -> ShortCiphertext:
    """A result at level 0 without so many low bits of its two polynomials."""
    coefficients = context.copied(ciphertext.values)
    context.kernels.inverse(coefficients, context.basis(0))
    for polynomial, bits in zip(coefficients, low_bits, strict=True):
        context.kernels.round_off(polynomial, bits, context.data_primes[0])
    return ShortCiphertext(coefficients, low_bits, ciphertext.scale)


def restored(context: Context, short: ShortCiphertext) -> Residues:
    """Coefficients, (2, 1, N), with zeros for the bits that are lost."""
    out = context.residues(short.quotients.shape)
    for polynomial, quotients, bits in zip(out, short.quotients, short.low_bits, strict=True):
        polynomial[...] = quotients << np.uint64(bits)
    return out
