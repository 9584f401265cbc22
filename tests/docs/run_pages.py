"""Runs a page as a reader would: block by block, in a checkout of its own and the environment that the page makes.

``sh`` blocks run in order, each in ``bash -e`` in the directory that the one before ended in; what they leave in the
background runs until the page ends. ``python`` blocks run in one namespace, by the Python of the page's environment. A
block whose first line is a comment that names a file goes at the end of that file.

``pip`` is ``uv pip`` there, which keeps what it downloaded, and compiled kernels are kept in ``HELORA_OBJECTS``. What a
page installs that is not published yet is found among the wheels of this checkout, in ``HELORA_WHEELHOUSE``, which its
shell knows as ``WHEELS``.
``pages.toml`` says for each page what it takes for granted, what serves and goes on, and what is not run, and why.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.docs.command_lines import ROOT, Block, blocks, typed

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LISTED = Path(__file__).parent / "pages.toml"
GROUPS = ("fast", "slow", "torch", "elsewhere")
PATIENCE = 600.0
"""Seconds that a block may take."""

_COMPILER = Path(__file__).parent / "cached_compiler.py"
_INTERPRETER = """
import json, sys, traceback
namespace = {"__name__": "__main__"}
answers, sys.stdout = sys.stdout, sys.stderr
for line in sys.stdin:
    try:
        exec(compile(json.loads(line), "<page>", "exec"), namespace)
        failure = None
    except BaseException:
        failure = traceback.format_exc()
    print(json.dumps(failure), file=answers, flush=True)
"""


class PageFailed(AssertionError):
    """A block did not do what the page says."""


@dataclass(frozen=True)
class Page:
    """How a page is run, as ``pages.toml`` has it.

    Attributes:
        group: When it is run: ``fast``, ``slow``, or ``elsewhere``, not by this.
        reason: Why ``elsewhere``.
        python: The Python of its environment; empty for the one that runs this.
        install: The installation that the page takes for granted, or none.
        given: Shell commands that make what the page takes for granted.
        given_python: The same for its Python.
        instead: Texts of the page, and what is run in their place.
        serves: First lines of blocks whose last command goes on, and a command that succeeds once it answers.
        not_run: First lines of blocks that are not run, and why.
        text: Blocks of text that are not the output of a command: how many, and what they are.
    """

    group: str
    reason: str = ""
    python: str = ""
    install: str = ""
    given: str = ""
    given_python: str = ""
    instead: dict[str, str] = field(default_factory=dict)
    serves: dict[str, str] = field(default_factory=dict)
    not_run: dict[str, str] = field(default_factory=dict)
    text: dict[str, Any] = field(default_factory=dict)

    def why_not(self, block: Block) -> str | None:
        """Why a block is not run, or None if it is."""
        if typed(block.language, block.text) is None and block.language != "python":
            return "not a command"
        return next((why for first, why in self.not_run.items() if block.first.startswith(first)), None)


def listed() -> dict[str, Page]:
    """Every page that has commands or snippets, by its path."""
    found = tomllib.loads(LISTED.read_text(encoding="utf-8"))
    return {name: Page(**{key.replace("-", "_"): value for key, value in each.items()}) for name, each in found.items()}


class Reader:
    """One reader of one page, with a checkout, an environment and a directory. Use it in a ``with`` statement."""

    def __init__(self, folder: Path, python: str = "") -> None:
        self.folder = folder
        self._version = python or sys.executable
        self.checkout = folder / "helora"
        self.cwd = self.checkout
        self._environment = folder / "environment"
        self._background: list[subprocess.Popen[bytes]] = []
        self._python: subprocess.Popen[str] | None = None

    def __enter__(self) -> Reader:
        # With its history, which some commands of the harness ask for, and with what is not committed yet.
        subprocess.run(["git", "clone", "-q", "--no-checkout", str(ROOT), str(self.checkout)], check=True)
        files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.split(b"\0")
        for name in filter(None, map(os.fsdecode, files)):
            if (ROOT / name).is_file():
                (self.checkout / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, self.checkout / name)
        author = ["-c", "user.name=a", "-c", "user.email=a@b"]
        for command in (["add", "-A"], [*author, "commit", "-q", "--allow-empty", "-m", "a"]):
            subprocess.run(["git", *command], cwd=self.checkout, check=True, capture_output=True)
        subprocess.run(["uv", "venv", "-q", "-p", self._version, str(self._environment)], check=True)
        programs = self._environment / "bin"
        (programs / "pip").write_text(f'#!/bin/sh\nexec {shutil.which("uv")} pip "$@"\n', encoding="utf-8")
        (programs / "c++-cached").write_text(f'#!/bin/sh\nexec {sys.executable} {_COMPILER} "$@"\n', encoding="utf-8")
        for name in ("pip", "c++-cached"):
            (programs / name).chmod(0o755)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._python is not None:
            with self._python:  # closes its pipes
                self._python.kill()
        for process in self._background:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    def variables(self) -> dict[str, str]:
        """What the reader's shell has: nothing of helora's, nor of the environment that this runs in."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("HELORA_", "PYTEST_"))}
        for name in ("PYTHONPATH", "UV_PYTHON", "UV_PROJECT_ENVIRONMENT"):
            kept.pop(name, None)
        objects = Path(os.environ.get("HELORA_OBJECTS", self.folder / "objects"))
        objects.mkdir(parents=True, exist_ok=True)
        settings = self.folder / "settings"
        settings.mkdir(exist_ok=True)
        (settings / "empty.toml").touch()
        kept |= {
            "VIRTUAL_ENV": str(self._environment), "CXX": "c++-cached", "HELORA_OBJECTS": str(objects),
            "PATH": os.pathsep.join([str(self._environment / "bin"), *_without_helora(kept["PATH"])]),
            "HELORA_CONFIG": str(settings / "empty.toml"), "HELORA_PROFILES": str(settings / "profiles"),
            "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(settings / "cache"), "UV_CACHE_DIR": _uv_cache(),
        }  # fmt: skip
        # uv does not read pip's settings, and torch's build for CPUs is a wheel that those name on some machines.
        wheels = [os.environ.get("HELORA_WHEELHOUSE", ""), *os.environ.get("PIP_FIND_LINKS", "").split()]
        kept |= {"UV_FIND_LINKS": ",".join(filter(None, wheels)), "WHEELS": wheels[0]}
        return kept

    def shell(self, script: str, *, serves: str = "") -> None:
        """Run commands as they are typed; with ``serves``, until that command succeeds.

        Raises:
            PageFailed: One of them failed.
        """
        where = self.folder / "cwd"
        log = self.folder / f"block-{len(self._background)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["bash", "-e", "-c", script if serves else f"{script}\npwd -P > '{where}'"], cwd=self.cwd,
                env=self.variables(), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
        self._background.append(process)  # and all that it leaves running
        if not serves:
            with suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE)
            if process.returncode != 0:
                raise PageFailed(f"status {process.returncode} of\n{script}\n{_tail(log)}")
            self.cwd = Path(where.read_text(encoding="utf-8").strip())
            return
        until = time.monotonic() + PATIENCE
        while subprocess.run(
            ["bash", "-c", serves], cwd=self.cwd, env=self.variables(), capture_output=True
        ).returncode:
            if process.poll() is not None or time.monotonic() > until:
                break
            time.sleep(0.2)
        else:
            time.sleep(0.2)
            if process.poll() is None:
                return
        raise PageFailed(f"does not serve:\n{script}\n{_tail(log)}")

    def file(self, text: str) -> None:
        """Put a block where its first line says, below what is there."""
        first, _, text = text.partition("\n")
        path = self.cwd / first.removeprefix("# ")
        path.parent.mkdir(parents=True, exist_ok=True)
        before = path.read_text(encoding="utf-8") + "\n\n" if path.exists() else ""
        path.write_text(before + text, encoding="utf-8")

    def python(self, snippet: str) -> None:
        """Run Python after what ran before it.

        Raises:
            PageFailed: It raised something.
        """
        if self._python is None:
            self._python = subprocess.Popen(
                [str(self._environment / "bin" / "python"), "-c", _INTERPRETER], cwd=self.cwd, env=self.variables(),
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
        assert self._python.stdin is not None
        assert self._python.stdout is not None
        self._python.stdin.write(json.dumps(snippet) + "\n")
        self._python.stdin.flush()
        answer = self._python.stdout.readline()
        if not answer or json.loads(answer) is not None:
            raise PageFailed(f"of\n{snippet}\n{json.loads(answer) if answer else 'Python ended'}")


@functools.cache
def _without_helora(path: str) -> list[str]:
    """Folders of programs, but for those of environments that have helora: a page has to install it."""
    return [folder for folder in path.split(os.pathsep) if not Path(folder, "helora").exists()]


def _uv_cache() -> str:
    return subprocess.run(["uv", "cache", "dir"], capture_output=True, text=True, check=True).stdout.strip()


def _tail(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")[-3000:]


def run(name: str, page: Page, folder: Path) -> int:
    """Run a page, and say how many blocks ran.

    Raises:
        PageFailed: A block did not do what the page says.
    """
    count = 0
    with Reader(folder, page.python) as reader:
        reader.shell(page.install)
        given = not page.install  # what a page takes for granted comes after what it installs
        if page.install:
            _give(reader, page)
        for block in blocks(ROOT / name):
            if block.names_file:
                reader.file(block.text)
                count += 1
            if block.names_file or page.why_not(block) is not None:
                continue
            text = block.text if block.language == "python" else typed(block.language, block.text) or ""
            for before, after in page.instead.items():
                text = text.replace(before, after)
            try:
                if given:
                    installation, text = _installation(text)
                    reader.shell(installation)
                    if text.strip():
                        _give(reader, page)
                        given = False
                if block.language == "python":
                    reader.python(text)
                else:
                    serves = next((each for first, each in page.serves.items() if block.first.startswith(first)), "")
                    reader.shell(text, serves=serves)
            except PageFailed as failure:
                raise PageFailed(f"{name}:{block.line}: {failure}") from None
            count += 1
    return count


def _installation(script: str) -> tuple[str, str]:
    """The lines of pip that a script begins with, and the rest."""
    lines = script.splitlines(keepends=True)
    count = next((at for at, line in enumerate(lines) if not line.startswith("pip ")), len(lines))
    return "".join(lines[:count]), "".join(lines[count:])


def _give(reader: Reader, page: Page) -> None:
    if page.given:
        reader.shell(page.given)
    if page.given_python:
        reader.python(page.given_python)
