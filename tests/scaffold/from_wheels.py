"""Installs helora as docs/install.md says, from a folder of wheels, into an empty environment of each Python given.

Beside the folder somebody else has our names, in higher versions, as an index might: they must not come in, neither by
exact versions nor by names of files.
``python tests/scaffold/from_wheels.py [--wheels DIR] 3.10 3.13``; it needs uv, and an index for the dependencies.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXTRAS = (
    "numpy",
    "rns",
    "tenseal",
    "openfhe",
    "cuda12",
    "cuda13",
    "lm",
    "serve",
    "proxy",
    "keys",
    "conformance",
    "all",
)
"""Those of other libraries than torch that an index has for each Python; Pyfhel's is published as source."""


def run(*command: str | Path, cwd: Path) -> str:
    """Run it outside the checkout.

    Raises:
        SystemExit: It failed; what it printed is the message.
    """
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "HELORA_", "VIRTUAL_ENV", "UV_CONSTR"))}
    done = subprocess.run(
        command, cwd=cwd, env=kept, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600
    )
    if done.returncode:
        raise SystemExit(f"{done.stdout}\n{' '.join(map(str, command))}: exit status {done.returncode}")
    return done.stdout


def squat(folder: Path, name: str, version: str, tag: str = "py3-none-any") -> None:
    """A stranger's wheel: nothing but metadata."""
    stem = f"{name.replace('-', '_')}-{version}"
    with zipfile.ZipFile(folder / f"{stem}-{tag}.whl", "w") as wheel:
        info = f"{stem}.dist-info"
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nSummary: squat\n")
        wheel.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n")
        wheel.writestr(f"{info}/RECORD", "")


def ours(wheels: Path) -> Iterator[tuple[str, str]]:
    """Names and versions in a folder of wheels."""
    for wheel in sorted(wheels.glob("helora_*.whl")):
        name, version = wheel.name.split("-")[:2]
        yield name.replace("_", "-"), version


def tried(version: str, wheels: Path, strangers: Path, place: Path) -> None:
    """The page's lines under one Python."""
    (release,) = {each for _, each in ours(wheels)}
    for number, what in enumerate(("pinned", "files")):
        environment = place / f"{version}-{number}"
        run("uv", "venv", "--quiet", "--seed", "--python", version, environment, cwd=place)
        scripts = environment / ("Scripts" if os.name == "nt" else "bin")
        pinned = ["--find-links", str(wheels), f"helora-core[rns]=={release}"]
        files = [str(file) for name in ("core", "rns") for file in wheels.glob(f"helora_{name}-*.whl")]
        asked = pinned if what == "pinned" else files
        run(scripts / "python", "-m", "pip", "install", "--quiet", "--find-links", strangers, *asked, cwd=place)
        shown = run(scripts / "python", "-m", "pip", "show", "helora-core", "helora-rns", cwd=place)
        if "squat" in shown or shown.count(f"Version: {release}") != 2:
            raise SystemExit(f"{version}, {what}: somebody else's package came in\n{shown}")
        demo = run(scripts / "helora", "demo", "--module", "layers.0.*", "--backend", "rns", cwd=place)
        where = run(scripts / "python", "-c", "import helora_core; print(helora_core.__file__)", cwd=place)
        if "site-packages" not in where or "q_proj" not in demo:
            raise SystemExit(f"{version}: not from the wheels, or no demo: {where}\n{demo}")
        line = run(
            scripts / "python", "-c", "from helora_core.installing import *; print(install_line('keys'))", cwd=place
        )
        print(f"{version}, {what}: installed, ran the demo; its hints say {line.strip()}", flush=True)
    for extra in EXTRAS:
        run("uv", "pip", "compile", "--quiet", "--python-version", version, "--find-links", wheels, "--output-file",
            place / "out.txt", write(place / "in.txt", f"helora-core[{extra}]=={release}\n"), cwd=place)  # fmt: skip
    print(f"{version}: {', '.join(EXTRAS)} resolve", flush=True)


def write(path: Path, text: str) -> Path:
    """The path, with that in it."""
    path.write_text(text, encoding="utf-8")
    return path


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wheels", type=Path, help="a folder that is there already")
    parser.add_argument("pythons", nargs="+")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        wheels = asked.wheels.resolve() if asked.wheels else place / "wheels"
        if not asked.wheels:
            run("uv", "build", "--quiet", "--all-packages", "--wheel", "--out-dir", wheels, ROOT, cwd=place)
        strangers = place / "strangers"
        strangers.mkdir()
        for project, _ in ours(wheels):
            squat(strangers, project, "99.0")
        for version in asked.pythons:
            tried(version, wheels, strangers, place)


if __name__ == "__main__":
    main()
