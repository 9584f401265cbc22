"""Compiles ``native/`` with NVRTC, even without a GPU here. A unit is one source with its macros, and holds several
kernels; ``device.py`` launches them.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
from pathlib import Path
from typing import NamedTuple

from helora_cupy.tables import FORMS

NATIVE = Path(__file__).parent / "native"


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

OPTIONS = ("-std=c++17", "--fmad=false")
"""Kernels fuse where they say so: results are to be the CPU's, bit for bit."""


def transforms(log_n: int, *, wide: bool) -> Unit:
    """Kernels forward_whole and inverse_whole (N ≤ 16384), and columns and rows of both directions."""
    return Unit("transforms.cu", (("DEGREE_LOG", str(log_n)), ("WIDE", str(int(wide)))))


def rows(*, wide: bool) -> Unit:
    """Kernels that take rows place by place, and the steps of programs; `wide`: for primes beyond 50 bits too."""
    return Unit("rows.cu", (("WIDE", str(int(wide))),))


def products(*, wide: bool) -> Unit:
    """Products of matrices with polynomials."""
    return Unit("products.cu", (("WIDE", str(int(wide))),))


SAMPLING, PACKING, WORDS = Unit("sampling.cu"), Unit("packing.cu"), Unit("words.cu")


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
        options = [f"-I{NATIVE}", *OPTIONS, f"-arch={arch}", "--ptxas-options=-v", *unit.options()]
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
