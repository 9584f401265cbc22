"""Holds the CUDA kernels to the reference on a card, measures them, and writes rows: ``cuda_check.py --out DIR``.

Needs a checkout, a card, CuPy and NumPy; no network. What else helora-core imports (msgspec, pluggy, cryptography) is
taken from ``--wheels DIR`` where it is not installed. Without a card it says why and exits with 2; a kernel that is not
the reference makes it exit with 1. ``--compile-only`` needs no card: it builds cubins, with the compiler of the
wheel nvidia-cuda-nvrtc, into ``--cubins``, which a later run of the same sources takes instead of compiling. ``--plan``
needs none either: it prints what the bars would take on one, as ``cuda_plan`` works it out; ``--write`` keeps that.

``DIR/rows.jsonl``: the first line says where, when and with what; then one row a measurement, times in microseconds.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import json
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
for _source in (".", "harness/src", "plugins/helora-rns/src", "plugins/helora-cupy/src"):
    sys.path.insert(0, str(ROOT / _source))
if "--wheels" in sys.argv:  # a wheel is a zip, but compiled modules are not imported from one
    _wheels = Path(sys.argv[sys.argv.index("--wheels") + 1])
    _there = tempfile.mkdtemp(prefix="cuda-check-")
    for _wheel in sorted(_wheels.glob("*.whl")):
        with zipfile.ZipFile(_wheel) as _archive:
            _archive.extractall(_there)
    sys.path.append(_there)  # what is installed goes first

from cuda_bench import Bench, measure_machine  # noqa: E402
from cuda_measure import KEYSWITCH, measure_gemm, measure_keyswitch, measure_ntt  # noqa: E402

from helora_cupy import building, checks, device, occupancy, probing, ring_checks  # noqa: E402
from helora_cupy.tables import FORMS  # noqa: E402

DEGREES = (11, 12, 13, 14)
BATCHES = (1, 16, 64, 256, 1024, 4096)
TOKENS = 4096


PAGE = ROOT / "docs" / "cuda.md"
PLAN = ROOT / "harness" / "history" / "cuda" / "plan.jsonl"
BEGIN, END = "<!-- plan -->\n", "<!-- end of plan -->\n"


def backend_checks(card: device.Card, bench: Bench, *, quick: bool) -> None:
    """What the backend is held to on a card: the kit, runs beside the CPU's engine, whole plans at their bars.

    It is the backend's to fill: ``helora_cupy.card_checks.run(card, bench, quick=…)``, where there is such a module.
    """
    if importlib.util.find_spec("helora_cupy.card_checks") is None:
        print("  the backend has no checks of its own: not run")
        bench.row("backend", ran=False)
        return
    importlib.import_module("helora_cupy.card_checks").run(card, bench, quick=quick)


def plan(*, write: bool) -> None:
    """Print what the bars would take; and keep it in the history and on the page."""
    import cuda_plan

    rows = cuda_plan.planned()
    print(cuda_plan.table(rows))
    if write:
        PLAN.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        text = PAGE.read_text(encoding="utf-8")
        head, tail = text.split(BEGIN)[0], text.split(END)[1]
        PAGE.write_text(f"{head}{BEGIN}{cuda_plan.table(rows)}\n{END}{tail}", encoding="utf-8")


def units() -> list[building.Unit]:
    transforms = [building.ntt(form, log_n) for form in FORMS for log_n in DEGREES]
    switches = [building.keyswitch(form, n, 3, r) for form in KEYSWITCH for n in (11, 13, 14) for r in (1, 4)]
    rings = dict.fromkeys(kernel.unit for kernel in occupancy.kernels())
    return [*transforms, *switches, building.GEMM, *rings]


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


def smoke(card: device.Card) -> None:
    """What compute-sanitizer runs: every kind of kernel once, small."""
    for form in FORMS:
        checks.check_ntt(card, form, 11, kinds=1)
    checks.check_keyswitch(card, "fma50", 11)
    checks.check_gemm(card, 70, 40, 50, 2)
    ring_checks.check_kernels(card, 1024, ring_checks.WIDE, 1)
    ring_checks.check_program(card, 1024, ring_checks.NARROW, 2)
    ring_checks.check_samples(card, 1024, ring_checks.NARROW, 2)
    ring_checks.check_words(card, 1024, (42, 42))


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


def provenance(card: device.Card, commit: str) -> dict[str, Any]:
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
        "command": " ".join(["python", "harness/cuda_check.py", *("DIR" if "/" in a else a for a in sys.argv[1:])]),
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
    parser.add_argument("--wheels", type=Path, help="folder of wheels of what is not installed")
    parser.add_argument("--plan", action="store_true", help="print what the bars would take, without a card")
    parser.add_argument("--write", action="store_true", help="with --plan: keep it in the history and on the page")
    parser.add_argument("--commit", default="", help="the commit, where git does not know it")
    asked = parser.parse_args()
    if asked.compile_only:
        compile_all(asked.cubins or parser.error("--compile-only needs --cubins"), asked.arch)
        return 0
    if asked.plan:
        plan(write=asked.write)
        return 0
    if asked.out is None:
        parser.error("--out is needed")
    if (reason := probing.card().reason) is not None:
        print(f"cannot run here: {reason}", file=sys.stderr)
        return 2
    asked.out.mkdir(parents=True, exist_ok=True)
    card, begun = device.Card(asked.cubins), time.perf_counter()
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

    def check_rings() -> None:
        held = ring_checks.check_all(card, (1024, 8192) if asked.quick else (1024, 4096, 8192, 16384, 32768))
        bench.row("checks of rings", held=held)

    steps = [
        ("kernels against the reference", check),
        ("rings, programs, samples and words against helora-rns", check_rings),
        ("copies, launches, cuBLAS", lambda: measure_machine(bench)),
        ("transforms", lambda: measure_ntt(bench, degrees, batches)),
        ("key switching", lambda: measure_keyswitch(bench, few, (1, 4, 16, 64) if not asked.quick else (64,))),
        ("matrix products", lambda: measure_gemm(bench, TOKENS)),
        ("the backend", lambda: backend_checks(card, bench, quick=asked.quick)),
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
