"""Runs a function in a forked copy of this process, which a native library may not survive."""

from __future__ import annotations

import os
import select
import signal
import warnings
from collections.abc import Callable

TIMEOUT_S = 20


def in_a_fork(work: Callable[[], bytes]) -> bytes:
    """Run ``work`` in a forked child, and return its result; empty if it raised, crashed or hung.

    Only the first 64 KiB are returned.
    """
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        # From Python 3.12 on, forking a process with threads warns; that is exactly what is tested here.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        # Exit without clean-up (of pytest, libraries and open files), which is the parent's business.
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
