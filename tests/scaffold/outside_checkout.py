"""What a stranger does who has wheels and no checkout: takes a backend from the template, and follows the guide.

Builds helora-core as it is published (an sdist, and a wheel of that), and in directories and environments of their own
outside the checkout

1. renders the template, lints and type-checks it, builds its wheel, installs that next to the core's into an empty
   environment, and runs the kit by both doors;
2. follows docs/write-a-backend.md to the letter, from ``pip install`` to a wheel of a backend on SEAL.

Run it with ``python tests/scaffold/outside_checkout.py``. It needs a package index, for the dependencies.
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
    builder = Environment(place / "builder")
    builder.run("pip", "install", "--quiet", "build", cwd=place)
    builder.run("python", "-m", "build", "--outdir", str(place / "wheels"), str(ROOT), cwd=place)
    (wheel,) = (place / "wheels").glob("helora_core-*.whl")
    return wheel


def _render_and_conform(place: Path, core: Path) -> None:
    author = Environment(place / "author", core)
    author.run("pip", "install", "--quiet", "helora-core", "ruff", "mypy", cwd=place)
    installed = author.run("python", "-c", "import helora_core; print(helora_core.__file__)", cwd=place)
    if ROOT in Path(installed.strip()).parents:
        raise SystemExit(f"helora-core comes from the checkout: {installed}")
    author.run("helora", "new-backend", "stranger", cwd=place)
    plugin = place / "helora-stranger"
    author.run("ruff", "check", ".", cwd=plugin)
    author.run("ruff", "format", "--check", ".", cwd=plugin)
    author.run("mypy", cwd=plugin)
    author.run("pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(place / "wheels"), ".", cwd=plugin)
    (wheel,) = (place / "wheels").glob("helora_stranger-*.whl")
    user = Environment(place / "user", core)
    user.run("pip", "install", "--quiet", "helora-core[conformance]", str(wheel), cwd=place)
    print(user.run("helora", "conform", "stranger", "--thorough", cwd=place).splitlines()[-1])
    print(user.run("pytest", cwd=plugin).splitlines()[-1])


def _follow_the_guide(place: Path, core: Path) -> None:
    reader = Environment(place / "reader", core)
    desk = place / "desk"
    desk.mkdir()
    try:
        guide.follow(desk, reader.variables, timeout=600)
    except AssertionError as error:
        raise SystemExit(str(error)) from error


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="helora-outside-") as scratch:
        place = Path(scratch).resolve()
        if ROOT in place.parents:
            raise SystemExit(f"{place} is inside the checkout; set TMPDIR to some other place.")
        with _timed("build helora-core"):
            core = _build_core(place)
        with _timed("render the template, build its wheel, conform it"):
            _render_and_conform(place, core)
        with _timed("follow the guide"):
            _follow_the_guide(place, core)
    print(f"outside the checkout, on Python {sys.version.split()[0]}: everything worked")


if __name__ == "__main__":
    main()
