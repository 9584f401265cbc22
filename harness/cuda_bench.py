"""Times on a card, and what the card itself gives: copies, launches, cuBLAS.

Times are medians over replays of a CUDA graph that holds several launches, so without the cost of a launch from Python.
A batch whose buffers fit the card's L2 is measured there. `share` is bytes read and written a second over what a large
copy reaches.
"""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path
from typing import Any

from helora_cupy import building, device


class Bench:
    """Rows, and times by events around replayed graphs."""

    def __init__(self, card: device.Card, out: Path) -> None:
        self.card, self.cupy, self.out = card, card.cupy, out
        self.rows: list[dict[str, Any]] = []
        self.stream = self.cupy.cuda.Stream(non_blocking=True)
        self.copy = 0.0  # bytes a second, reads and writes

    def row(self, op: str, **cell: Any) -> None:
        self.rows.append({"op": op, **{k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in cell.items()}})

    def save(self, provenance: dict[str, Any]) -> None:
        lines = [json.dumps(row, separators=(",", ":")) for row in (provenance, *self.rows)]
        (self.out / "rows.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def share(self, size: int, us: float) -> float:
        return size / us * 1e6 / self.copy

    def _elapsed(self, replay: Any) -> float:
        start, end = self.cupy.cuda.Event(), self.cupy.cuda.Event()
        start.record(self.stream)
        replay()
        end.record(self.stream)
        end.synchronize()
        return float(self.cupy.cuda.get_elapsed_time(start, end)) * 1000

    def time(self, once: Any, *, graph: bool = True, target_us: float = 3000.0) -> float:
        """Microseconds a call: the median of five replays of as many calls as take `target_us`."""
        with self.stream:
            once()
            once()
            count = max(1, min(400, int(target_us / max(self._elapsed(once), 2.0))))
            if graph:
                self.stream.begin_capture()
                for _ in range(count):
                    once()
                captured = self.stream.end_capture()
                replay: Any = lambda: captured.launch(self.stream)  # noqa: E731
            else:
                replay = lambda: [once() for _ in range(count)]  # noqa: E731
            replay()
            return statistics.median(self._elapsed(replay) for _ in range(5)) / count

    def moved(self, to: int, source: int, size: int, kind: int) -> float:
        return self.time(lambda: self.cupy.cuda.runtime.memcpyAsync(to, source, size, kind, self.stream.ptr))


def measure_machine(bench: Bench) -> None:
    """Copies, launches, and cuBLAS in float64."""
    cupy, unit = bench.cupy, building.keyswitch("fma50", 11)
    a = cupy.ones(1 << 28, cupy.uint64)
    b = cupy.empty_like(a)
    for mib in (8, 256, 2048):
        size = mib << 20
        driver = bench.moved(b.data.ptr, a.data.ptr, size, 3)
        kernel = bench.time(lambda: bench.card.launch(unit, "copy", (size >> 14,), 256, [a, b]))  # noqa: B023 - called at once
        for name, us in (("copy by the driver", driver), ("copy by a kernel", kernel)):
            bench.row(name, mib=mib, us=us, tb_per_s=2 * size / us / 1e6)
        if mib > 64:
            bench.copy = max(bench.copy, 2 * size / min(driver, kernel) * 1e6)
    host = cupy.cuda.alloc_pinned_memory(1 << 26)
    for name, to, source, kind in (
        ("pinned host to card", b.data.ptr, host.ptr, 1),
        ("card to pinned host", host.ptr, b.data.ptr, 2),
    ):
        for size in (1 << 14, 1 << 18, 1 << 26):
            us = bench.moved(to, source, size, kind)
            bench.row(name, kib=size >> 10, us=us, gb_per_s=size / us / 1e3)
    _launches(bench, lambda: bench.card.launch(unit, "nothing", (1,), 32, [b]))
    x = cupy.random.default_rng(1).random((4096, 4096))
    us = bench.time(lambda: cupy.matmul(x, x), graph=False, target_us=20000)
    bench.row("float64 product 4096", us=us, tflop_per_s=2 * 4096**3 / us / 1e6)


def _launches(bench: Bench, empty: Any) -> None:
    bench.row("launch replayed in a graph", us=bench.time(empty))
    with bench.stream:
        for _ in range(200):
            empty()
        bench.stream.synchronize()
        start = time.perf_counter()
        for _ in range(2000):
            empty()
        bench.stream.synchronize()
        bench.row("launch from Python through CuPy", us=(time.perf_counter() - start) * 500)
        bench.stream.begin_capture()
        empty()
        captured = bench.stream.end_capture()
        captured.launch(bench.stream)
        bench.stream.synchronize()
        start = time.perf_counter()
        for _ in range(500):
            captured.launch(bench.stream)
            bench.stream.synchronize()
        bench.row("graph of one launch, replayed and waited for", us=(time.perf_counter() - start) * 2000)
