"""Threads that run programs: as many as ``HELORA_THREADS`` says, by default one. Kernels let go of Python's lock."""

from __future__ import annotations

import ctypes
import functools
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from helora_core.errors import BackendUnavailable

VARIABLE = "HELORA_THREADS"

MOST = 256

T = TypeVar("T")
R = TypeVar("R")

_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}


def count() -> int:
    """Threads that work at once.

    Raises:
        BackendUnavailable: The variable is no number from 1 to 256.
    """
    said = os.environ.get(VARIABLE, "") or "1"
    if not (said.isascii() and said.isdigit() and 1 <= int(said) <= MOST):
        raise BackendUnavailable(
            f"helora-rns: {VARIABLE} is {said!r}, which is no number of threads.",
            hint=f"Set it to a number from 1 to {MOST}, or unset it for one.",
        )
    return int(said)


def each(work: Callable[[T], object], parts: Sequence[T]) -> None:
    """Do the work for all parts, the caller's own thread among those that do it; returns when all are done."""
    helpers = min(count(), len(parts)) - 1
    if helpers < 1:
        for part in parts:
            work(part)
        return
    pool = _pool(helpers)
    shares = [parts[start :: helpers + 1] for start in range(helpers + 1)]
    pending = [pool.submit(_all, work, share) for share in shares[1:]]
    try:
        _all(work, shares[0])
    finally:
        for future in pending:
            future.result()


def together(work: Callable[[], object], workers: int) -> None:
    """Have so many threads do one work that they share out themselves, the caller's own among them.

    When the caller's own call returns, all is done or in hand: threads that have not begun by then are not waited for.
    """
    pending = [_pool(workers - 1).submit(work) for _ in range(workers - 1)]
    try:
        work()
    finally:
        for future in pending:
            if not future.cancel():
                future.result()


def _pool(helpers: int) -> ThreadPoolExecutor:
    # A process that was forked has none of its parent's threads: it makes its own.
    key = os.getpid(), helpers
    return _pools.get(key) or _pools.setdefault(key, ThreadPoolExecutor(helpers, thread_name_prefix="helora-rns"))


def results(work: Callable[..., R], *arguments: Sequence[Any]) -> list[R]:
    """What the work gives for each, like ``map``; threads share the work."""
    found: dict[int, R] = {}

    def place(i: int) -> None:
        found[i] = work(*(each[i] for each in arguments))

    count = min(map(len, arguments), default=0)
    each(place, range(count))
    return [found[i] for i in range(count)]


@functools.cache
def give_way() -> int | None:
    """The address of the system's function that lets another thread run; None if it is not known."""
    try:
        if sys.platform == "win32":
            system = ctypes.WinDLL("kernel32").SwitchToThread
        else:
            system = ctypes.CDLL(None).sched_yield
    except (AttributeError, OSError):
        return None
    return ctypes.cast(system, ctypes.c_void_p).value


def _all(work: Callable[[T], object], share: Sequence[T]) -> None:
    for part in share:
        work(part)
