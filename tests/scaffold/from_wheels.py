"""Installs helora from a folder of wheels, in an empty environment and outside the checkout, and uses it.

``python from_wheels.py WHEELS 3.12``: with that Python. Every extra resolves in the folder, those whose library has
wheels for this Python are installed, and the demo runs on the engine that the wheel brought along.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

EXTRAS = ("numpy", "rns", "cupy", "tenseal", "pyfhel", "openfhe", "lm", "serve", "proxy")
NEXT = "3.14"
"""No library has wheels for it yet: what needs none is resolved for it, and nothing is run."""


def main(wheels: Path, python: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}

    def run(*command: str, cwd: Path) -> str:
        print("$", *command, flush=True)
        done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{done.stdout}\n{done.stderr}")
        return done.stdout

    with tempfile.TemporaryDirectory(prefix="helora-install-") as folder:
        place = Path(folder)
        bin_of = place / "venv" / "bin"
        run("uv", "venv", "--quiet", "--python", python, "venv", cwd=place)
        for extra in EXTRAS:
            found = run("uv", "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--python-version", python,
                        "--find-links", str(wheels), _asked(place, extra), cwd=place)  # fmt: skip
            if "helora-core" not in found:
                sys.exit(f"extra {extra} does not resolve to this folder's helora-core:\n{found}")
        for extra in ("numpy", "rns", "serve"):
            run("uv", "pip", "compile", "--quiet", "--python-version", NEXT, "--find-links", str(wheels),
                _asked(place, extra), cwd=place)  # fmt: skip
        install = ("uv", "pip", "install", "--quiet", "--python", str(bin_of / "python"), "--find-links", str(wheels))
        run(*install, "helora-core[numpy,rns,tenseal,serve]", cwd=place)
        imports = "import helora_core, helora_rns, helora_serve; print(helora_rns.__file__)"
        where = run(str(bin_of / "python"), "-c", imports, cwd=place)
        if "site-packages" not in where:
            sys.exit(f"helora does not come from the wheels: {where}")
        run(str(bin_of / "helora"), "backends", cwd=place)
        said = run(str(bin_of / "helora"), "demo", "--module", "layers.0.*", "--backend", "rns", cwd=place)
        print(said.strip().splitlines()[-1])
        info = run(str(bin_of / "python"), "-m", "helora_rns.info", cwd=place)
        if "not compiled" in info:
            sys.exit(f"the wheel of helora-rns has no compiled kernels:\n{info}")
        run(str(bin_of / "helora"), "serve", "--help", cwd=place)
        print(f"installed and run with Python {python}")


def _asked(place: Path, extra: str) -> str:
    file = place / f"{extra}.in"
    file.write_text(f"helora-core[{extra}]\n", encoding="utf-8")
    return str(file)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), sys.argv[2])
