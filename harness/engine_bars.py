"""Holds ``helora-rns`` to its bars: ``python harness/engine_bars.py``; ``--help`` says what else there is.

One thread, and no kernel of BLAS that the environment chose: set before NumPy is loaded.
"""

from __future__ import annotations

import os

os.environ.pop("OPENBLAS_CORETYPE", None)
for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "HELORA_THREADS"):
    os.environ.setdefault(variable, "1")

from helora_harness.engine.table import main  # noqa: E402 - the environment first

if __name__ == "__main__":
    main()
