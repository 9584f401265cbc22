"""Holds the CUDA kernels to the reference on a card, measures them, and writes rows: ``python harness/cuda_check.py --out DIR``.

Needs a checkout, a card, CuPy and NumPy; no network. Without a card it says why and exits with 2; a kernel that differs
from the reference makes it exit with 1. ``--compile-only`` needs no card: it builds cubins with the compiler of the wheel
nvidia-cuda-nvrtc into ``--cubins``, which a later run with the same sources takes instead of compiling.

``DIR/rows.jsonl``: the first line says where, when, with what; then one row a measurement, times in microseconds. Times are
medians over replays of a CUDA graph that holds several launches, so without the cost of a launch from Python. A batch whose
buffers fit the card's L2 is measured there; `share` is bytes read and written a second over what a large copy reaches.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import shutil
import statistics
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "plugins" / "helora-cupy" / "src"))

from helora_cupy import building, checks  # noqa: E402
from helora_cupy.tables import FORMS, buffer_bytes, constants, halves, mod_rows, primes, table  # noqa: E402

DEGREES = (11, 12, 13, 14)
BATCHES = (1, 4, 16, 64, 256, 1024, 4096)
KEYSWITCH = ("fma50", "montgomery64", "friendly64")
SHAPES = ((576, 768, 16), (1536, 1536, 32))
TOKENS = 4096


def units() -> list[building.Unit]:
    transforms = [building.ntt(form, log_n) for form in FORMS for log_n in DEGREES]
    switches = [building.keyswitch(form, n, 3, r) for form in KEYSWITCH for n in (11, 13, 14) for r in (1, 4)]
    return [*transforms, *switches, building.GEMM]


def compile_unit(unit: building.Unit, folder: Path, arch: str) -> str:
    cubin, log = building.Nvrtc(building.find_nvrtc() or Path()).compile(unit, arch)
    (folder / f"{unit.digest(arch)}.log").write_text(log, encoding="utf-8")
    (folder / f"{unit.digest(arch)}.cubin").write_bytes(cubin)
    return f"compiled {unit.source} {' '.join(unit.options())} for {arch}"


def compile_all(folder: Path, arch: str) -> None:
    if building.find_nvrtc() is None:
        sys.exit("no NVRTC here: pip install nvidia-cuda-nvrtc")
    folder.mkdir(parents=True, exist_ok=True)
    missing = [unit for unit in units() if not (folder / f"{unit.digest(arch)}.cubin").exists()]
    with ProcessPoolExecutor() as pool:
        for done in as_completed([pool.submit(compile_unit, unit, folder, arch) for unit in missing]):
            print(done.result(), flush=True)


class Bench:
    """Rows, and times by events around replayed graphs."""

    def __init__(self, card: building.Card, out: Path) -> None:
        self.card, self.cupy, self.rows, self.out = card, card.cupy, [], out  # type: Any, Any, list[dict[str, Any]], Path
        self.stream = self.cupy.cuda.Stream(non_blocking=True)
        self.copy = 0.0  # bytes a second, reads and writes

    def row(self, op: str, **cell: Any) -> None:
        self.rows.append({"op": op, **{k: round(v, 5) if isinstance(v, float) else v for k, v in cell.items()}})

    def save(self, provenance: dict[str, Any]) -> None:
        lines = [json.dumps(row, separators=(",", ":")) for row in (provenance, *self.rows)]
        (self.out / "rows.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")

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
            single = self._elapsed(once)
            count = max(1, min(400, int(target_us / max(single, 2.0))))
            if graph:
                self.stream.begin_capture()
                for _ in range(count):
                    once()
                captured = self.stream.end_capture()
                replay = lambda: captured.launch(self.stream)  # noqa: E731
            else:
                replay = lambda: [once() for _ in range(count)]  # noqa: E731
            replay()
            return statistics.median(self._elapsed(replay) for _ in range(5)) / count


def measure_machine(bench: Bench) -> None:
    cupy = bench.cupy
    a = cupy.ones(1 << 28, cupy.uint64)
    b = cupy.empty_like(a)
    unit = building.keyswitch("fma50", 11)
    for mib in (8, 256, 2048):
        size = mib << 20
        driver = bench.time(lambda: cupy.cuda.runtime.memcpyAsync(b.data.ptr, a.data.ptr, size, 3, bench.stream.ptr))  # noqa: B023
        kernel = bench.time(lambda: bench.card.launch(unit, "copy", (size >> 14,), 256, [a, b]))  # noqa: B023
        for name, us in (("copy by the driver", driver), ("copy by a kernel", kernel)):
            bench.row(name, mib=mib, us=us, tb_per_s=2 * size / us / 1e6)
        if mib > 64:
            bench.copy = max(bench.copy, 2 * size / min(driver, kernel) * 1e6)
    host = cupy.cuda.alloc_pinned_memory(1 << 26)
    for name, kind in (("pinned host to card", 1), ("card to pinned host", 2)):
        for size in (1 << 14, 1 << 18, 1 << 26):
            there, here = (b.data.ptr, host.ptr) if kind == 1 else (host.ptr, b.data.ptr)
            us = bench.time(lambda: cupy.cuda.runtime.memcpyAsync(there, here, size, kind, bench.stream.ptr))  # noqa: B023
            bench.row(name, kib=size >> 10, us=us, gb_per_s=size / us / 1e3)
    empty = lambda: bench.card.launch(unit, "nothing", (1,), 32, [b])  # noqa: E731
    bench.row("launch replayed in a graph", us=bench.time(empty))
    with bench.stream:
        for _ in range(200):
            empty()
        bench.stream.synchronize()
        start = time.perf_counter()
        for _ in range(2000):
            empty()
        asked = time.perf_counter() - start
        bench.stream.synchronize()
        bench.row("launch from Python through CuPy", us_to_ask=asked * 500, us=(time.perf_counter() - start) * 500)
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
    x = cupy.random.default_rng(1).random((4096, 4096))
    us = bench.time(lambda: cupy.matmul(x, x), graph=False, target_us=20000)
    bench.row("float64 product 4096", us=us, tflop_per_s=2 * 4096**3 / us / 1e6)


def measure_ntt(bench: Bench, degrees: tuple[int, ...], batches: tuple[int, ...]) -> None:
    card, cupy = bench.card, bench.cupy
    for form, (_, word, bits, _) in FORMS.items():
        for log_n in degrees:
            n, qs = 1 << log_n, primes(form, 4)
            some = np.random.default_rng(log_n).integers(0, 1 << (bits - 1), (64, n)).astype(word)
            given = cupy.tile(cupy.asarray(some), (max(batches) // 64 + 1, 1))[: max(batches)]
            out, back, rows = cupy.empty_like(given), cupy.empty_like(given), card.put(mod_rows(form, qs, log_n))
            unit, best = building.ntt(form, log_n), {}
            for direction in ("forward", "inverse"):
                for log_e in (e for e in (3, 4, 5) if n >> e <= 1024):
                    twiddles = card.put(table(form, qs, log_n, log_e, inverse=direction == "inverse"))
                    shared, name = buffer_bytes(form, log_n, log_e), f"{direction}_{log_e}"
                    kernel = card.kernel(unit, name, shared)

                    def run(batch: int, source: Any = given, to: Any = out, kernel: Any = kernel, twiddles: Any = twiddles,
                            log_e: int = log_e, shared: int = shared, rows: Any = rows, n: int = n) -> None:  # fmt: skip
                        kernel((batch,), (n >> log_e,), (source, to, twiddles, rows, np.int32(4)), shared_mem=shared)

                    for batch in (1, 64, min(1024, max(batches))):
                        us = bench.time(lambda: run(batch)) / batch  # noqa: B023
                        share = 2 * n * given.itemsize / us * 1e6 / bench.copy
                        bench.row("ntt by elements a thread", form=form, direction=direction, n=n, elements=1 << log_e, batch=batch,
                                  us=us * batch, us_per_limb=us, share=share, registers=kernel.num_regs,
                                  local_bytes=kernel.local_size_bytes)  # fmt: skip
                    if direction not in best or us < best[direction][0]:
                        best[direction] = (us, log_e, run)
                _, log_e, run = best[direction]
                for batch in batches:
                    us = bench.time(lambda: run(batch)) / batch  # noqa: B023
                    bench.row("ntt", form=form, direction=direction, n=n, elements=1 << log_e, batch=batch, us_per_limb=us,
                              us=us * batch, share=2 * n * given.itemsize / us * 1e6 / bench.copy)  # fmt: skip
            twiddles, parts = card.put(table(form, qs, log_n, 3, inverse=False, halves=True)), halves(form, log_n, 3)

            def two(batch: int) -> None:
                rest = [out, twiddles, rows, 4]  # noqa: B023
                for part, args in zip(parts, ([given, *rest], rest), strict=True):  # noqa: B023
                    card.launch(unit, part.kernel, (part.tiles, batch), part.threads, args, part.shared)  # noqa: B023

            for batch in (b for b in batches if b <= 1024):
                us = bench.time(lambda: two(batch)) / batch  # noqa: B023
                bench.row("ntt in halves", form=form, direction="forward", n=n, elements=8, batch=batch, us=us * batch,
                          us_per_limb=us, share=2 * n * given.itemsize / us * 1e6 / bench.copy)  # fmt: skip
            with bench.stream:
                best["forward"][2](max(batches))
                best["inverse"][2](max(batches), out, back)
                bench.stream.synchronize()
                if not bool((back == given).all()):
                    raise AssertionError(f"{form} N={n}: inverse(forward(x)) is not x in a batch of {max(batches)}")
            print(
                f"  {form} N={n}: forward {best['forward'][0]:.4f}, inverse {best['inverse'][0]:.4f} µs a limb",
                flush=True,
            )


def measure_keyswitch(bench: Bench, degrees: tuple[int, ...], batches: tuple[int, ...]) -> None:
    """Three digits, four primes: what a rotation of three data limbs costs."""
    card, cupy, digits, limbs = bench.card, bench.cupy, 3, 4
    for form in KEYSWITCH:
        for log_n in degrees:
            n, qs = 1 << log_n, primes(form, 4)
            rng = np.random.default_rng(log_n)
            some = cupy.asarray(rng.integers(0, 1 << 49, (1, digits, limbs, n)).astype(np.uint64))
            key = np.stack([constants(form, [int(v) for v in rng.integers(0, q, n)], q) for q in qs])
            cooked = card.put(checks.key_layout(np.broadcast_to(key, (digits, 2, limbs, n))))
            rows, most = card.put(mod_rows(form, qs, log_n)), max(batches)
            given, out = cupy.tile(some, (most, 1, 1, 1)), cupy.empty((most, 2, limbs, n), cupy.uint64)
            for runs in (1, 4):
                unit = building.keyswitch(form, log_n, digits, runs)
                for batch in (b for b in batches if b % runs == 0):
                    args = [given, cooked, out, rows, limbs]
                    us = bench.time(
                        lambda: card.launch(unit, "inner_product", (n // 256, limbs, batch // runs), 256, args)
                    )  # noqa: B023
                    bench.row("inner product", form=form, n=n, digits=digits, limbs=limbs, runs_a_thread=runs, batch=batch,
                              us=us, us_per_run=us / batch, share=(digits + 2) * limbs * n * 8 * batch / us * 1e6 / bench.copy)  # fmt: skip
            unit, others = building.keyswitch(form, log_n, digits), cupy.asarray(np.array(qs[:digits], np.uint64))
            lift = card.put(np.array([[-o % q for q in qs] for o in qs[:digits]], np.uint64))
            for log_e in (e for e in (3, 4) if n >> e <= 1024):
                twiddles, shared = (
                    card.put(table(form, qs, log_n, log_e, inverse=False)),
                    buffer_bytes(form, log_n, log_e),
                )
                args = [given, cooked, out, twiddles, rows, others, lift, limbs]
                for batch in batches:
                    us = bench.time(
                        lambda: card.launch(unit, f"switch_key_{log_e}", (limbs, batch), n >> log_e, args, shared)
                    )  # noqa: B023
                    kernel = card.kernel(unit, f"switch_key_{log_e}")
                    bench.row("key switch, fused", form=form, n=n, digits=digits, limbs=limbs, elements=1 << log_e, batch=batch, us=us,
                              us_per_run=us / batch, registers=kernel.num_regs, local_bytes=kernel.local_size_bytes)  # fmt: skip
            a, b, s, to = (cupy.tile(some[0, 0, :, :], (most, 1)) for _ in range(4))
            if form == "fma50":
                b = b.astype(cupy.float64) - float(1 << 48)
            us = bench.time(
                lambda: card.launch(unit, "multiply_add", (n // 512, 4 * most), 256, [a, b, s, to, rows, limbs])
            )  # noqa: B023
            bench.row(
                "multiply-add",
                form=form,
                n=n,
                limbs=4 * most,
                us_per_limb=us / most / 4,
                share=32 * n * 4 * most / us * 1e6 / bench.copy,
            )
            print(f"  {form} N={n} done", flush=True)


def measure_gemm(bench: Bench, tokens: int) -> None:
    card, cupy = bench.card, bench.cupy
    rng, mod = np.random.default_rng(5), card.put(mod_rows("montgomery64", primes("fma50")[:1], 14))
    for d_in, d_out, rank in SHAPES:
        x = cupy.asarray(rng.integers(0, 1 << 49, (tokens, d_in)).astype(np.uint64))
        hidden, out = cupy.zeros((tokens, rank), cupy.uint64), cupy.empty((tokens, d_out), cupy.uint64)
        for name in ("wrap", "wrap_small", "integer128", "fma", "fma_small"):
            high = {"wrap_small": 1 << 20, "fma_small": 1 << 19}.get(name, 1 << 49)
            kind = {"wrap_small": np.uint32, "fma_small": np.float64}.get(name, np.uint64)
            down, up = (card.put(rng.integers(0, high, s).astype(kind)) for s in ((d_in, rank), (rank, d_out)))

            def product(a: Any, b: Any, c: Any, width: int, slice_: int, name: str = name) -> None:
                (rows, depth), columns = a.shape, c.shape[1]
                grid = (-(-rows // 64), -(-columns // width), -(-depth // slice_))
                threads = {16: 128, 32: 128, 64: 256}[width]
                shared = checks.gemm_bytes(name, width)
                card.launch(
                    building.GEMM,
                    f"{name}_{width}",
                    grid,
                    threads,
                    [a, b, c, mod, rows, depth, columns, slice_],
                    shared,
                )

            def first(slices: int) -> None:
                hidden.data.memset_async(0, hidden.nbytes, bench.stream)  # noqa: B023
                product(x, down, hidden, rank, -(-d_in // slices))  # noqa: B023

            times = {slices: bench.time(lambda: first(slices)) for slices in (4, 8, 16)}  # noqa: B023
            slices = min(times, key=times.__getitem__)
            cupy.remainder(hidden, np.uint64(1 << 49), out=hidden)
            second = {width: bench.time(lambda: product(hidden, up, out, width, rank)) for width in (32, 64)}  # noqa: B023
            width = min(second, key=second.__getitem__)
            us, macs = times[slices] + second[width], tokens * rank * (d_in + d_out)
            bench.row("lora product", form=name, shape=f"{d_in}:{d_out}:{rank}", tokens=tokens, slices=slices, width=width,
                      us_down=times[slices], us_up=second[width], us=us, tera_macs_per_s=macs / us / 1e6,
                      tokens_per_s=round(tokens / us * 1e6))  # fmt: skip
            print(f"  {d_in}:{d_out}:{rank} {name}: {us:.1f} µs", flush=True)
        xf, df, uf = (
            cupy.random.random((tokens, d_in)),
            cupy.random.random((d_in, rank)),
            cupy.random.random((rank, d_out)),
        )
        us = bench.time(lambda: cupy.matmul(cupy.matmul(xf, df), uf), graph=False)  # noqa: B023
        bench.row("lora product", form="plaintext float64 (cuBLAS)", shape=f"{d_in}:{d_out}:{rank}", tokens=tokens, us=us,
                  tera_macs_per_s=tokens * rank * (d_in + d_out) / us / 1e6, tokens_per_s=round(tokens / us * 1e6))  # fmt: skip


def smoke(card: building.Card) -> None:
    """What compute-sanitizer runs: every kind of kernel once, small."""
    for form in FORMS:
        checks.check_ntt(card, form, 11, kinds=1)
    checks.check_keyswitch(card, "fma50", 11)
    checks.check_gemm(card, 70, 40, 50, 2)


def sanitize(bench: Bench, cubins: Path | None) -> bool:
    tool = shutil.which("compute-sanitizer") or next(
        iter(map(str, Path("/usr/local/cuda/bin").glob("compute-sanitizer"))), None
    )
    if tool is None:
        print("  compute-sanitizer is not installed: not run")
        bench.row("compute-sanitizer", ran=False)
        return True
    good = True
    for check in ("memcheck", "racecheck", "synccheck"):
        extra = ["--cubins", str(cubins)] if cubins else []
        command = [
            tool,
            "--tool",
            check,
            "--error-exitcode",
            "9",
            sys.executable,
            __file__,
            "--smoke",
            "--out",
            str(bench.out),
            *extra,
        ]
        start = time.perf_counter()
        try:
            child = subprocess.run(command, capture_output=True, text=True, timeout=75, check=False)
            said = [line for line in child.stdout.splitlines() if "SUMMARY" in line]
            bench.row("compute-sanitizer", tool=check, ran=True, exit=child.returncode, said=" ".join(said)[:200])
            good = good and child.returncode == 0
            print(f"  {check}: exit {child.returncode} {said} in {time.perf_counter() - start:.0f} s", flush=True)
            if child.returncode:
                print(child.stdout[-1500:], child.stderr[-500:])
        except subprocess.TimeoutExpired:
            bench.row("compute-sanitizer", tool=check, ran=False, said="not done after 75 s")
            print(f"  {check}: not done after 75 s", flush=True)
    return good


def provenance(card: building.Card, commit: str) -> dict[str, Any]:
    runtime = card.cupy.cuda.runtime
    properties = runtime.getDeviceProperties(0)
    asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    driver = (
        subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
        if shutil.which(asked[0])
        else ""
    )
    if not commit:
        head = subprocess.run(
            ["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
        )
        commit = head.stdout.strip() or "unknown"
    return {
        "op": "provenance",
        "card": properties["name"].decode(),
        "multiprocessors": properties["multiProcessorCount"],
        "l2_mib": properties["l2CacheSize"] >> 20,
        "driver": driver,
        "cuda": runtime.runtimeGetVersion(),
        "cupy": card.cupy.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "commit": commit,
        "command": " ".join(["python", "harness/cuda_check.py", *sys.argv[1:]]),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="where rows.jsonl goes")
    parser.add_argument("--quick", action="store_true", help="N = 8192 alone, few batches")
    parser.add_argument("--smoke", action="store_true", help="checks of one small size, nothing measured")
    parser.add_argument("--no-sanitizer", action="store_true", help="leave compute-sanitizer out")
    parser.add_argument("--compile-only", action="store_true", help="make cubins, without a card")
    parser.add_argument("--cubins", type=Path, help="folder of cubins")
    parser.add_argument("--arch", default="sm_90", help="architecture for --compile-only")
    parser.add_argument("--commit", default="", help="the commit, where git does not know it")
    asked = parser.parse_args()
    if asked.compile_only:
        compile_all(asked.cubins or parser.error("--compile-only needs --cubins"), asked.arch)
        return 0
    if asked.out is None:
        parser.error("--out is needed")
    if (reason := building.why_not()) is not None:
        print(f"cannot run here: {reason}", file=sys.stderr)
        return 2
    asked.out.mkdir(parents=True, exist_ok=True)
    card, begun = building.Card(asked.cubins), time.perf_counter()
    if asked.smoke:
        smoke(card)
        return 0
    bench, where = Bench(card, asked.out), provenance(card, asked.commit)
    degrees, batches = ((13,), (64, 1024)) if asked.quick else (DEGREES, BATCHES)
    few = tuple(n for n in degrees if n >= 13)

    def check() -> None:
        for form in FORMS:
            for log_n in degrees:
                checks.check_ntt(card, form, log_n, kinds=6 if log_n in (11, 13) else 2)
        for form in KEYSWITCH:
            for runs in (1, 4):
                checks.check_keyswitch(card, form, 11, runs)
        checks.check_keyswitch(card, "fma50", 13)
        checks.check_gemm(card)
        checks.check_gemm(card, 70, 1536, 50, 4)

    steps = [
        ("kernels against the reference", check),
        ("copies, launches, cuBLAS", lambda: measure_machine(bench)),
        ("transforms", lambda: measure_ntt(bench, degrees, batches)),
        ("key switching", lambda: measure_keyswitch(bench, few, (1, 4, 16, 64) if not asked.quick else (64,))),
        ("matrix products", lambda: measure_gemm(bench, TOKENS)),
    ]
    status = 0
    for name, step in steps:
        print(f"{time.perf_counter() - begun:6.1f} s  {name}", flush=True)
        try:
            step()
        except AssertionError as wrong:
            print(f"  WRONG: {wrong}", flush=True)
            status = 1
        bench.save(where)
    if not asked.no_sanitizer:
        print(f"{time.perf_counter() - begun:6.1f} s  compute-sanitizer", flush=True)
        status = status or int(not sanitize(bench, asked.cubins))
        bench.save(where)
    print(
        f"{time.perf_counter() - begun:6.1f} s  {'all checks hold' if not status else 'FAILED'}; {len(bench.rows)} rows"
    )
    return status


if __name__ == "__main__":
    sys.exit(main())
