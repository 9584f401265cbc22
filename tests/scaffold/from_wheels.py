"""Installs helora as docs/install.md says, from a folder of wheels, into an empty environment of each Python given.

Beside the folder somebody else has our names, in higher versions, as an index might: they must not come in, neither by
exact versions nor by names of files.
A Python that this machine lacks has what it would install resolved alone, and the last line says so. ``--checkout DIR``
installs by pip from that checkout too, which compiles the engine for each Python.
``python tests/scaffold/from_wheels.py [--wheels DIR] 3.10 3.13``; it needs uv, and an index for the dependencies.
"""

from __future__ import annotations

import argparse
import os
import re
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


OPENFHE = "3.10"
"""The Python that helora-openfhe takes the library for; the plugin says so elsewhere."""


def run(*command: str | Path, cwd: Path, fails: bool = False) -> str:
    """Run it outside the checkout, and give what it printed.

    Raises:
        SystemExit: It failed, or did not though it should; what it printed is the message.
    """
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "HELORA_", "VIRTUAL_ENV", "UV_CONSTR"))}
    done = subprocess.run(
        command, cwd=cwd, env=kept, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600
    )
    if bool(done.returncode) != fails:
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
    environment = place / f"{version}-0"
    python = environment / ("Scripts" if os.name == "nt" else "bin") / "python"
    run("uv", "pip", "install", "--quiet", "--python", python, "--find-links", wheels,
        f"helora-core[openfhe,tenseal]=={release}", cwd=place)  # fmt: skip
    helora = python.with_name("helora")
    run(helora, "demo", "--module", "layers.0.*", "--backend", "tenseal", cwd=place)
    shown = " ".join(run(helora, "backends", cwd=place).split())
    if (version == OPENFHE) == (f"the library openfhe is not installed: with Python {OPENFHE}," in shown):
        raise SystemExit(f"{version}: nothing says rightly why OpenFHE is not there, or it is\n{shown}")
    print(f"{version}: tenseal ran; openfhe {'is there' if version == OPENFHE else 'says why it is not'}", flush=True)


def resolved(version: str, wheels: Path, place: Path) -> None:
    """Every extra within the folder, and an index for the libraries; Pyfhel is refused by name where no wheel is."""
    (release,) = {each for _, each in ours(wheels)}
    common = ("uv", "pip", "compile", "--quiet", "--python-version", version, "--find-links", wheels, "--output-file",
              place / "out.txt", place / "in.txt")  # fmt: skip
    for extra in EXTRAS:
        write(place / "in.txt", f"helora-core[{extra}]=={release}\n")
        run(*common, cwd=place)
        found = set(re.findall(r"(?m)^(helora-[\w-]+)==(\S+)", (place / "out.txt").read_text()))
        if {each for _, each in found} != {release}:
            raise SystemExit(f"{version}, {extra}: other versions of ours than {release}: {sorted(found)}")
    write(place / "in.txt", f"helora-core[pyfhel]=={release}\n")
    refused = " ".join(run(*common, "--only-binary", "pyfhel", cwd=place, fails=True).lower().split())
    if not re.search("pyfhel.* (has|have) no .*wheels", refused):
        raise SystemExit(f"{version}: not a refusal that names Pyfhel and wheels\n{refused}")
    print(f"{version}: {', '.join(EXTRAS)} resolve; pyfhel without a wheel is refused by name", flush=True)


def from_checkout(version: str, checkout: Path, place: Path) -> None:
    """The page's line for pip, in a checkout."""
    environment = place / f"{version}-checkout"
    run("uv", "venv", "--quiet", "--seed", "--python", version, environment, cwd=place)
    scripts = environment / ("Scripts" if os.name == "nt" else "bin")
    run(scripts / "python", "-m", "pip", "install", "--quiet", "-e", ".", "-e", "plugins/helora-rns", cwd=checkout)
    demo = run(scripts / "helora", "demo", "--module", "layers.0.*", "--backend", "rns", cwd=place)
    if "q_proj" not in demo:
        raise SystemExit(f"{version}, checkout: no demo\n{demo}")
    print(f"{version}, checkout: installed by pip, ran the demo", flush=True)


def there_is(version: str) -> bool:
    """Whether this machine has that Python."""
    return (
        subprocess.run(["uv", "python", "find", "--quiet", "--no-project", version], capture_output=True).returncode
        == 0
    )


def write(path: Path, text: str) -> Path:
    """The path, with that in it."""
    path.write_text(text, encoding="utf-8")
    return path


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wheels", type=Path, help="a folder that is there already")
    parser.add_argument("--checkout", type=Path, help="installed from by pip too")
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
            resolved(version, wheels, place)
            if not there_is(version):
                print(f"{version}: this machine has no such Python: resolved, and not installed", flush=True)
                continue
            tried(version, wheels, strangers, place)
            if asked.checkout:
                from_checkout(version, asked.checkout.resolve(), place)


if __name__ == "__main__":
    main()
