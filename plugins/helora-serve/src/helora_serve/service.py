"""One server, put together: what is served, to whom, within which limits, and what is kept where."""

from __future__ import annotations

import asyncio
import gc
import logging
import shutil
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from helora_core.errors import InvalidInput
from helora_core.parties.batches import AllBatches
from helora_core.parties.directory_store import DirectoryStore
from helora_serve.auth import Access
from helora_serve.budget import Budget
from helora_serve.catalogue import Catalogue, Loaded, Version
from helora_serve.hosted.serving import Hosted
from helora_serve.hosted.whole import Whole
from helora_serve.keys import KeyStore
from helora_serve.limits import Limits
from helora_serve.metrics import Metrics
from helora_serve.mode import CLIENT_KEY, HOSTED, SPLIT
from helora_serve.offer import Base
from helora_serve.sessions import Sessions
from helora_serve.split.layers import Layers
from helora_serve.split.sessions import SplitSessions
from helora_serve.stores import OwnStore
from helora_serve.worker import Threads, Worker

_LOG = logging.getLogger("helora.serve")
_SWEEP_S = 1.0
_POOL_BYTES = 1 << 30
_BUDGET_BYTES = 64 << 20


class State:
    """What outlives the server, in a folder: keys, counts of queries, and what clients prepared ahead of time.

    Args:
        folder: The folder; None for a temporary one, and nothing but keys is kept.

    Attributes:
        durable: Whether counts and pools outlive the server.
        keys: The folder for keys.
        budget, pools: The stores; None if they are not durable.

    Raises:
        InvalidInput: The folder cannot be used, or another server uses it.
    """

    def __init__(self, folder: Path | None) -> None:
        self.durable = folder is not None
        self._temporary = None if folder else Path(tempfile.mkdtemp(prefix="helora-serve-"))
        self._stores: list[DirectoryStore] = []
        self.keys = (folder or self._temporary or Path()) / "keys"
        self.budget = self.pools = None
        if folder is not None:
            self.budget = self._store(folder / "queries", _BUDGET_BYTES)
            self.pools = self._store(folder / "pools", _POOL_BYTES)

    def close(self) -> None:
        """Unlock the stores, and remove a temporary folder."""
        for store in self._stores:
            store.close()
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def _store(self, folder: Path, most: int) -> OwnStore:
        try:
            self._stores.append(DirectoryStore(folder, most_bytes=most))
        except BaseException:
            self.close()
            raise
        return OwnStore(self._stores[-1])


Load = Callable[[AllBatches], Loaded]
"""Loads what is to be served, with the batches that all versions share."""


def _without_collections(load: Callable[[], Version]) -> Version:
    """Load, while no garbage is collected: loading makes so many objects that all are looked through again and again,
    and each time everything waits.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        return load()
    finally:
        if collecting:
            gc.enable()


class Service:
    """The server, but for HTTP.

    Args:
        load: Loads what is to be served in mode ``client-key``; None not to serve it.
        limits: The limits.
        access: Who is served; everybody at this machine if None.
        state: What outlives it; closed with it.
        worker: Computes; threads if None.
        bases: Base models of adapters.
        layers: What runs in mode ``split``; None not to serve it. Closed with the service.
        hosted: The same model with text at both ends, for mode ``hosted``; None not to serve it.

    Attributes:
        split: The sessions of mode ``split``; None if it is not served.
        hosted: Mode ``hosted``; None if it is not served.
        catalogue, keys, sessions: Of mode ``client-key``; None if it is not served.
        limits, access, worker, metrics, budget: Its other parts.

    Raises:
        InvalidInput: It would serve nothing.
    """

    def __init__(
        self,
        load: Load | None,
        *,
        limits: Limits | None = None,
        access: Access | None = None,
        state: State | None = None,
        worker: Worker | None = None,
        bases: Mapping[str, Base] | None = None,
        layers: Layers | None = None,
        hosted: Whole | None = None,
    ) -> None:
        self.limits, self.access = limits or Limits(), access or Access(None)
        self.state, self.worker, self.metrics = state or State(None), worker or Threads(), Metrics()
        self.budget = Budget(self.state.budget, self.limits.queries)
        self.split = None if layers is None else SplitSessions(layers, self.limits, self.metrics, self.budget)
        self.hosted: Hosted | None = None
        self.catalogue: Catalogue | None = None
        self.keys: KeyStore | None = None
        self.sessions: Sessions | None = None
        try:
            if load is None and self.split is None:
                raise InvalidInput("Serve: there is nothing to serve.", hint="Name an artifact, or give --split BASE.")
            if self.split is not None and hosted is not None:
                run, in_turn = self.split.run, self.split.in_turn
                self.hosted = Hosted(hosted, run, in_turn, self.limits, self.metrics, self.budget)
            if load is not None:
                batches, loading = AllBatches(self.state.pools, self.limits.of_server), load
                self.catalogue = Catalogue(lambda: loading(batches), self.limits, bases)
                self.keys = KeyStore(self.state.keys, self.limits)
                self.sessions = Sessions(self.catalogue, self.keys, self.budget, self.worker, self.limits, self.metrics)
        except BaseException:
            self.close()
            raise
        self.sockets = 0
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def modes(self) -> tuple[str, ...]:
        """Names of the modes that are served."""
        served = {CLIENT_KEY: self.sessions is not None, SPLIT: self.split is not None, HOSTED: self.hosted is not None}
        return tuple(mode for mode, there in served.items() if there)

    @property
    def draining(self) -> bool:
        """Whether nothing new is served any more."""
        return any(each is not None and each.draining for each in (self.sessions, self.split))

    async def start(self) -> None:
        """Begin to sweep and to watch the event loop."""
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self.metrics.watch()), loop.create_task(self._sweep())]

    async def stop(self) -> None:
        """Finish the answers in hand, end all sessions, and stop."""
        await self.drain()
        for task in self._tasks:
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def drain(self) -> None:
        """Open nothing more, finish the answers in hand, and end all sessions."""
        parts = (self.sessions, self.split, self.hosted)
        await asyncio.gather(*(each.drain() for each in parts if each is not None))

    def close(self) -> None:
        """Let go of threads and files."""
        self.worker.stop()
        for part in (self.hosted, self.split, self.catalogue):
            if part is not None:
                part.close()
        try:
            self.budget.close()
        finally:
            self.state.close()

    async def reload(self) -> bool:
        """Load what is served anew and offer it; sessions of older versions go on. Returns whether it is another one.
        Base models stay as they are.

        Raises:
            HeloraError: It cannot be loaded; what is served stays.
        """
        if self.catalogue is None:
            return False
        version = await asyncio.to_thread(_without_collections, self.catalogue.loaded)
        changed = self.catalogue.offer(version)
        _LOG.info("offer %s: %s", "changed" if changed else "unchanged", self.catalogue.current.name[:12])
        return changed

    def count(self) -> bytes:
        """The metrics' text, as things stand."""
        metrics, sessions = self.metrics, self.sessions.all if self.sessions is not None else ()
        metrics.sessions.set(len(sessions))
        metrics.sockets.set(self.sockets)
        metrics.window.set(sum(each.exchange.window_bytes for each in sessions))
        metrics.in_flight.set(sum(each.exchange.in_flight_bytes for each in sessions))
        if self.keys is not None and self.catalogue is not None:
            metrics.key_bytes.set(self.keys.used_bytes)
            metrics.versions.set(len(self.catalogue.versions))
        metrics.copied.set(max((each.usage.share_of_copy for each in sessions), default=0.0))
        if self.split is not None:
            metrics.split_sessions.set(len(self.split))
            metrics.split_cache.set(self.split.cache_bytes)
        return metrics.text()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(min(_SWEEP_S, self.limits.ttl_s / 4, self.limits.stall_s))
            for part in (self.sessions, self.split, self.keys):
                try:
                    if part is not None:
                        part.sweep()
                except Exception as error:  # the next sweep is due all the same
                    _LOG.error("sweeping failed: %s", type(error).__name__)
