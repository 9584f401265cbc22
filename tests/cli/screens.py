"""What a person sees: a command of ``helora``, run in this process on a terminal of its own."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import struct
import termios
import threading
from collections.abc import Sequence
from typing import NamedTuple
from unittest import mock

from helora_core.cli.main import main

_PROGRESS = re.compile(r"\x1b\[\?25l.*?\x1b\[\?25h(?:\r?\x1b\[1A\x1b\[2K|\r\x1b\[2K)*", re.DOTALL)
"""A bar, from where the cursor is hidden to where all of it is erased again."""

_STYLE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Screen(NamedTuple):
    """What was printed, without styles and without what was erased again, and the exit status."""

    text: str
    status: int

    @property
    def widest(self) -> int:
        """Columns of the longest line."""
        return max(map(len, self.text.splitlines()), default=0)


def screen(arguments: Sequence[object], *, width: int, lines: int = 50) -> Screen:
    """Run ``helora *arguments`` with standard output and standard error on a terminal of that size."""
    reading, writing = os.openpty()
    fcntl.ioctl(writing, termios.TIOCSWINSZ, struct.pack("HHHH", lines, width, 0, 0))
    said: list[bytes] = []
    reader = threading.Thread(target=_read_all, args=(reading, said))
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
            main([str(argument) for argument in arguments], prog_name="helora")
        except SystemExit as ended:
            status = int(ended.code or 0)
    reader.join()
    os.close(reading)
    text = _PROGRESS.sub("", b"".join(said).decode().replace("\r\n", "\n"))
    text = _STYLE.sub("", text)
    return Screen("\n".join(line.rstrip() for line in text.split("\n")), status)


def _read_all(reading: int, said: list[bytes]) -> None:
    """Until the terminal's other end is closed, which Linux reports as an error."""
    with contextlib.suppress(OSError):
        while chunk := os.read(reading, 1 << 16):
            said.append(chunk)
