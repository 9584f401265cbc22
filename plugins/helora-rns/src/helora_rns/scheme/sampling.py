"""Randomness: seeds from the operating system, expanded by ChaCha20 (RFC 8439).

A seed expands to a stream of 64-bit words, little-endian: the key stream under the seed as key and a nonce of 12 bytes,
the block counter beginning at zero; 2^32 blocks of 64 bytes are the most that one gives. Each pair of seed and nonce is
used for one stream. ChaCha20, since graphics cards and browsers have to expand the same seeds, and have no instruction
for AES. Uniform residues are words masked to their prime's bits, those
beyond the prime left out; errors are centred binomial, of 21 coins against 21, whose standard deviation is 3.24;
secrets are uniform over -1, 0 and 1.
"""

from __future__ import annotations

from helora_rns.chacha20 import NONCE_BYTES, SEED_BYTES, Stream, fresh_seed
from helora_rns.kernels import Basis, Doubles, WordStream
from helora_rns.modular import Residues
from helora_rns.scheme.context import Context

__all__ = ["NONCE_BYTES", "SEED_BYTES", "Stream", "errors", "fresh_seed", "ternary", "ternary_of", "uniform"]


def uniform(context: Context, seed: bytes, basis: Basis, count: int = 1) -> Residues:
    """Uniform polynomials, (count, limbs, N), of one seed. The same seed gives the same anywhere.

    The stream is consumed in order: row after row, as many words as each row takes.
    """
    return context.kernels.uniform_polynomials([seed], basis, count)


def errors(context: Context, count: int = 1) -> Doubles:
    """``count`` error polynomials, (count, N), in doubles."""
    n, kernels = context.ring_degree, context.kernels
    return kernels.binomial(kernels.stream(fresh_seed()).words(count * n)).reshape(count, n)


def ternary_of(context: Context, stream: WordStream) -> Doubles:
    """A polynomial whose coefficients are uniform over -1, 0 and 1, in doubles, of a stream."""
    out, found = context.doubles((context.ring_degree,)), 0
    while found < out.size:
        # Three of four pairs of bits are taken; a few more words make a second round rare.
        found += context.kernels.ternary(stream.words((out.size - found) // 24 + 12), out[found:])
    return out


def ternary(context: Context, seed: bytes) -> Doubles:
    """The same of a seed."""
    return ternary_of(context, context.kernels.stream(seed))
