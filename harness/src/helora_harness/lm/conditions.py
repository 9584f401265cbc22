"""The conditions of a measurement made now."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

from helora_core.host.manager import get_manager
from helora_harness.bench.record import origin
from helora_harness.benchmarks.shim import library_of
from helora_harness.lm.figures import Conditions
from helora_harness.lm.requirements import require_packages
from helora_harness.machine import machine_facts

THREADS = ("HELORA_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def begin(
    backend: str, *, threads: int, link: str, base: Path | None = None, adapter: Path | None = None
) -> Callable[[], Conditions]:
    """Note the load of the machine now; what is returned gives the conditions at the end.

    Args:
        backend: Name of the backend, which must be usable here.
        threads: That torch and the engine may use.
        link: ``tcp`` or ``in-process``.
        base: The base model's folder, if one is run.
        adapter: The adapter's folder, if it is not synthetic.
    """
    before, of = _load(), origin()
    packages = require_packages() if base is not None else {}

    def end() -> Conditions:
        after = _load()
        return Conditions(
            commit=of.commit.hash,
            dirty=of.dirty,
            date=datetime.now(timezone.utc).replace(microsecond=0),
            **machine_facts(),
            load=None if before is None or after is None else (before, after),
            threads=threads,
            backend=backend,
            library=library(backend),
            packages=packages,
            link=link,
            model=base.name if base else "",
            adapter=digest(adapter) if adapter else "",
        )

    return end


def library(backend: str) -> str:
    """A backend's library and version."""
    return " ".join(library_of(get_manager(), backend))


def digest(adapter: Path) -> str:
    """SHA-256 of an adapter's weights in PEFT's folder; empty if it has no such file."""
    weights = adapter / "adapter_model.safetensors"
    return hashlib.sha256(weights.read_bytes()).hexdigest() if weights.is_file() else ""


def _load() -> float | None:
    return round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None
