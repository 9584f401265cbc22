"""The device that the backend computes on: a card, or for tests the same kernels on the CPU.

Threads have a stream each, so that their requests do not wait for one another. What one thread makes for others to use
(keys, plaintexts, weights, encryptions of zero) is finished before it is handed over; what belongs to a request stays
in its thread's stream.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike

from helora_core.errors import BackendUnavailable
from helora_cupy import memory, probing
from helora_rns import arrays, choice
from helora_rns.kernels import Kernels
from helora_rns.programs.native import NativeProgram
from helora_rns.programs.steps import Lowered
from helora_rns.scheme.context import Context


class Recording(Protocol):
    """Launches in an order, to be done again and again."""

    def replay(self) -> None:
        """Ask for all of them, in this thread's stream."""
        ...


class Device(Protocol):
    """Where arrays are, and kernels run.

    Attributes:
        name: In words.
        limit: Bytes that the backend may use, or None.
    """

    name: str
    limit: int | None

    @property
    def used(self) -> int:
        """Bytes in use."""
        ...

    def kernels(self, ring_degree: int, primes: tuple[int, ...]) -> Kernels:
        """The kernels of a ring; one object for all that ask."""
        ...

    def working(self) -> contextlib.AbstractContextManager[None]:
        """In it, calls go to this thread's stream.

        Raises:
            LimitExceeded: In it, the device's memory was used up. Whatever was asked for has failed; nothing else has.
        """
        ...

    def finish(self) -> None:
        """Wait for this thread's stream."""
        ...

    def address(self, array: Any) -> int:
        """Where on the device an array begins."""
        ...

    def program(self, ring: Context, lowered: Lowered) -> Any:
        """A lowered program as launches (``helora_cupy.graphs.Launches``)."""
        ...

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike = ...) -> Any:
        """An array, not set.

        Raises:
            LimitExceeded: It does not fit.
        """
        ...

    def write(self, to: Any, values: Any) -> None:
        """Copy an array of the host's into one of the device's, in this thread's stream."""
        ...

    def recorded(self, launches: Callable[[], None]) -> Recording:
        """What ``launches`` asks for, without doing it."""
        ...


@functools.cache
def _of_process(pid: int, name: str, limit: int | None) -> Device:
    if name == probing.SHIM:
        return HostDevice(limit)
    from helora_cupy.card import CardDevice

    return CardDevice(limit)


def chosen() -> Device:
    """The device that the environment names; one for the whole process.

    Raises:
        BackendUnavailable: It cannot be used here, or the process was forked after CUDA had started.
    """
    reason = probing.availability()
    if reason is not None:
        raise BackendUnavailable(f"helora-cupy: {reason}.", hint="Run helora backends for what can be used here.")
    return _of_process(os.getpid(), probing.wanted(), memory.stated_limit())


class HostDevice:
    """The CPU in a card's place."""

    name = "the CPU in a card's place, for tests"

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit
        self._counted = memory.Counted(limit)
        self._kernels: dict[tuple[int, tuple[int, ...]], Any] = {}
        self.address = arrays.address

    @property
    def used(self) -> int:
        return self._counted.used

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        yield

    def finish(self) -> None:
        return None

    def kernels(self, ring_degree: int, primes: tuple[int, ...]) -> Kernels:
        key = ring_degree, primes
        return self._kernels.get(key) or self._kernels.setdefault(key, _OnHost(self, choice.kernels(*key)))

    def program(self, ring: Context, lowered: Lowered) -> Any:
        return _Program(ring, lowered)

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike = np.uint64) -> Any:
        size = math.prod(shape) * np.dtype(dtype).itemsize
        self._counted.take(size)
        # What views refer to is this array, since what it refers to is none: it lives as long as they do.
        own = np.frombuffer(arrays.empty((max(size, 1),), np.uint8).data, dtype=np.uint8, count=size)
        weakref.finalize(own, self._counted.give, size)
        return own.view(dtype).reshape(shape)

    def write(self, to: Any, values: Any) -> None:
        to[...] = values

    def recorded(self, launches: Callable[[], None]) -> Recording:
        return _Replay(launches)


class _Replay:
    def __init__(self, launches: Callable[[], None]) -> None:
        self.replay = launches


class _OnHost:
    def __init__(self, device: HostDevice, kernels: Any) -> None:
        self.device, self._own, self.empty = device, kernels, device.empty

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)


class _Program:
    def __init__(self, ring: Context, lowered: Lowered) -> None:
        self._native = NativeProgram(ring.kernels._own, lowered, ring)

    def launch(self, tables: Any, runs: int) -> None:
        self._native.run(tables)
