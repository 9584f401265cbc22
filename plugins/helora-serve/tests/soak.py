"""Two soaks of a server in a process of its own: malformed frames, and many clients at once. ``python soak.py --help``.

The clients replay activations with real encryption: latency of a request, fairness between clients, memory of the
server, and how late its event loop ran are printed as JSON, and bounds on them are held.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import noise

from helora_core.adapter.lora import ModuleShape
from helora_core.adapter.synthetic import synthetic_activations, synthetic_module
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.compiled import CompiledModule, Part
from helora_core.host.manager import get_manager
from helora_core.parties.client import Client
from helora_core.parties.compiled_lora import CompiledLoRA
from helora_serve.client import connect

NOISE_SHAPE = ModuleShape.parse("24:20:3")


def artifact(folder: Path, shape: ModuleShape, backend: str) -> Path:
    """A module ``q``, compiled."""
    module = synthetic_module(shape, seed=1, name="q")
    plan = compile_plan(shape, get_manager().load_packing("rank_bsgs"), module=module)
    compiled = CompiledModule(module, (Part(name="q", d_out=shape.d_out),), plan)
    CompiledLoRA((compiled,), get_manager().load_backend(backend), secure=backend != "numpy").save(folder)
    return folder


class Process:
    """``helora serve`` as a process."""

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
        pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)

    def metrics(self) -> dict[str, float]:
        """Its metrics."""
        with urllib.request.urlopen(f"{self.url}/metrics") as answer:
            lines = answer.read().decode().splitlines()
        return {name: float(value) for name, _, value in (each.rpartition(" ") for each in lines if each[:1] != "#")}

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(60)


def malformed(frames: int, folder: Path) -> dict[str, Any]:
    """Send malformed frames; between them a client is served, and afterwards memory is what it was."""
    server = Process(artifact(folder / "noise", NOISE_SHAPE, "numpy"), "numpy", "--ttl", "2", "--sessions", "4096")
    x, right = synthetic_activations(NOISE_SHAPE, 1, seed=0), 0
    module = synthetic_module(NOISE_SHAPE, seed=1, name="q")
    try:
        with connect(server.url) as remote, connect(server.url) as other:
            client = Client(remote.offer())
            session = remote.open(client.evaluation_keys())
            noise.soak(other, max(1, frames // 10), seed=0)
            before, steps = server.mib, 10
            for step in range(steps):
                noise.soak(other, frames // steps, seed=1 + step)
                delta = client.delta("q", x, session)
                right += bool(abs(delta - module.reference_delta(x)).max() < 1e-3)
            time.sleep(5)
            after, found = server.mib, server.metrics()
    finally:
        server.stop()
    report = {
        "frames": frames,
        "right": f"{right} of {steps}",
        "mib_before": round(before),
        "mib_after": round(after),
        "faults_of_the_server": found.get('helora_http_refusals_total{code="helora-error"}', 0.0),
    }
    assert right == steps, report
    assert after - before < 100, report
    assert not report["faults_of_the_server"], report
    return report


def many(clients: int, seconds: float, folder: Path, shape: str, backend: str) -> dict[str, Any]:
    """Clients that ask one after another as fast as they get answers."""
    of = ModuleShape.parse(shape)
    server = Process(
        artifact(folder / f"many{clients}", of, backend), backend, "--sessions", str(max(32, clients)), "--ttl", "600"
    )
    times: list[list[float]] = [[] for _ in range(clients)]
    ready, end = threading.Barrier(clients + 1), [0.0]

    def ask(number: int) -> None:
        with connect(server.url, timeout=120) as remote:
            client = Client(remote.offer())
            session = remote.open(client.evaluation_keys())
            messages = [client.begin("q", synthetic_activations(of, 1, seed=seed)).message() for seed in range(1)]
            ready.wait()
            while time.monotonic() < end[0]:
                # Another request each time: the same one would be answered from memory.
                messages[0] = client.begin("q", synthetic_activations(of, 1, seed=number)).message()
                start = time.perf_counter()
                session.answer(messages[0])
                times[number].append(time.perf_counter() - start)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(clients)]
    try:
        for each in threads:
            each.start()
        end[0] = time.monotonic() + 1e9
        ready.wait()
        end[0] = time.monotonic() + seconds
        for each in threads:
            each.join()
        found, memory = server.metrics(), server.mib
    finally:
        server.stop()
    counts = [len(each) for each in times]
    every = sorted(one for each in times for one in each)

    def percentile(share: float) -> float:
        return round(1e3 * every[min(len(every) - 1, int(share * len(every)))], 1)

    return {
        "clients": clients,
        "requests_per_s": round(len(every) / seconds, 1),
        "ms_p50_p95_p99": [percentile(0.5), percentile(0.95), percentile(0.99)],
        "fairness_least_of_mean": round(min(counts) / statistics.mean(counts), 2),
        "server_mib": round(memory),
        "loop_lag_ms_p99.9": _lag(found, 0.999),
        "compute_ms_mean": round(1e3 * found["helora_compute_seconds_sum"] / found["helora_compute_seconds_count"], 2),
    }


def _lag(found: dict[str, float], share: float) -> float:
    """The upper end of the histogram's bucket that the quantile is in, in milliseconds."""
    name = "helora_event_loop_lag_seconds"
    total = found[f"{name}_count"]
    for key, count in found.items():
        if key.startswith(f'{name}_bucket{{le="') and count >= share * total:
            return 1e3 * float(key.split('"')[1])
    return float("inf")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--clients", default="1,8,32")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--shape", default="576:768:16")
    parser.add_argument("--backend", default="rns")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        if given.frames:
            print(json.dumps(malformed(given.frames, Path(place))), flush=True)
        for count in filter(None, given.clients.split(",")):
            print(json.dumps(many(int(count), given.seconds, Path(place), given.shape, given.backend)), flush=True)
