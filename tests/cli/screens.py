"""What a person sees: a command of ``helora``, run in this process on a terminal of its own."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import signal
import struct
import termios
import threading
from collections.abc import Sequence
from typing import NamedTuple
from unittest import mock

import click

from helora_core.cli.main import main

_PROGRESS = re.compile(r"\x1b\[\?25l.*?\x1b\[\?25h(?:\r?\x1b\[1A\x1b\[2K|\r\x1b\[2K)*", re.DOTALL)
"""A bar, from where the cursor is hidden to where all of it is erased again."""

_STYLE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Screen(NamedTuple):
    """What was printed, without styles and without what was erased again; the exit status; and all that was printed."""

    text: str
    status: int
    raw: str

    @property
    def widest(self) -> int:
        """Columns of the longest line."""
        return max(map(len, self.text.splitlines()), default=0)


def screen(
    arguments: Sequence[object], *, width: int, lines: int = 50, until: str = "", command: click.Command = main
) -> Screen:
    """Run ``helora *arguments`` with standard output and standard error on a terminal of that size.

    Args:
        arguments: The command line.
        width, lines: The terminal's size.
        until: Press Ctrl-C as soon as this is shown.
        command: What is run instead of ``helora``.
    """
    reading, writing = os.openpty()
    fcntl.ioctl(writing, termios.TIOCSWINSZ, struct.pack("HHHH", lines, width, 0, 0))
    said: list[bytes] = []
    reader = threading.Thread(target=_read_all, args=(reading, said, until.encode()))
    reader.start()
    status = 0
    environment = {"COLUMNS": str(width), "LINES": str(lines), "TERM": "xterm-256color"}
    with (
        open(writing, "w", encoding="utf-8", buffering=1) as terminal,
        mock.patch.dict(os.environ, environment),
        contextlib.redirect_stdout(terminal),
        contextlib.redirect_stderr(terminal),
    ):
        try:
            command.main([str(argument) for argument in arguments], prog_name="helora")
        except SystemExit as ended:
            status = int(ended.code or 0)
    reader.join()
    os.close(reading)
    raw = b"".join(said).decode().replace("\r\n", "\n")
    text = _STYLE.sub("", _PROGRESS.sub("", raw))
    return Screen("\n".join(line.rstrip() for line in text.split("\n")), status, raw)


def _read_all(reading: int, said: list[bytes], until: bytes) -> None:
    """Until the terminal's other end is closed, which Linux reports as an error."""
    with contextlib.suppress(OSError):
        while chunk := os.read(reading, 1 << 16):
            said.append(chunk)
            if until and until in b"".join(said):
                os.kill(os.getpid(), signal.SIGINT)
                until = b""


_MASKS = (
    (re.compile(r"\b[0-9a-f]{12,64}\b"), "HEX"),
    (re.compile(r"(?<![\w.])\d+(?:\.\d+)+(?:[-+][\w.~+-]+)?"), "N.N"),
    (re.compile(r"(?<=N\.N )(?:B|KiB|MiB|GiB)\b"), "iB"),
    (re.compile(r"─{3,}"), "───"),
    (re.compile(r"(?<=\S) {2,}"), "  "),
)


def masked(text: str, **names: str) -> str:
    """A screen without what differs from run to run and from machine to machine, to be compared with a committed one.

    The rule: a number with a decimal point, and a version, is ``N.N``, and the unit of bytes after it ``iB``; a digest
    is ``HEX``; between cells there are two spaces, and a rule is three strokes, since columns are as wide as their
    numbers.

    Args:
        text: The screen.
        **names: Texts by what is to stand for them, such as ``TMP=str(tmp_path)``.
    """
    for name, value in names.items():
        text = text.replace(value, name)
    for found, instead in _MASKS:
        text = found.sub(instead, text)
    return text
