"""Reads the documentation and runs what is in it.

``sh`` and ``python`` blocks run in the order of the page, in one empty directory, the Python of a page in one
namespace. A block whose first line is a comment that names a file is not run: it goes at the end of that file. A
``text`` block right after one is what that printed on standard output. In it ``…`` stands for anything, and since times
and precisions differ from run to run, any number with a decimal point for any other. Installation is not run.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
INSTALLATION = ("pip ", "uv ", "git ")

_FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"# ([\w./-]+\.(?:py|toml))\n")
_DECIMAL = re.compile(r"\d+\.\d+")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, the line it starts at, and what it is said to print, if anything."""

    language: str
    text: str
    line: int
    prints: str | None

    @property
    def file(self) -> str | None:
        """The file that it goes to, if it names one."""
        named = _FILE.match(self.text)
        return named[1] if named else None


def blocks(page: Path) -> list[Block]:
    """The blocks of a page that are to be run, or written to a file."""
    content = page.read_text(encoding="utf-8")
    found = list(_FENCE.finditer(content))
    result = []
    for fence, following in zip(found, [*found[1:], None], strict=True):
        language, text = fence.groups()
        if language not in ("sh", "python", "toml") or text.startswith(INSTALLATION):
            continue
        shown = (
            following is not None and following[1] == "text" and not content[fence.end() : following.start()].strip()
        )
        line = content.count("\n", 0, fence.start()) + 1
        block = Block(language, text, line, following[2] if following and shown else None)
        if language != "toml" or block.file:
            result.append(block)
    return result


def _run_shell(block: Block, page: Path) -> str:
    # The commands of this very environment come first; colours and terminal widths are not in the pages.
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["sh", "-e", "-c", block.text], capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 0, f"{page.name}:{block.line}: {done.stderr}"
    return done.stdout


def _run_python(block: Block, page: Path, namespace: dict[str, object]) -> str:
    output = io.StringIO()
    code = compile("\n" * block.line + block.text, str(page), "exec")
    with contextlib.redirect_stdout(output):
        exec(code, namespace)
    return output.getvalue()


def _append(path: Path, block: Block) -> None:
    """Put a block at the end of a file, two blank lines below what is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    before = path.read_text(encoding="utf-8") + "\n\n" if path.exists() else ""
    path.write_text(before + block.text.partition("\n")[2], encoding="utf-8")


def _pattern(shown: str) -> str:
    """A regular expression for normalised output: what is shown, with ``…`` for anything."""
    return ".*".join(re.escape(_normalised(part)) for part in shown.split("…"))


def _normalised(output: str) -> str:
    return " ".join(_DECIMAL.sub("0.0", output).split())


def _check_printed(block: Block, page: Path, printed: str) -> None:
    if block.prints is None:
        return
    matches = re.fullmatch(_pattern(block.prints), _normalised(printed), re.DOTALL)
    assert matches, f"{page.name}:{block.line} printed\n{printed}"


@pytest.fixture
def run_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Runs a page's blocks in an empty directory that sees the repository's examples."""

    def run(page: Path) -> None:
        monkeypatch.chdir(tmp_path)
        no_settings = tmp_path / "empty.toml"
        no_settings.touch()
        monkeypatch.setenv("HELORA_CONFIG", str(no_settings))
        monkeypatch.setenv("HELORA_PROFILES", str(tmp_path / "profiles"))  # plans are those of an uncalibrated machine
        for variable in ("HELORA_BACKEND", "HELORA_RING", "HELORA_PLUGINS"):
            monkeypatch.delenv(variable, raising=False)
        (tmp_path / "examples").symlink_to(ROOT / "examples")
        namespace: dict[str, object] = {"__name__": "__main__"}
        found = blocks(page)
        assert found, f"{page} has nothing to run"
        for block in found:
            if block.file:
                _append(tmp_path / block.file, block)
                continue
            printed = _run_shell(block, page) if block.language == "sh" else _run_python(block, page, namespace)
            _check_printed(block, page, printed)

    return run
