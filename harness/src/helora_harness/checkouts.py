"""The code of commits, side by side: a git worktree for each, and processes that run it.

A worker imports core and plugins from its worktree, and libraries from the environment that runs the harness: two
commits are compared on the same TenSEAL and the same NumPy, and none needs to be installed. It does not see an
installed helora. Plugins are found by their metadata, so a worktree gets a folder with what an installation of
its distributions would have written.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Protocol

import msgspec

from helora_core.errors import HeloraError
from helora_harness.rows import Cell

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

WORKER = Path(__file__).with_name("ab_worker.py")


class CommitUnusable(HeloraError):
    """A commit cannot be checked out or run here."""

    code: ClassVar[str] = "commit-unusable"


class Asked(Protocol):
    """Something that answers requests, as ``ab_worker.py`` describes them."""

    def ask(self, **request: Any) -> dict[str, Any]: ...

    def close(self) -> None: ...


class Commit(msgspec.Struct, frozen=True):
    """A commit: its full hash, and when it was committed."""

    hash: str
    date: datetime


def git(repo: Path, *arguments: str) -> str:
    """The output of git.

    Raises:
        CommitUnusable: The command failed.
    """
    done = subprocess.run(["git", *arguments], cwd=repo, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CommitUnusable(
            f"git {' '.join(arguments[:2])} failed in {repo}: {done.stderr.strip()}",
            hint="Name a commit of this repository, and clone with its history.",
        )
    return done.stdout.strip()


def resolve(repo: Path, name: str) -> Commit:
    """The commit that a name such as ``HEAD~3`` or ``v0.1.0`` stands for."""
    full, date = git(repo, "log", "-1", "--format=%H %cI", f"{name}^{{commit}}", "--").split()
    return Commit(full, datetime.fromisoformat(date.replace("Z", "+00:00")))


@contextmanager
def worktree(repo: Path, commit: str) -> Iterator[Path]:
    """The files of a commit in a temporary folder, which is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="helora-commit-"))
    try:
        git(repo, "worktree", "add", "--detach", "--force", str(folder / "code"), commit)
        yield folder / "code"
    finally:
        subprocess.run(
            ["git", "worktree", "remove", "--force", str(folder / "code")], cwd=repo, capture_output=True, check=False
        )
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run(["git", "worktree", "prune"], cwd=repo, capture_output=True, check=False)


class Code(msgspec.Struct, frozen=True):
    """Where a worker finds helora.

    Attributes:
        folders: Put first when importing.
        plugins: Names of the plugins in them.
    """

    folders: tuple[str, ...]
    plugins: tuple[str, ...]


def code_of(checkout: Path, metadata: Path) -> Code:
    """Describe a checkout to workers.

    Args:
        checkout: Of any commit.
        metadata: An existing folder, for what is written of its distributions.
    """
    roots = [checkout, *sorted(path.parent for path in checkout.glob("plugins/helora-*/pyproject.toml"))]
    folders, plugins = [str(metadata)], []
    for root in roots:
        project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        entries = project.get("entry-points", {}).get("helora", {})
        plugins += [name for name in entries if root != checkout or name == "core"]
        folders.append(str(root / "src" if (root / "src").is_dir() else root))
        info = metadata / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n", encoding="utf-8"
        )
        lines = [f"{name} = {target}" for name, target in entries.items()]
        (info / "entry_points.txt").write_text("\n".join(["[helora]", *lines, ""]), encoding="utf-8")
    return Code(tuple(folders), tuple(plugins))


@contextmanager
def code_at(repo: Path, commit: str, *, compiled: bool = False) -> Iterator[Code]:
    """The code of a commit, for as long as the block runs.

    Args:
        repo: A checkout of the repository.
        commit: Its hash.
        compiled: Compile its own engine, for times: without, the engine's kernels are NumPy's.
    """
    with worktree(repo, commit) as checkout, tempfile.TemporaryDirectory(prefix="helora-metadata-") as metadata:
        if compiled:
            for build in checkout.glob("plugins/*/build.py"):
                subprocess.run([sys.executable, str(build)], cwd=build.parent, capture_output=True, check=False)
        yield code_of(checkout, Path(metadata))


@contextmanager
def code_here(repo: Path) -> Iterator[Code]:
    """The code of the working tree, changes included."""
    with tempfile.TemporaryDirectory(prefix="helora-metadata-") as metadata:
        yield code_of(repo, Path(metadata))


class Worker:
    """A process that runs cells with the code of one checkout. Close it, or use it in a ``with`` statement."""

    def __init__(self, code: Code, *, threads: int = 1) -> None:
        libraries = [sysconfig.get_path("platlib"), sysconfig.get_path("purelib")]
        folders = [*code.folders, *dict.fromkeys(libraries)]
        names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
        env = {**os.environ, **dict.fromkeys(names, str(threads)), "HELORA_PLUGINS": ",".join(code.plugins)}
        self._process = subprocess.Popen(
            [sys.executable, "-E", "-S", "-s", "-B", str(WORKER), json.dumps(folders)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=env,
        )

    def ask(self, **request: Any) -> dict[str, Any]:
        """The process's answer; ``{"error": …}`` if the request crashed it."""
        if self._process.stdin is None or self._process.stdout is None:
            raise ValueError("the worker has no pipes")
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            return {"error": f"the process ended with status {self._process.wait()}"}
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def asked(cell: Cell, do: str, **more: Any) -> dict[str, Any]:
    """The request to a worker about a cell."""
    of = [cell.backend, cell.packing, cell.shape, cell.tokens]
    return {"do": do, "cell": of, "private": cell.sanitized, **more}
