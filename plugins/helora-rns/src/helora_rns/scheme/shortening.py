"""Results without low bits: their coefficients modulo the base prime, over a power of two and rounded.

Rounding is to the nearest, ties to even quotients: the polynomials of a clean result are uniform, so no mean is left.
A quotient whose multiple is the prime or more stands for zero, which is as close.
"""

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
        round_off(polynomial, bits, context.data_primes[0])
    return ShortCiphertext(coefficients, low_bits, ciphertext.scale)


def round_off(coefficients: Residues, bits: int, prime: int) -> None:
    """Replace coefficients below a prime by their quotients by 2^bits, with ``quotient · 2^bits`` below it too."""
    if not bits:
        return
    shift, most = np.uint64(bits), prime - 1 >> bits
    odd = coefficients >> shift
    odd &= np.uint64(1)
    coefficients += odd
    coefficients += np.uint64((1 << bits - 1) - 1)
    coefficients >>= shift
    if int(coefficients.max()) > most:  # once in many results, of the few coefficients next to the prime
        coefficients[coefficients > np.uint64(most)] = 0


def restored(context: Context, short: ShortCiphertext) -> Residues:
    """Coefficients, (2, 1, N), with zeros for the bits that are lost."""
    out = context.residues(short.quotients.shape)
    for polynomial, quotients, bits in zip(out, short.quotients, short.low_bits, strict=True):
        polynomial[...] = quotients << np.uint64(bits)
    return out
