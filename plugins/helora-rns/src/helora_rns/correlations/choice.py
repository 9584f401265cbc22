"""Which word kernels run: those of the kernel set that the ring has."""

from __future__ import annotations

from helora_rns.compiled import CompiledKernels
from helora_rns.correlations.compiled import CompiledWords
from helora_rns.correlations.kernels import WordKernels
from helora_rns.correlations.reference import NumPyWords
from helora_rns.correlations.ring import WordRing


def word_kernels(ring: WordRing) -> WordKernels:
    """The word kernels of a ring."""
    return CompiledWords(ring, ring.kernels) if isinstance(ring.kernels, CompiledKernels) else NumPyWords(ring)
