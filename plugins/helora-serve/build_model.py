"""Compiles the base model's kernels to WebAssembly: ``python build_model.py``, by ``ziglang`` from PyPI alone.

The result is committed, since a wheel must hold it and users have no compiler for it; a test compiles it again and
compares the bytes.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
SOURCE = HERE / "native" / "model.cpp"
KERNELS = HERE / "src" / "helora_serve" / "web" / "model" / "kernels.wasm"

FLAGS = [
    "-target", "wasm32-freestanding", "-nostdlib", "-std=c++17", "-O3", "-msimd128", "-ffp-contract=off",
    "-fno-exceptions", "-fno-rtti", "-fno-math-errno", "-fvisibility=hidden", "-Wall", "-Wextra",
    "-Wl,--no-entry", "-Wl,--export-dynamic", "-Wl,--import-memory", "-Wl,--strip-all",
]  # fmt: skip


def compile_kernels(out: Path) -> None:
    """Write the kernels to a file."""
    command = [sys.executable, "-m", "ziglang", "c++", *FLAGS, SOURCE.name, "-o", str(out)]
    subprocess.run(command, cwd=SOURCE.parent, check=True)  # from there, so that no path gets into the bytes


if __name__ == "__main__":
    compile_kernels(KERNELS)
    print(f"{KERNELS}: {KERNELS.stat().st_size} bytes")
