"""Builds, installs and removes the distributions of a commit for asv, which only supports one per project.

``benchmarks_build.py CHECKOUT WHEELS`` builds core and the plugins that the commit has, ``--install WHEELS`` installs
them together, ``--uninstall`` removes all that are there: a plugin of a newer commit must not stay for an older one.
Standard library only: it runs in asv's environment, where nothing else may be.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path


def build(checkout: Path, wheels: Path) -> None:
    """Make a wheel of each distribution."""
    shutil.rmtree(wheels, ignore_errors=True)
    roots = [checkout, *sorted(path.parent for path in checkout.glob("plugins/helora-*/pyproject.toml"))]
    for root in roots:
        # The first commits name files that were added later, which the build refuses.
        for name in ("README.md", "LICENSE"):
            (root / name).touch()
        _run("build", "--wheel", "--no-isolation", "--outdir", str(wheels), str(root))


def install(wheels: Path) -> None:
    """Install them, with their dependencies from the index."""
    _run("pip", "install", "-q", *(str(wheel) for wheel in sorted(wheels.glob("*.whl"))))


def uninstall() -> None:
    """Remove every distribution of helora."""
    names = {name for each in distributions() if (name := each.metadata["Name"] or "").startswith("helora-")}
    if names:
        _run("pip", "uninstall", "-q", "-y", *sorted(names))


def _run(*module: str) -> None:
    subprocess.run([sys.executable, "-m", *module], check=True)


def main() -> None:
    """Run the command line."""
    match sys.argv[1:]:
        case ["--uninstall"]:
            uninstall()
        case ["--install", wheels]:
            install(Path(wheels))
        case [checkout, wheels]:
            build(Path(checkout), Path(wheels))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
