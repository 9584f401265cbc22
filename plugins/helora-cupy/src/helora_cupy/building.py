"""Compiles ``native/``: for a GPU with NVRTC, even without a GPU here, and for the CPU with a C++ compiler.

A unit is one source with its macros, and holds several kernels. The CPU build is for tests: same source, same
arithmetic, the threads of a block one after another (``native/shim.h``).
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from helora_cupy.tables import FORMS

NATIVE = Path(__file__).parent / "native"
_PROBE = """
import ctypes
try:
    driver = ctypes.CDLL("libcuda.so.1")
except OSError:
    print("no CUDA driver (libcuda.so.1) on this machine")
else:
    count = ctypes.c_int()
    status = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if status: print(f"the CUDA driver does not start (error {status})")
    elif not count.value: print("a CUDA driver, but no card")
    else:
        try: import cupy; cupy.zeros(1).get()
        except Exception as error: print(f"CuPy cannot use the card: {type(error).__name__}: {error}"[:300])
"""


class Unit(NamedTuple):
    """One source and its macros."""

    source: str
    macros: tuple[tuple[str, str], ...] = ()

    def options(self) -> list[str]:
        return [f"-D{name}={value}" for name, value in self.macros]

    def digest(self, arch: str) -> str:
        files = b"".join(path.read_bytes() for path in sorted(NATIVE.iterdir()))
        return hashlib.sha256(repr((self, arch)).encode() + files).hexdigest()[:20]


def ntt(form: str, log_n: int) -> Unit:
    """Kernels forward_E and inverse_E for E = 3 (N ≤ 8192), 4, 5; columns_3, rows_3 and their inverses."""
    return Unit("ntt.cu", (("POLICY", FORMS[form].policy), ("DEGREE_LOG", str(log_n))))


def keyswitch(form: str, log_n: int, digits: int = 3, runs: int = 1) -> Unit:
    """Kernels inner_product, hoisted, switch_key_E, multiply_add, copy and nothing."""
    macros = {"POLICY": FORMS[form].policy, "DEGREE_LOG": log_n, "DIGITS": digits, "RUNS": runs}
    return Unit("keyswitch.cu", tuple((name, str(value)) for name, value in macros.items()))


GEMM = Unit("gemm.cu")


def why_not() -> str | None:
    """Why there is no GPU to run on, in words, or None. Asked in a child process, since a driver may crash it."""
    try:
        child = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, text=True, timeout=120, check=False)
    except subprocess.TimeoutExpired:
        return "the CUDA driver did not answer within two minutes"
    if child.returncode:
        return f"the probe of the CUDA driver ended with {child.returncode}: {child.stderr.strip()[-200:]}"
    return child.stdout.strip() or None


def find_nvrtc() -> Path | None:
    """The compiler's library in the wheel nvidia-cuda-nvrtc (or nvidia-cuda-nvrtc-cu12)."""
    spec = importlib.util.find_spec("nvidia")
    roots = [Path(place) for place in spec.submodule_search_locations or []] if spec else []
    found = [p for root in roots for p in root.glob("*/lib/libnvrtc.so.*") if "alt" not in p.name]
    return found[0] if found else None


class Nvrtc:
    """The compiler from its library, without CuPy and without a driver."""

    def __init__(self, path: Path) -> None:
        for builtins in path.parent.glob("libnvrtc-builtins.so.*"):
            if "alt" not in builtins.name:
                ctypes.CDLL(str(builtins), ctypes.RTLD_GLOBAL)
        self._library = ctypes.CDLL(str(path))

    def compile(self, unit: Unit, arch: str) -> tuple[bytes, str]:
        """(cubin, log with registers and spills of each kernel). RuntimeError with the log if it does not compile."""
        call, program = self._library, ctypes.c_void_p()
        source = (NATIVE / unit.source).read_text(encoding="utf-8")
        if call.nvrtcCreateProgram(ctypes.byref(program), source.encode(), unit.source.encode(), 0, None, None):
            raise RuntimeError("NVRTC makes no program")
        options = [f"-I{NATIVE}", "-std=c++17", f"-arch={arch}", "--ptxas-options=-v", *unit.options()]
        status = call.nvrtcCompileProgram(
            program, len(options), (ctypes.c_char_p * len(options))(*map(str.encode, options))
        )
        log = self._text(program, "ProgramLog").decode()
        if status:
            raise RuntimeError(f"{unit}: {log}")
        cubin = self._text(program, "CUBIN")
        call.nvrtcDestroyProgram(ctypes.byref(program))
        return cubin, log

    def _text(self, program: ctypes.c_void_p, what: str) -> bytes:
        size = ctypes.c_size_t()
        getattr(self._library, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        getattr(self._library, f"nvrtcGet{what}")(program, buffer)
        return buffer.raw[: size.value].rstrip(b"\0") if what == "ProgramLog" else buffer.raw[: size.value]


class Shim:
    """The kernels on the CPU. Same interface as `Card`."""

    def __init__(self, folder: Path, compiler: str = "g++") -> None:
        self._folder, self._compiler, self._units = folder, compiler, {}  # type: Path, str, dict[Unit, ctypes.CDLL]

    def _unit(self, unit: Unit) -> ctypes.CDLL:
        if unit not in self._units:
            library = self._folder / f"{unit.digest('cpu')}.so"
            flags = "-O0 -std=c++17 -shared -fPIC -ffp-contract=off -frounding-math -Wall -Wno-unused-variable"
            if not library.exists():
                # -mfma if supported: fma() in software is 50 times slower, and just as exact
                native = ["-mfma"] if "fma" in Path("/proc/cpuinfo").read_text(encoding="utf-8").split() else []
                command = [self._compiler, *flags.split(), *native, "-x", "c++", *unit.options(), f"-I{NATIVE}"]
                subprocess.run([*command, str(NATIVE / unit.source), "-o", str(library)], check=True)
            self._units[unit] = ctypes.CDLL(str(library))
        return self._units[unit]

    def put(self, values: Any) -> Any:
        return np.ascontiguousarray(values).copy()

    def get(self, values: Any) -> Any:
        return values

    def launch(
        self, unit: Unit, kernel: str, grid: tuple[int, ...], threads: int, args: list[Any], shared: int = 0
    ) -> None:
        library = self._unit(unit)
        assert shared <= 1 << 18
        cooked = [ctypes.c_int(a) if isinstance(a, int) else ctypes.c_void_p(a.ctypes.data) for a in args]
        x, y, z = (*grid, 1, 1)[:3]
        for block in np.ndindex(z, y, x):
            library.shim_set(*(int(i) for i in block[::-1]), threads)
            library[kernel](*cooked)


class Card:
    """The kernels on CuPy's GPU, from prebuilt cubins if given, else compiled now."""

    def __init__(self, cubins: Path | None = None) -> None:
        import cupy  # type: ignore[import-not-found,unused-ignore]

        self.cupy, self._cubins, self._units, self._kernels = cupy, cubins, {}, {}  # type: Any, Path | None, Any, Any
        major, minor = cupy.cuda.Device().compute_capability[:-1], cupy.cuda.Device().compute_capability[-1]
        self.arch = f"sm_{major}{minor}"

    def _module(self, unit: Unit) -> Any:
        if unit not in self._units:
            built = self._cubins / f"{unit.digest(self.arch)}.cubin" if self._cubins else None
            if built is not None and built.exists():
                module = self.cupy.RawModule(path=str(built))
            else:
                source = (NATIVE / unit.source).read_text(encoding="utf-8")
                options = (f"-I{NATIVE}", "-std=c++17", *unit.options())
                module = self.cupy.RawModule(code=source, options=options, backend="nvrtc")
            self._units[unit] = module
        return self._units[unit]

    def kernel(self, unit: Unit, name: str, shared: int = 0) -> Any:
        if (unit, name) not in self._kernels:
            self._kernels[unit, name] = self._module(unit).get_function(name)
        kernel = self._kernels[unit, name]
        if shared > 48 * 1024 and kernel.max_dynamic_shared_size_bytes < shared:
            kernel.max_dynamic_shared_size_bytes = shared
        return kernel

    def put(self, values: Any) -> Any:
        return self.cupy.asarray(np.ascontiguousarray(values))

    def get(self, values: Any) -> Any:
        return self.cupy.asnumpy(values)

    def launch(
        self, unit: Unit, kernel: str, grid: tuple[int, ...], threads: int, args: list[Any], shared: int = 0
    ) -> None:
        cooked = tuple(np.int32(a) if isinstance(a, int) else a for a in args)
        self.kernel(unit, kernel, shared)((*grid, 1, 1)[:3], (threads,), cooked, shared_mem=shared)
