"""The device that the backend computes on: a card, or for tests the same kernels on the CPU.

Threads have a stream each, so that their requests do not wait for one another. What one thread makes for others to use
(keys, plaintexts, weights, encryptions of zero) is finished before it is handed over; what belongs to a request stays
in its thread's stream.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike

from helora_core.errors import BackendUnavailable
from helora_cupy import memory, probing
from helora_cupy.batches import BatchKernels
from helora_cupy.building import Unit
from helora_cupy.device import Array, Card, Device, Shim


class Recording(Protocol):
    """Launches in an order, to be done again and again."""

    def replay(self) -> None:
        """Ask for all of them, in this thread's stream."""
        ...


class Running(Device, Protocol):
    """A device that many threads use, within a limit.

    Attributes:
        name: In words.
        kind: Without what differs between devices of one kind; profiles are for a kind.
        limit: Bytes that the backend may use, or None.
    """

    kind: str
    limit: int | None

    @property
    def used(self) -> int:
        """Bytes in use."""
        ...

    def working(self) -> contextlib.AbstractContextManager[None]:
        """In it, calls go to this thread's stream.

        Raises:
            LimitExceeded: In it, the device's memory was used up. Whatever was asked for has failed; nothing else has.
        """
        ...

    def settled(self) -> bool:
        """Wait for all streams; False if this process is a fork of the one that has the device, not to be touched."""
        ...

    def write(self, to: Array, values: Any) -> None:
        """Copy an array of the host's into one of the device's, in this thread's stream."""
        ...

    def recorded(self, launches: Callable[[], None]) -> Recording:
        """What ``launches`` asks for, without doing it."""
        ...


class KernelsOf:
    """Makes kernels of rings, on one device; the same object for all that ask for the same."""

    def __init__(self, device: Running) -> None:
        self._device = device
        self._made: dict[tuple[int, tuple[int, ...]], BatchKernels] = {}
        self._lock = threading.Lock()

    def __call__(self, ring_degree: int, primes: tuple[int, ...]) -> BatchKernels:
        with self._lock:
            found = self._made.get((ring_degree, primes))
            if found is None:
                found = BatchKernels(self._device, ring_degree, primes)
                self._device.finish()
                self._made[ring_degree, primes] = found
            return found


@functools.cache
def _named(name: str, limit: int | None) -> Running:
    return RunningShim(limit) if name == probing.SHIM else RunningCard(limit)


def chosen() -> Running:
    """The device that the environment names; one for the whole process.

    Raises:
        BackendUnavailable: It cannot be used here.
    """
    reason = probing.availability()
    if reason is not None:
        raise BackendUnavailable(f"helora-cupy: {reason}.", hint="Run helora backends for what can be used here.")
    return _named(probing.wanted(), memory.stated_limit())


class RunningShim(Shim):
    """The kernels on the CPU, in a card's place: for tests.

    Args:
        limit: Bytes that may be in use.
    """

    name = "the CPU in a card's place, by g++, for tests"
    kind = probing.SHIM

    def __init__(self, limit: int | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.limit = limit
        self.counted = memory.Counted(limit)
        self._own = threading.local()

    @property
    def used(self) -> int:
        return self.counted.used

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        yield

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike = np.uint64) -> Array:
        raw = np.empty(shape, dtype)
        if not raw.nbytes:
            return raw
        self.counted.take(raw.nbytes)
        # Views refer to this array, since what it refers to is none: it lives as long as they do.
        own = np.frombuffer(raw.reshape(-1).view(np.uint8).data, dtype=np.uint8)
        weakref.finalize(own, self.counted.give, raw.nbytes).atexit = False
        return own.view(dtype).reshape(shape)

    def put(self, values: Any) -> Array:
        values = np.asarray(values)
        copy = self.empty(values.shape, values.dtype)
        copy[...] = values
        return copy

    def settled(self) -> bool:
        return True

    def write(self, to: Array, values: Any) -> None:
        to[...] = values

    def launch(
        self, unit: Unit, kernel: str, grid: tuple[int, ...], threads: int, args: Sequence[Any], shared: int = 0
    ) -> None:
        kept = getattr(self._own, "kept", None)
        if kept is not None:
            kept.append((unit, kernel, grid, threads, args, shared))
            return
        super().launch(unit, kernel, grid, threads, args, shared)

    def recorded(self, launches: Callable[[], None]) -> Recording:
        kept: list[tuple[Any, ...]] = []
        self._own.kept = kept
        try:
            launches()
        finally:
            self._own.kept = None
        return _Kept(self, kept)


class _Kept:
    """Launches as they were asked for."""

    def __init__(self, shim: RunningShim, launches: Sequence[tuple[Any, ...]]) -> None:
        self._shim, self._launches = shim, launches

    def replay(self) -> None:
        for each in self._launches:
            self._shim.launch(*each)


class RunningCard(Card):
    """A card, by streams and recorded graphs.

    Args:
        limit: Bytes that may be in use; by default a share of what is free now.
    """

    def __init__(self, limit: int | None = None) -> None:
        super().__init__()
        cuda = self.cupy.cuda
        found = cuda.runtime.getDeviceProperties(cuda.Device().id)
        self.kind = found["name"].decode(errors="replace")
        self.name = f"{self.kind}, compute capability {found['major']}.{found['minor']}"
        self.limit: int | None = limit or int(memory.DEFAULT_SHARE * cuda.runtime.memGetInfo()[0])
        self._pool = cuda.MemoryPool()
        self._pool.set_limit(size=self.limit)
        self._own, self._process = threading.local(), os.getpid()

    @property
    def used(self) -> int:
        return int(self._pool.used_bytes())

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        if getattr(self._own, "working", False):
            yield
            return
        if os.getpid() != self._process:
            raise BackendUnavailable(
                "helora-cupy: this process was forked from one that had started CUDA, which does not work in a copy.",
                hint="Start processes that use the card by spawn, or fork before the first use of the backend.",
            )
        self._own.working = True
        try:
            with self._stream(), self.cupy.cuda.using_allocator(self._pool.malloc):
                yield
        except MemoryError as error:  # CuPy's OutOfMemoryError is one
            raise memory.exceeded(getattr(error, "_size", 0), self.used, self.limit or 0) from error
        finally:
            self._own.working = False

    def _stream(self) -> Any:
        stream = getattr(self._own, "stream", None)
        if stream is None:
            stream = self._own.stream = self.cupy.cuda.Stream(non_blocking=True)
        return stream

    def finish(self) -> None:
        self._stream().synchronize()

    def settled(self) -> bool:
        if os.getpid() != self._process:
            return False
        self.cupy.cuda.Device().synchronize()
        return True

    def write(self, to: Array, values: Any) -> None:
        to.set(np.ascontiguousarray(values))

    def launch(
        self, unit: Unit, kernel: str, grid: tuple[int, ...], threads: int, args: Sequence[Any], shared: int = 0
    ) -> None:
        if getattr(self._own, "compiling", False):
            self.kernel(unit, kernel, shared)
            return
        super().launch(unit, kernel, grid, threads, args, shared)

    def recorded(self, launches: Callable[[], None]) -> Recording:
        self._own.compiling = True  # modules cannot be loaded while a graph is captured
        try:
            launches()
        finally:
            self._own.compiling = False
        with self.working():
            stream = self._stream()
            stream.begin_capture()
            try:
                launches()
            finally:
                graph = stream.end_capture()
        return _Graph(self, graph)


class _Graph:
    """A captured CUDA graph."""

    def __init__(self, card: RunningCard, graph: Any) -> None:
        self._card, self._graph = card, graph

    def replay(self) -> None:
        self._graph.launch(self._card._stream())
