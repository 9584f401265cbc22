"""Imports OpenFHE with a set number of threads.

By default it starts a thread per core for loops of microseconds, which on a small machine makes rotations several times
slower. One thread is the default here; ``HELORA_OPENFHE_THREADS``, or ``OMP_NUM_THREADS`` itself, sets another number.
OpenMP reads its variable once, when the library is loaded: later changes have no effect.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", os.environ.get("HELORA_OPENFHE_THREADS", "1"))

import openfhe

__all__ = ["openfhe"]
