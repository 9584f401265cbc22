"""Runs a piece of work in a forked copy of this process, which a native library may not survive."""

from __future__ import annotations

import os
import select
import signal
import warnings
from collections.abc import Callable

TIMEOUT_S = 20


def in_a_fork(work: Callable[[], bytes]) -> bytes:
    """What ``work`` returns in a forked child; nothing if it raised, crashed, or hung.

    Only the first 64 KiB are returned.
    """
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        # From Python 3.12 on, a process with threads that forks is warned; that is what is being tried.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        # Leaves without clean-up, which is the parent's: of pytest, of libraries, of open files.
        try:
            os.write(writer, work()[:65536])
        finally:
            os._exit(0)
    os.close(writer)
    try:
        ready, _, _ = select.select([reader], [], [], TIMEOUT_S)
        if not ready:
            os.kill(child, signal.SIGKILL)
            return b""
        with os.fdopen(reader, "rb", closefd=False) as pipe:
            return pipe.read()
    finally:
        os.close(reader)
        os.waitpid(child, 0)
