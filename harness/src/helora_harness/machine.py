"""The machine in a measurement's provenance: a hardware class and a CPU model, never a host's name."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def machine_facts() -> dict[str, str]:
    """``machine``, ``cpu_model``, ``python`` and ``os`` of ``Provenance``."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return {
        "machine": f"{platform.machine()}-{cores}c",
        "cpu_model": _cpu_model(),
        "python": platform.python_version(),
        "os": platform.system(),
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())
