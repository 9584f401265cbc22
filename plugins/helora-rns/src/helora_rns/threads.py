"""Threads that run programs: as many as ``HELORA_THREADS`` says, by default one. Kernels let go of Python's lock."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from helora_core.errors import BackendUnavailable

VARIABLE = "HELORA_THREADS"

MOST = 256

T = TypeVar("T")

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
    # A process that was forked has none of its parent's threads: it makes its own.
    key = os.getpid(), helpers
    pool = _pools.get(key) or _pools.setdefault(key, ThreadPoolExecutor(helpers, thread_name_prefix="helora-rns"))
    shares = [parts[start :: helpers + 1] for start in range(helpers + 1)]
    pending = [pool.submit(_all, work, share) for share in shares[1:]]
    try:
        _all(work, shares[0])
    finally:
        for future in pending:
            future.result()


def _all(work: Callable[[T], object], share: Sequence[T]) -> None:
    for part in share:
        work(part)
