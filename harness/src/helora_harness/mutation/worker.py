"""Runs tests in forked processes, which find pytest and NumPy imported already: it halves the time of a mutant.

A process of its own, ``python -m helora_harness.mutation.worker``, in a copy of the checkout. Nothing of helora is
imported before the fork, so that each child reads the sources as they are by then. One JSON document a line: a request
is the arguments of pytest, the answer ``{"status", "seconds", "failed"}``.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import sys
import traceback
from typing import Any

import hypothesis  # noqa: F401
import numpy  # noqa: F401
import pytest

CPU_SECONDS_A_TEST = 40
"""Of processor time, so that a busy machine stops no test; four times what the longest one takes."""
WALL_SECONDS = 900
MEMORY_BYTES = 8 << 30
TIMED_OUT = 124
LOG = "pytest.log"
"""What the tests printed last."""


class _Watch:
    """Stops the process when a test takes too long, and notes the time of each file and the first failure."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.failed = ""

    def pytest_runtest_logstart(self) -> None:
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS_A_TEST)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        file = report.nodeid.partition("::")[0]
        self.seconds[file] = self.seconds.get(file, 0.0) + report.duration
        if report.failed:
            self.failed = self.failed or report.nodeid


def _in_child(arguments: list[str], answer: int) -> None:
    os.setsid()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    signal.signal(signal.SIGPROF, lambda *_: os._exit(TIMED_OUT))
    signal.signal(signal.SIGALRM, lambda *_: os._exit(TIMED_OUT))
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS_A_TEST)
    signal.alarm(WALL_SECONDS)
    log = os.open(LOG, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    for stream in (0, 1, 2):
        os.dup2(log, stream)
    watch = _Watch()
    status = int(pytest.main(arguments, plugins=[watch]))
    imported = sys.modules["helora_core"].__file__ if "helora_core" in sys.modules else ""
    told = {"seconds": watch.seconds, "failed": watch.failed, "imported": imported}
    os.write(answer, json.dumps(told).encode())
    os._exit(status)


def _run(arguments: list[str]) -> dict[str, Any]:
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            _in_child(arguments, writing)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(3)
    os.close(writing)
    _, ended = os.waitpid(child, 0)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # processes that a mutant left behind
    with os.fdopen(reading, "rb") as answer:
        told = answer.read()
    return {"status": os.waitstatus_to_exitcode(ended), **(json.loads(told) if told else {})}


def main() -> None:
    sys.path.insert(0, os.getcwd())
    for line in sys.stdin:
        print(json.dumps(_run(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
