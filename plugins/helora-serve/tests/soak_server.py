"""A server as a process of its own, what it says of itself, and an event loop beside it that does nothing."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

from helora_serve.metrics import Metrics

LAG = "helora_event_loop_lag_seconds"


class Process:
    """``helora serve`` as a process.

    Args:
        served: The artifact.
        backend: Its backend.
        arguments: Further options.

    Attributes:
        started: What it printed when it listened.
        url: Where.
    """

    def __init__(self, served: Path, backend: str, *arguments: str) -> None:
        command = [sys.executable, "-m", "helora_core", "serve", str(served), "--backend", backend, "--port", "0"]
        self._process = subprocess.Popen(
            [*command, "--json", *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self._process.stdout
        self.started = json.loads(self._process.stdout.readline())
        self.url = self.started["address"]

    @property
    def mib(self) -> float:
        """Resident memory."""
        return self._status("VmRSS") / 1024

    @property
    def most_mib(self) -> float:
        """The most resident memory that it had."""
        return self._status("VmHWM") / 1024

    def cpu_s(self) -> tuple[float, float]:
        """Processor time of all its threads, and of the event loop's, in seconds."""
        tasks = Path(f"/proc/{self._process.pid}/task")
        times = {each.name: int((each / "schedstat").read_text().split()[0]) * 1e-9 for each in tasks.iterdir()}
        return sum(times.values()), times[str(self._process.pid)]

    def metrics(self) -> dict[str, float]:
        """Its metrics."""
        with urllib.request.urlopen(f"{self.url}/metrics") as answer:
            return parsed(answer.read())

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(60)

    def _status(self, name: str) -> int:
        lines = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def parsed(text: bytes) -> dict[str, float]:
    """Prometheus' text as samples by their names and labels."""
    lines = [line.rpartition(" ") for line in text.decode().splitlines() if line[:1] != "#"]
    return {name: float(value) for name, _, value in lines}


def lag_ms(after: dict[str, float], before: dict[str, float], share: float) -> float:
    """The upper end of the histogram's bucket that a quantile of the loop's lag is in, of what came between."""
    total = after[f"{LAG}_count"] - before.get(f"{LAG}_count", 0.0)
    for key, count in after.items():
        if key.startswith(f'{LAG}_bucket{{le="') and count - before.get(key, 0.0) >= share * total:
            return round(1e3 * float(key.split('"')[1]), 1)
    return float("inf")


class BareLoop:
    """An event loop in a process of its own that only watches itself: what the machine alone does to one."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("fork")
        self._ends, theirs = context.Pipe()
        self._process = context.Process(target=_watch, args=(theirs,), daemon=True)
        self._process.start()

    def stop(self) -> dict[str, float]:
        """End it. Returns its metrics."""
        self._ends.send(None)
        found: dict[str, float] = self._ends.recv()
        self._process.join()
        return found


def _watch(end: Any) -> None:
    async def until_told() -> None:
        loop, told = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(end.fileno(), told.set)
        watching = loop.create_task(metrics.watch())
        await told.wait()
        loop.remove_reader(end.fileno())
        watching.cancel()

    metrics = Metrics()
    asyncio.run(until_told())
    end.send(parsed(metrics.text()))
    os._exit(0)
