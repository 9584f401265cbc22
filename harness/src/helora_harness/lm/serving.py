"""A server in a process of its own, as ``helora link`` starts it, and what that process takes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import ClassVar

import msgspec

from helora_core.errors import HeloraError


class ServerFailed(HeloraError):
    """The server's process ended before it served."""

    code: ClassVar[str] = "server-failed"


class Served:
    """A running server.

    Args:
        process: Its process.
        address: Where it listens.

    Attributes:
        address: The same.
        idle_bytes: Resident memory when it began to listen.
    """

    def __init__(self, process: subprocess.Popen[str], address: str) -> None:
        self._process, self.address = process, address
        self.idle_bytes = self.resident_bytes

    @property
    def resident_bytes(self) -> int | None:
        """Resident memory; None if the system does not say."""
        pages = _proc(self._process.pid, "statm")
        return None if pages is None else int(pages.split()[1]) * os.sysconf("SC_PAGE_SIZE")

    @property
    def cpu_ms(self) -> float | None:
        """Processor time so far; None if the system does not say."""
        fields = _proc(self._process.pid, "stat")
        if fields is None:
            return None
        after_name = fields.rpartition(")")[2].split()  # the name may have spaces
        return 1000 * (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")


def served(artifact: Path, backend: str) -> AbstractContextManager[Served]:
    """``helora link`` with an artifact, until the context ends. Its environment is this process's, threads included.

    Raises:
        ServerFailed: It ended before it listened; its messages are on standard error.
    """
    command = ["helora_core", "link", str(artifact), "--listen", "tcp://127.0.0.1:0", "--backend", backend]
    return _running([*command, "--assume", "honest-keys", "--json"])


def served_adapter(
    adapter: Path, packing: str, backend: str, tokens: Sequence[int] = ()
) -> AbstractContextManager[Served]:
    """The same with an adapter that has no artifact: ``host_process``.

    Args:
        adapter: The adapter's folder.
        packing: Of all modules.
        backend: Name of the backend.
        tokens: Numbers that plans are made for; those of ``attach`` if there are none.
    """
    numbers = ",".join(map(str, tokens))
    return _running(["helora_harness.lm.host_process", str(adapter), packing, backend, numbers])


@contextmanager
def _running(arguments: list[str]) -> Iterator[Served]:
    command = [sys.executable, "-m", *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            try:
                address = str(msgspec.json.decode(line)["address"])
            except (msgspec.DecodeError, KeyError) as error:
                why = _refusal(line + process.stdout.read())
                raise ServerFailed(
                    f"bench lm: the server ended without serving: {why}", hint="Its own messages are above."
                ) from error
            yield Served(process, address)
        finally:
            process.terminate()
            process.communicate()


def _refusal(output: str) -> str:
    """The message of a refusal that ``--json`` printed, or else what was printed."""
    try:
        return str(msgspec.json.decode(output)["error"]["message"])
    except (msgspec.DecodeError, KeyError, TypeError):
        return output.strip() or "it printed nothing."


def _proc(pid: int, name: str) -> str | None:
    try:
        return Path(f"/proc/{pid}/{name}").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
