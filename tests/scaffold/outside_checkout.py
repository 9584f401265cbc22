"""What a stranger does who has wheels and no checkout: takes a backend from the template, and follows the guide.

Builds helora-core as it is published (an sdist, and a wheel of that), and in directories and environments of their own
outside the checkout

1. renders the template, builds its wheel, installs that next to the core's into an empty environment, runs the kit by
   both doors, lints and type-checks;
2. follows docs/write-a-backend.md to the letter, from ``pip install`` to a wheel of a backend on SEAL.

The two run side by side, and what each printed is shown when both have ended. Run it with
``python tests/scaffold/outside_checkout.py``; ``HELORA_THOROUGH=1`` adds the slow laws. It needs uv, and a package
index for the dependencies.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import guide

ROOT = Path(__file__).resolve().parents[2]

_DONE = """
import pathlib, sys
from helora_core.host.manager import get_manager
from helora_core.host.scaffold import left_to_fill_in
acme = get_manager().backends()["acme"]
assert acme.availability is None and acme.spec.provides_security
sys.exit("\\n".join(map(str, left_to_fill_in(pathlib.Path(sys.argv[1])))) or 0)
"""
"""Fails where the guide's backend is an emulation, or something is left to fill in."""


class Environment:
    """A virtual environment with nothing in it but pip, which takes helora-core from ``core``, the wheel."""

    def __init__(self, folder: Path, core: Path | None = None) -> None:
        venv.create(folder, with_pip=True)
        self._scripts = folder / ("Scripts" if os.name == "nt" else "bin")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "HELORA_"))}
        self.variables = {**inherited, "PATH": f"{self._scripts}{os.pathsep}{os.environ['PATH']}"}
        self.variables.pop("VIRTUAL_ENV", None)
        if core is not None:
            # The version is pinned as well: an index may have another.
            constraints = folder / "constraints.txt"
            constraints.write_text("helora-core=={}\n".format(core.name.split("-")[1]), encoding="utf-8")
            self.variables["PIP_CONSTRAINT"] = str(constraints)
            links = (os.environ.get("PIP_FIND_LINKS", ""), str(core.parent))
            self.variables["PIP_FIND_LINKS"] = " ".join(filter(None, links))

    def run(self, *command: str, cwd: Path) -> str:
        """Run a command of this environment.

        Raises:
            SystemExit: It failed; what it printed is the message.
        """
        print("$", *command, flush=True)
        executable = self._scripts / command[0]
        done = subprocess.run(
            [executable, *command[1:]],
            cwd=cwd,
            env=self.variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
        )
        if done.returncode:
            raise SystemExit(f"{done.stdout}\n{' '.join(command)}: exit status {done.returncode}")
        return done.stdout


@contextmanager
def _timed(what: str) -> Iterator[None]:
    print(f"== {what}", flush=True)
    start = time.monotonic()
    yield
    print(f"-- {time.monotonic() - start:.0f} s", flush=True)


def _build_core(place: Path) -> Path:
    """The wheel of helora-core, made of its sdist."""
    subprocess.run(["uv", "build", "--quiet", "--out-dir", str(place / "wheels"), str(ROOT)], check=True, timeout=600)
    (wheel,) = (place / "wheels").glob("helora_core-*.whl")
    return wheel


def _render_and_conform(place: Path, core: Path) -> None:
    user = Environment(place / "user", core)
    user.run("pip", "install", "--quiet", "helora-core", cwd=place)
    installed = user.run("python", "-c", "import helora_core; print(helora_core.__file__)", cwd=place)
    if ROOT in Path(installed.strip()).parents:
        raise SystemExit(f"helora-core comes from the checkout: {installed}")
    user.run("helora", "new-backend", "stranger", cwd=place)
    plugin = place / "helora-stranger"
    wheels = place / "stranger-wheels"
    user.run("pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(wheels), ".", cwd=plugin)
    (wheel,) = wheels.glob("helora_stranger-*.whl")
    user.run("pip", "install", "--quiet", "helora-core[conformance]", str(wheel), cwd=place)
    thorough = ["--thorough"] if os.environ.get("HELORA_THOROUGH") == "1" else []
    print(user.run("helora", "conform", "stranger", *thorough, cwd=place).splitlines()[-1])
    print(user.run("pytest", cwd=plugin).splitlines()[-1])
    user.run("pip", "install", "--quiet", "ruff", "mypy", cwd=place)  # last: what was tested had no more than it needs
    user.run("ruff", "check", ".", cwd=plugin)
    user.run("ruff", "format", "--check", ".", cwd=plugin)
    user.run("mypy", cwd=plugin)


def _follow_the_guide(place: Path, core: Path) -> None:
    reader = Environment(place / "reader", core)
    desk = place / "desk"
    desk.mkdir()
    try:
        folder = guide.follow(desk, reader.variables, timeout=600)
    except AssertionError as error:
        raise SystemExit(str(error)) from error
    if folder != desk / "helora-acme":
        raise SystemExit(f"the guide ends in {folder}")
    reader.run("python", "-c", _DONE, str(folder), cwd=place)


PARTS = {"template": _render_and_conform, "guide": _follow_the_guide}


def _both(place: Path, core: Path) -> None:
    """The parts side by side, each in a process of its own."""
    running = {}
    for part in PARTS:
        with (place / f"{part}.log").open("w") as log:
            command = [sys.executable, __file__, part, str(place), str(core)]
            running[part] = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    failed = [part for part, process in running.items() if process.wait()]
    for part in running:
        print((place / f"{part}.log").read_text(encoding="utf-8"), flush=True)
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


def main() -> None:
    if len(sys.argv) > 1:
        part, place, core = sys.argv[1:]
        with _timed(part):
            PARTS[part](Path(place), Path(core))
        return
    with tempfile.TemporaryDirectory(prefix="helora-outside-") as scratch:
        place = Path(scratch).resolve()
        if ROOT in place.parents:
            raise SystemExit(f"{place} is inside the checkout; set TMPDIR to some other place.")
        with _timed("build helora-core"):
            core = _build_core(place)
        with _timed("template and guide"):
            _both(place, core)
    print(f"outside the checkout, on Python {sys.version.split()[0]}: everything worked")


if __name__ == "__main__":
    main()
