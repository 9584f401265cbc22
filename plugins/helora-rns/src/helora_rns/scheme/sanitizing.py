"""Re-randomises and floods results, and hides unread places, as ``helora_core.backend.sanitize`` says, natively.

A flood is an integer of up to hundreds of bits a coefficient: normal variates of 46 bits, shifted, with uniform bits
below. A mask is normal noise in the slots that are not read; as coefficients it is in steps of 2^-50 or so of itself,
and uniform bits fill them where the flood does not. All are made residues at once, without integers of that length.
"""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from helora_core.backend.capabilities import Encoding
from helora_core.backend.protocol import Sanitizing
from helora_rns.kernels import Basis, Doubles, WordStream
from helora_rns.modular import Residues
from helora_rns.scheme import sampling
from helora_rns.scheme.ciphertexts import Ciphertext
from helora_rns.scheme.context import Context
from helora_rns.scheme.keys import PublicKey
from helora_rns.scheme.zeros import Zeros

NORMAL_BITS = 46
"""Bits of a flood that are normal: with the tail of the distribution, below 2^50."""

_WORD_BITS = 52
_SMOOTH_BITS = 3
"""A flood this many bits above the steps of a mask leaves no trace of them: e^(-2π²·4^3) is below 2^-1000."""


class _Part(NamedTuple):
    """A part of what is added to several ciphertexts: integers, (count, N), times 2^shift."""

    shift: int
    integers: Doubles


class Sanitizer:
    """Sanitises under one public key. Thread-safe."""

    def __init__(self, context: Context, key: PublicKey) -> None:
        self._context = context
        self.zeros = Zeros(context, key)

    def sanitized(self, ciphertext: Ciphertext, how: Sanitizing) -> Ciphertext:
        """The ciphertext plus a fresh encryption of zero and a flood, with places that are not kept hidden."""
        return self.sanitized_together([ciphertext], how)[0]

    def sanitized_together(self, ciphertexts: Sequence[Ciphertext], how: Sanitizing) -> list[Ciphertext]:
        """The same of several of one level, each with randomness of its own, in hardly more calls of the kernels."""
        context, kernels, level = self._context, self._context.kernels, ciphertexts[0].level
        basis, n = context.basis(level), context.ring_degree
        stream = kernels.stream(sampling.fresh_seed())
        parts = self._flood(stream, how, len(ciphertexts))
        zeros = [self.zeros.taken(level) for _ in ciphertexts]
        fresh = [i for i, zero in enumerate(zeros) if zero is None]
        if fresh:
            errors = kernels.binomial(stream.words(len(fresh) * n)).reshape(-1, n)
            for i, error in zip(fresh, errors, strict=True):
                integers = parts[-1].integers[i]
                integers += error
        noise = self._of_parts(parts, basis)
        if how.encoding is Encoding.COEFFICIENTS and how.keep is not None:
            hidden = kernels.uniform_polynomials([sampling.fresh_seed() for _ in ciphertexts], basis)
            kept = list(how.keep)
            hidden[:, :, kept] = noise[:, :, kept]
            noise = hidden
        kernels.forward(noise, basis)
        clean = [self._added(zero, own, each, level) for zero, own, each in zip(zeros, noise, ciphertexts, strict=True)]
        divided = self._divided(clean, ciphertexts, how.dropped)
        kernels.finish()  # zeros are another thread's, which may reuse their memory once this lets go of them
        return divided

    def _of_parts(self, parts: Sequence[_Part], basis: Basis) -> Residues:
        """What the parts add up to: (count, limbs, N)."""
        kernels, shifts = self._context.kernels, [part.shift for part in parts]
        each = [kernels.of_parts(own, shifts, basis) for own in zip(*(part.integers for part in parts), strict=True)]
        return each[0][np.newaxis] if len(each) == 1 else np.stack(each)

    def _added(self, zero: Residues | None, noise: Residues, ciphertext: Ciphertext, level: int) -> Residues:
        """A ciphertext, an encryption of zero and noise: (2, limbs, N)."""
        kernels, basis = self._context.kernels, self._context.basis(level)
        if zero is None:
            zero = self.zeros.encrypted(level, noise)
        else:
            kernels.add(zero[0], noise, basis, out=zero[0])
        return kernels.add(zero, ciphertext.values, basis, out=zero)

    def _divided(self, clean: Sequence[Residues], of: Sequence[Ciphertext], levels: int) -> list[Ciphertext]:
        """Divided by the primes of so many levels, all at once."""
        context, above = self._context, of[0].level
        level, divisors = above - levels, context.data_primes[above : above - levels : -1]
        if levels:
            whole = clean[0] if len(clean) == 1 else np.concatenate(clean)
            divided = context.kernels.mod_down(whole, context.basis(above), levels)
            clean = list(divided.reshape(len(clean), 2, level + 1, context.ring_degree))
        scales = [functools.reduce(operator.truediv, divisors, each.scale) for each in of]
        return [Ciphertext(values, level, scale) for values, scale in zip(clean, scales, strict=True)]

    def masked(self, ciphertext: Ciphertext) -> tuple[Ciphertext, Residues]:
        """The ciphertext plus a fresh encryption of zero and uniform integers, and those, on the host: (limbs, N)."""
        context, kernels, basis = self._context, self._context.kernels, self._context.basis(ciphertext.level)
        (mask,) = sampling.uniform(context, sampling.fresh_seed(), basis)
        values = context.copied(mask)
        kernels.forward(values, basis)
        zero = self.zeros.quiet(ciphertext.level)
        kernels.add(zero[0], values, basis, out=zero[0])
        kernels.add(zero, ciphertext.values, basis, out=zero)
        return Ciphertext(zero, ciphertext.level, ciphertext.scale), kernels.to_host(mask)

    def _flood(self, stream: WordStream, how: Sanitizing, count: int) -> list[_Part]:
        """Floods and masks of so many, the part that is shifted most first and one that is not shifted last."""
        kernels, n = self._context.kernels, self._context.ring_degree
        shift = max(0, how.flood_bits - NORMAL_BITS)
        normal = kernels.normal(stream.words(count * n)).reshape(count, n)
        normal *= 2.0 ** (how.flood_bits - shift)
        parts, filled = [_Part(shift, np.rint(normal, out=normal))], shift
        if how.encoding is Encoding.SLOTS and how.mask_bits:
            mask = self._mask(stream, how, count)
            parts.append(mask)
            if mask.shift + _SMOOTH_BITS > how.flood_bits:
                filled = max(filled, mask.shift)
        pieces = -(-filled // _WORD_BITS)
        bounds = [filled * i // pieces for i in range(pieces + 1)] if pieces else []
        for low, high in itertools.pairwise(bounds):
            drawn = kernels.random_bits(stream.words(count * n), high - low)
            parts.append(_Part(low, drawn.reshape(count, n)))
        return sorted(parts, key=lambda part: -part.shift)

    def _mask(self, stream: WordStream, how: Sanitizing, count: int) -> _Part:
        """Normal noise in imaginary parts and slots that are not kept, in steps that doubles resolve."""
        kernels, n = self._context.kernels, self._context.ring_degree
        # A coefficient's deviation is √(2/N) of a slot's, and is 2^50 steps at most.
        shift = max(0, how.mask_bits - (n.bit_length() - 2) // 2 - 50)
        slots = kernels.normal(stream.words(count * n)).view(np.complex128).reshape(count, n // 2)
        slots.real[:, slice(None) if how.keep is None else list(how.keep)] = 0.0
        factor = 2.0 ** (how.mask_bits - shift) / (n // 2)
        each = [kernels.slots_to_coefficients(own, factor) for own in slots]
        return _Part(shift, each[0][np.newaxis] if count == 1 else np.stack(each))
