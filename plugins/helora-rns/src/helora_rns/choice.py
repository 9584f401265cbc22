"""Which kernels run: the fastest that the CPU has, or those that ``HELORA_RNS_ISA`` names and no others."""

from __future__ import annotations

import functools
import os
import warnings

from helora_core.errors import BackendUnavailable
from helora_rns import compiled
from helora_rns.compiled import CompiledKernels
from helora_rns.kernels import Kernels
from helora_rns.reference import NumPyKernels

VARIABLE = "HELORA_RNS_ISA"


class SlowKernelsWarning(UserWarning):
    """The NumPy kernels run, since none are compiled."""


def available() -> tuple[str, ...]:
    """Kernel sets that run here, the slowest first."""
    return (NumPyKernels.name, *compiled.supported())


def chosen() -> str:
    """The set that runs.

    Raises:
        BackendUnavailable: ``HELORA_RNS_ISA`` names one that is unknown, not compiled, or beyond this CPU.
    """
    found, pinned = available(), os.environ.get(VARIABLE, "")
    if pinned and pinned not in found:
        known = pinned in compiled.SETS
        reason = "this CPU lacks it, or no kernels are compiled" if known else "there is no such kernel set"
        raise BackendUnavailable(
            f"helora-rns: {VARIABLE} asks for {pinned!r}, and {reason}.",
            hint=f"Unset it, or set it to one of {', '.join(found)}.",
        )
    return pinned or found[-1]


@functools.lru_cache(maxsize=64)
def _made(name: str, ring_degree: int, primes: tuple[int, ...]) -> Kernels:
    if name != NumPyKernels.name:
        return CompiledKernels(name, ring_degree, primes)
    if not compiled.supported():
        warnings.warn(
            "helora-rns: no compiled kernels; the NumPy ones are some fifty times slower. Install a C++ compiler, "
            "and helora-rns again.",
            SlowKernelsWarning,
            stacklevel=3,
        )
    return NumPyKernels(ring_degree, primes)


def kernels(ring_degree: int, primes: tuple[int, ...]) -> Kernels:
    """The chosen set for a ring; one object for all that ask."""
    return _made(chosen(), ring_degree, primes)
