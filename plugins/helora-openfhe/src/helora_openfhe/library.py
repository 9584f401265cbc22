"""Imports OpenFHE with the threads under control.

Left alone it starts a thread a core for loops of microseconds, which on a small machine makes rotations several times
slower. One thread is the default here; ``HELORA_OPENFHE_THREADS``, or ``OMP_NUM_THREADS`` itself, sets another number.
OpenMP reads its variable once, when the library is loaded: after that nothing changes it.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", os.environ.get("HELORA_OPENFHE_THREADS", "1"))

import openfhe

__all__ = ["openfhe"]
