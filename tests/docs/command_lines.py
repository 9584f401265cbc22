"""The shell commands of the documentation: which blocks of a page have them, and how they read.

Blocks of ``sh`` are what a reader types; in ``console`` blocks that is what follows ``$``.
"""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
FENCE = re.compile(
    r"^(?P<indent> *)(?P<mark>`{3,})(?P<language>\w*)[^\n]*\n(?P<text>.*?)^ *(?P=mark)$", re.MULTILINE | re.DOTALL
)

_INLINE = re.compile(r"(?<!`)`(helora [^`\n]+)`(?!`)")
_DESCRIPTOR = re.compile(r"(?<=\s)\d(?=[<>])")
_SEPARATORS = {"&&", "||", "|", ";", "&", ";;", "\n"}


def pages() -> list[Path]:
    """Every page of today: of the root, the site, plugins, examples, harness and deployment; not the changelog."""
    patterns = ("*.md", "docs/**/*.md", "plugins/*/*.md", "examples/*/*.md", "harness/*.md", "deploy/**/*.md")
    return sorted({path for pattern in patterns for path in ROOT.glob(pattern)} - {ROOT / "CHANGELOG.md"})


@dataclass(frozen=True)
class Line:
    """A command of ``helora``'s as a page has it: the words after the program's name."""

    page: str
    line: int
    words: tuple[str, ...]
    inline: bool
    """In running text, where values may be left out and placeholders stand for them."""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: helora {shlex.join(self.words)}"


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: its language, its text, its line, and whether it shows what the one before printed."""

    language: str
    text: str
    line: int
    is_output: bool

    @property
    def first(self) -> str:
        """The line that it is named by."""
        return self.text.strip().partition("\n")[0]

    @property
    def names_file(self) -> bool:
        """Whether its first line is a comment that names the file that the rest belongs to."""
        return self.language in ("python", "toml") and re.fullmatch(r"# [\w./-]+\.(?:py|toml)", self.first) is not None


def blocks(page: Path) -> list[Block]:
    """Every fenced block of a page, in order."""
    content = page.read_text(encoding="utf-8")
    found: list[Block] = []
    end = None
    for fence in FENCE.finditer(content):
        close = end is not None and not content[end : fence.start()].strip()
        after = close and found[-1].language in ("sh", "python")
        text = textwrap.dedent(fence["text"])
        line = content.count("\n", 0, fence.start()) + 1
        found.append(Block(fence["language"], text, line, fence["language"] == "text" and after))
        end = fence.end()
    return found


def typed(language: str, text: str) -> str | None:
    """What a reader types of a block: nothing of output, and None where nothing is typed."""
    if language not in ("sh", "console"):
        return None
    shown = any(line.startswith("$ ") for line in text.splitlines())
    if not shown:
        return text if language == "sh" else ""
    result, continues = [], False
    for line in text.splitlines():
        if line.startswith("$ ") or continues:
            result.append(line.removeprefix("$ "))
            continues = line.endswith("\\")
    return "\n".join(result) + "\n"


def simple_commands(script: str) -> Iterator[list[str]]:
    """The simple commands of a script, as words, without redirections."""
    for line in script.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(_DESCRIPTOR.sub("", line), posix=True, punctuation_chars="|&;<>")
        lexer.commenters = "#"
        lexer.whitespace_split = True
        command: list[str] = []
        redirected = False
        for word in lexer:
            if word in _SEPARATORS:
                yield command
                command, redirected = [], False
            elif set(word) <= set("<>&"):
                redirected = True
            elif redirected:
                redirected = False
            else:
                command.append(word)
        yield command


def _of_helora(words: list[str]) -> list[str] | None:
    """The words after ``helora``, where that is the program, by itself or by a runner or after variables."""
    while words and re.fullmatch(r"\w+=.*", words[0]):
        words = words[1:]
    if words[:2] == ["uv", "run"] and "helora" in words:
        words = words[words.index("helora") :]
    return words[1:] if words[:1] == ["helora"] else None


def helora_lines(page: Path) -> Iterator[Line]:
    """Every command of ``helora``'s on a page."""
    content = page.read_text(encoding="utf-8")
    name = page.relative_to(ROOT).as_posix()
    for block in blocks(page):
        for command in simple_commands(typed(block.language, block.text) or ""):
            words = _of_helora(command)
            if words is not None:
                yield Line(name, block.line, tuple(words), inline=False)
    prose = FENCE.sub(lambda fence: "\n" * fence[0].count("\n"), content)
    for found in _INLINE.finditer(prose):
        words = found[1].replace("…", "").split()[1:]
        yield Line(name, prose.count("\n", 0, found.start()) + 1, tuple(words), inline=True)
