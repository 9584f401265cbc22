"""Re-randomises and floods results, and hides unread places, as ``helora_core.backend.sanitize`` says, natively.

A flood is an integer of up to hundreds of bits a coefficient: normal variates of 46 bits, shifted, with uniform bits
below. A mask is normal noise in the slots that are not read; as coefficients it is in steps of 2^-50 or so of itself,
and uniform bits fill them where the flood does not. All are made residues at once, without integers of that length.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np

from helora_core.backend.capabilities import Encoding
from helora_core.backend.protocol import Sanitizing
from helora_rns.kernels import Doubles, WordStream
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
    shift: int
    integers: Doubles


class Sanitizer:
    """Sanitises under one public key. Thread-safe."""

    def __init__(self, context: Context, key: PublicKey) -> None:
        self._context = context
        self.zeros = Zeros(context, key)

    def sanitized(self, ciphertext: Ciphertext, how: Sanitizing) -> Ciphertext:
        """The ciphertext plus a fresh encryption of zero and a flood, with places that are not kept hidden."""
        context, kernels, basis = self._context, self._context.kernels, self._context.basis(ciphertext.level)
        stream = kernels.stream(sampling.fresh_seed())
        parts = self._flood(stream, how)
        zero = self.zeros.taken(ciphertext.level)
        if zero is None:
            error = kernels.binomial(stream.words(context.ring_degree))
            parts[-1].integers[...] += error
        noise = kernels.of_parts([part.integers for part in parts], [part.shift for part in parts], basis)
        if how.encoding is Encoding.COEFFICIENTS and how.keep is not None:
            (hidden,) = sampling.uniform(context, sampling.fresh_seed(), basis)
            kept = list(how.keep)
            hidden[:, kept] = noise[:, kept]
            noise = hidden
        kernels.forward(noise, basis)
        if zero is None:
            zero = self.zeros.encrypted(ciphertext.level, noise)
        else:
            kernels.add(zero[0], noise, basis, out=zero[0])
        clean = kernels.add(zero, ciphertext.values, basis, out=zero)
        return self._divided(Ciphertext(clean, ciphertext.level, ciphertext.scale), how.dropped)

    def _divided(self, clean: Ciphertext, levels: int) -> Ciphertext:
        """Divided by the primes of so many levels, all at once."""
        if not levels:
            return clean
        context, level, scale = self._context, clean.level - levels, clean.scale
        for prime in context.data_primes[clean.level : level : -1]:
            scale /= prime
        return Ciphertext(context.kernels.mod_down(clean.values, context.basis(clean.level), levels), level, scale)

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

    def _flood(self, stream: WordStream, how: Sanitizing) -> list[_Part]:
        """Flood and mask, the part that is shifted most first and one that is not shifted last."""
        kernels, n = self._context.kernels, self._context.ring_degree
        shift = max(0, how.flood_bits - NORMAL_BITS)
        normal = kernels.normal(stream.words(n))
        normal *= 2.0 ** (how.flood_bits - shift)
        parts, filled = [_Part(shift, np.rint(normal, out=normal))], shift
        if how.encoding is Encoding.SLOTS and how.mask_bits:
            mask = self._mask(stream, how)
            parts.append(mask)
            if mask.shift + _SMOOTH_BITS > how.flood_bits:
                filled = max(filled, mask.shift)
        count = -(-filled // _WORD_BITS)
        bounds = [filled * i // count for i in range(count + 1)] if count else []
        for low, high in itertools.pairwise(bounds):
            parts.append(_Part(low, kernels.random_bits(stream.words(n), high - low)))
        return sorted(parts, key=lambda part: -part.shift)

    def _mask(self, stream: WordStream, how: Sanitizing) -> _Part:
        """Normal noise in imaginary parts and slots that are not kept, in steps that doubles resolve."""
        kernels, n = self._context.kernels, self._context.ring_degree
        # A coefficient's deviation is √(2/N) of a slot's, and is 2^50 steps at most.
        shift = max(0, how.mask_bits - (n.bit_length() - 2) // 2 - 50)
        slots = kernels.normal(stream.words(n)).view(np.complex128)
        slots.real[slice(None) if how.keep is None else list(how.keep)] = 0.0
        return _Part(shift, kernels.slots_to_coefficients(slots, 2.0 ** (how.mask_bits - shift) / (n // 2)))
