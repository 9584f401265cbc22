"""Does what ``docs/write-a-backend.md`` says, block by block, as its reader would.

``sh`` blocks run one after the other, each in the directory where the one before it ended. Other blocks name a file in
their first line: definitions of a Python block replace those of the same name in it or are added, lines of a TOML block
replace those of the same key, and a Markdown block is the whole file. What names no file is for the reader's eye alone.
"""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

PAGE = Path(__file__).parents[2] / "docs" / "write-a-backend.md"

_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"(?:# |<!-- )([\w./-]+\.(?:py|toml|md))(?: -->)?\n")


class Block(NamedTuple):
    """A fenced block."""

    language: str
    text: str
    line: int

    @property
    def file(self) -> str | None:
        """The file that it changes, if it names one."""
        named = _FILE.match(self.text)
        return named[1] if named else None


def blocks() -> Iterator[Block]:
    """The blocks of the guide, in order."""
    content = PAGE.read_text(encoding="utf-8")
    for fence in _FENCE.finditer(content):
        yield Block(fence[1], fence[2], content.count("\n", 0, fence.start()) + 1)


def follow(directory: Path, environment: Mapping[str, str], *, timeout: float) -> Path:
    """Do all of it, starting in ``directory``; answers the folder in which it ends.

    Raises:
        AssertionError: A command failed; what it printed is in the message.
    """
    for block in blocks():
        if block.language == "sh":
            directory = _run(block, directory, environment, timeout)
        elif block.file:
            _change(directory / block.file, block)
    return directory


def _run(block: Block, directory: Path, environment: Mapping[str, str], timeout: float) -> Path:
    """Run a block; answers the directory in which it ends."""
    with tempfile.TemporaryDirectory() as scratch:
        ended_in = Path(scratch, "pwd")
        done = subprocess.run(
            ["sh", "-e", "-c", f"{block.text}\npwd > {shlex.quote(str(ended_in))}"],
            cwd=directory,
            env=dict(environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
        )
        print(block.text, done.stdout, sep="", flush=True)
        assert done.returncode == 0, f"{PAGE.name}:{block.line}: exit status {done.returncode}\n{done.stdout}"
        return Path(ended_in.read_text(encoding="utf-8").rstrip("\n"))


def _change(path: Path, block: Block) -> None:
    assert path.is_file(), f"{PAGE.name}:{block.line}: there is no {path}"
    old, new = path.read_text(encoding="utf-8"), block.text.split("\n", 1)[1]
    if path.suffix == ".py":
        changed = merged(old, new)
    elif path.suffix == ".toml":
        changed = _with_keys(old, new)
    else:
        changed = new
    assert changed != old, f"{PAGE.name}:{block.line} changes nothing"
    path.write_text(changed, encoding="utf-8")


def _with_keys(old: str, new: str) -> str:
    for line in new.splitlines():
        old, count = re.subn(rf"^{line.partition('=')[0]}=.*$", lambda _, line=line: line, old, flags=re.MULTILINE)
        assert count == 1, f"{line!r} replaces {count} lines"
    return old


def merged(source: str, snippet: str) -> str:
    """``source`` with the definitions of ``snippet``: in the place of those of the same name, or added."""
    for node in ast.parse(snippet).body:
        existing = _find(ast.parse(source).body, node)
        if isinstance(node, ast.ClassDef) and isinstance(existing, ast.ClassDef):
            for member in node.body:
                source = _put(source, existing.name, member, snippet)
        else:
            source = _put(source, None, node, snippet)
    return source


def _put(source: str, class_name: str | None, node: ast.stmt, snippet: str) -> str:
    tree = ast.parse(source)
    body: list[ast.stmt] = tree.body
    if class_name is not None:
        body = next(each for each in body if isinstance(each, ast.ClassDef) and each.name == class_name).body
    text = snippet.splitlines()[slice(*_lines(node, snippet))]
    lines = source.splitlines()
    existing = _find(body, node)
    if existing is not None:
        start, end = _lines(existing, source)
    elif isinstance(node, ast.Import | ast.ImportFrom):
        start = end = max(each.end_lineno or 0 for each in body if isinstance(each, ast.Import | ast.ImportFrom))
    else:
        start = end = body[-1].end_lineno or 0
        text = ([""] if class_name else ["", ""]) + text
    return "\n".join([*lines[:start], *text, *lines[end:], ""])


def _find(body: list[ast.stmt], wanted: ast.stmt) -> ast.stmt | None:
    return next((each for each in body if _name(each) == _name(wanted)), None)


def _name(node: ast.stmt) -> str:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return node.name
    if isinstance(node, ast.Assign):
        return ast.unparse(node.targets[0])
    return ast.unparse(node)


def _lines(node: ast.stmt, source: str) -> tuple[int, int]:
    """Where a statement stands, from 0, with its decorators and the comment right above it."""
    lines = source.splitlines()
    first = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", []))]) - 1
    while first and lines[first - 1].lstrip().startswith("#"):
        first -= 1
    return first, node.end_lineno or 0
