"""Runs the tests of each mutant in a copy of the checkout, and reads the mutants that are known to change nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from helora_core.errors import HeloraError
from helora_harness.mutation.mutants import Mutant, mutants_of
from helora_harness.mutation.worker import LOG, TIMED_OUT
from helora_harness.places import DATA, REPO

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TESTS = {package: f"tests/{package}" for package in ("params", "privacy", "compiler", "packing")}
"""The packages that are mutated, and the tests that each has to answer to."""

EQUIVALENTS = DATA / "mutation.toml"
COPIED = ("helora_core", "tests", "plugins", "harness", "docs", "pyproject.toml", "README.md")


class CheckFailed(HeloraError):
    """The tests do not pass as they are, or the list of equivalents is wrong."""

    code: ClassVar[str] = "check-failed"

    def __init__(self, message: str) -> None:
        super().__init__(message, hint="Mend that first: docs/adr/0039-mutation.md says what is checked.")


class Outcome(NamedTuple):
    mutant: Mutant
    fate: str
    """``killed``, ``survived`` or ``timed out``, which counts as noticed."""
    by: str
    """The first test that failed."""
    seconds: float


def package_of(mutant: Mutant) -> str:
    return Path(mutant.file).parts[1]


def all_mutants(repo: Path = REPO) -> list[Mutant]:
    """Those of the four packages, and of the security tables in them."""
    mutants: list[Mutant] = []
    for package in TESTS:
        folder = repo / "helora_core" / package
        for path in sorted((*folder.rglob("*.py"), *folder.rglob("*.json"))):
            mutants += mutants_of(path.relative_to(repo).as_posix(), path.read_bytes())
    return mutants


def sample(mutants: Iterable[Mutant], limit: int, seed: int) -> list[Mutant]:
    """The first ``limit`` in an order drawn from ``seed``, the packages taking turns; in the order of their files."""
    ordered = sorted(mutants, key=lambda mutant: mutant.order(seed))
    turns = zip_longest(*([each for each in ordered if package_of(each) == package] for package in TESTS))
    taken = [mutant for mutant in chain.from_iterable(turns) if mutant is not None][:limit]
    return sorted(taken, key=lambda mutant: (mutant.file, mutant.start))


def known_equivalents(mutants: Iterable[Mutant], path: Path = EQUIVALENTS) -> dict[tuple[str, str, str, str], str]:
    """The reason why each listed mutant changes nothing.

    Raises:
        CheckFailed: An entry has no reason, or names a mutant that does not exist (any more).
    """
    exist = {mutant.name for mutant in mutants}
    reasons: dict[tuple[str, str, str, str], str] = {}
    for entry in tomllib.loads(path.read_text(encoding="utf-8")).get("equivalent", []):
        reason = entry["reason"].strip()
        for new in entry["new"] if isinstance(entry["new"], list) else [entry["new"]]:
            name = (entry["file"], entry["where"], entry["old"], new)
            if not reason or name not in exist:
                fault = "has no reason" if not reason else "is not a mutant: remove it, or bring its text up to date"
                raise CheckFailed(f"{path.name}: {entry['file']}, {entry['where']}: {new!r} {fault}.")
            reasons[name] = reason
    return reasons


class Checker:
    """A copy of the checkout with a process that runs tests in it."""

    def __init__(self, folder: Path, repo: Path) -> None:
        self._folder, self._writes = folder, 0
        ignored = shutil.ignore_patterns("__pycache__", ".*", "history", "*.so", "build")
        for name in COPIED:
            source = repo / name
            if source.is_dir():
                shutil.copytree(source, folder / name, ignore=ignored)
            elif source.exists():
                shutil.copy(source, folder / name)
        # CI: Hypothesis draws the same examples each time.
        environment = os.environ | {"PYTHONPATH": str(folder), "CI": "1", "OPENBLAS_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "helora_harness.mutation.worker"],
            cwd=folder, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._order: dict[str, list[str]] = {}

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _ask(self, *arguments: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        # Hypothesis is imported already in the worker, of which pytest warns.
        quiet = ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
        options = ["-x", "-q", "-p", "no:randomly", "-p", "no:cacheprovider", *quiet]
        print(json.dumps([*options, *arguments]), file=self._process.stdin, flush=True)
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def baseline(self, package: str) -> float:
        """Runs a package's tests unchanged, and learns which files are quick, to have them first. In seconds.

        Raises:
            CheckFailed: They do not pass, or they import other sources than the copy's.
        """
        answer = self._ask(TESTS[package])
        if answer["status"] != 0:
            raise CheckFailed(f"{TESTS[package]} fails as it is:\n{(self._folder / LOG).read_text()[-3000:]}")
        if not Path(answer["imported"]).is_relative_to(self._folder):
            raise CheckFailed(f"The tests import {answer['imported']}, not the copy in {self._folder}.")
        seconds: dict[str, float] = answer["seconds"]
        self._order[package] = sorted(seconds, key=lambda file: seconds[file])
        return sum(seconds.values())

    def outcome(self, mutant: Mutant) -> Outcome:
        """Runs the tests of one mutant, those of its own module first, until one fails."""
        path = self._folder / mutant.file
        source = path.read_bytes()
        own = f"test_{path.stem}.py"
        files = sorted(self._order[package_of(mutant)], key=lambda file: Path(file).name != own)
        self._write(path, mutant.applied(source))
        try:
            answer = self._ask(*files)
        finally:
            self._write(path, source)
        fate = {0: "survived", TIMED_OUT: "timed out"}.get(answer["status"], "killed")
        return Outcome(mutant, fate, answer.get("failed", ""), sum(answer.get("seconds", {}).values()))

    def _write(self, path: Path, source: bytes) -> None:
        # Python takes a compiled file to be current by the source's size and its time in whole seconds.
        self._writes += 1
        path.write_bytes(source)
        os.utime(path, (self._writes * 10, self._writes * 10))


@contextmanager
def checker(repo: Path = REPO) -> Iterator[Checker]:
    with tempfile.TemporaryDirectory(prefix="helora-mutation-") as folder:
        made = Checker(Path(folder).resolve(), repo)
        try:
            yield made
        finally:
            made.close()
