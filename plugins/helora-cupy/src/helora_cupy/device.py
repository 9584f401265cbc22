"""Where kernels run: on a card through CuPy, or on the CPU, compiled from the same sources (``native/shim.h``).

Both have the same interface. Arrays are CuPy's on the card and NumPy's on the CPU.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from helora_cupy.building import NATIVE, OPTIONS, Unit

Array: TypeAlias = Any
"""Of CuPy or NumPy."""

MOST_ARGUMENTS = 18


class Device(Protocol):
    """A machine that launches kernels."""

    name: str

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike = np.uint64) -> Array:
        """An array there, not set."""
        ...

    def put(self, values: Any) -> Array:
        """A copy there of an array of the host's."""
        ...

    def get(self, values: Array) -> Any:
        """An array of the host's with these values, once all that was launched before is done."""
        ...

    def address(self, values: Array) -> int:
        """Where the array begins, for tables of addresses."""
        ...

    def finish(self) -> None:
        """Wait until this thread's launches are done."""
        ...

    def launch(
        self, unit: Unit, kernel: str, grid: tuple[int, ...], threads: int, args: Sequence[Any], shared: int = 0
    ) -> None:
        """Start a kernel: arguments are arrays, None for no array, integers (np.uint64 of 64 bits, int of 32).

        Args:
            unit: Its source.
            kernel: Its name.
            grid: Blocks, up to three dimensions.
            threads: Of a block.
            args: Its arguments, ``MOST_ARGUMENTS`` at most.
            shared: Bytes of shared memory.
        """
        ...


def of_double(value: float) -> np.uint64:
    """A double's bits: kernels take no doubles as arguments."""
    bits: np.uint64 = np.float64(value).view(np.uint64)
    return bits


def shim_folder() -> Path:
    """Where compiled kernels for the CPU are kept."""
    cache = os.environ.get("XDG_CACHE_HOME", "") or str(Path.home() / ".cache")
    return Path(cache) / "helora" / "cuda-shim"


class Shim:
    """The kernels on the CPU; for tests. One launch at a time.

    Args:
        folder: For compiled libraries, if not the user's cache.
        compiler: A C++17 compiler, GCC's options.
        fibers: Whether each thread of a block runs by itself between barriers, in random order: slow, and what a
            missing barrier does shows.
    """

    name = "shim"

    def __init__(self, folder: Path | None = None, compiler: str = "g++", *, fibers: bool = False) -> None:
        self._folder, self._compiler, self._fibers = folder or shim_folder(), compiler, fibers
        self._units: dict[Unit, ctypes.CDLL] = {}
        self._lock = threading.RLock()

    def _unit(self, unit: Unit) -> ctypes.CDLL:
        if unit not in self._units:
            library = self._folder / f"{unit.digest(f'cpu {self._compiler} {self._fibers}')}.so"
            if not library.exists():
                self._compile(unit, library)
            self._units[unit] = ctypes.CDLL(str(library))
        return self._units[unit]

    def _compile(self, unit: Unit, library: Path) -> None:
        library.parent.mkdir(parents=True, exist_ok=True)
        flags = "-O1 -std=c++17 -shared -fPIC -ffp-contract=off -frounding-math -Wall -Wno-unused-variable"
        # -mfma if supported: fma() in software is 50 times slower, and just as exact
        native = ["-mfma"] if "fma" in Path("/proc/cpuinfo").read_text(encoding="utf-8").split() else []
        fibers = ["-DSHIM_FIBERS"] if self._fibers else []
        part = library.with_suffix(f".{os.getpid()}")
        command = [self._compiler, *flags.split(), *native, *fibers, "-x", "c++", *unit.options(), f"-I{NATIVE}"]
        subprocess.run([*command, str(NATIVE / unit.source), "-o", str(part)], check=True)
        part.replace(library)

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike = np.uint64) -> Array:
        return np.empty(shape, dtype)

    def put(self, values: Any) -> Array:
        return np.ascontiguousarray(values).copy()

    def get(self, values: Array) -> Any:
        return values

    def address(self, values: Array) -> int:
        return int(values.__array_interface__["data"][0])

    def finish(self) -> None:
        return None

    def launch(
        self, unit: Unit, kernel: str, grid: tuple[int, ...], threads: int, args: Sequence[Any], shared: int = 0
    ) -> None:
        if shared > 1 << 18 or threads > 1024 or len(args) > MOST_ARGUMENTS:
            raise ValueError(f"{kernel}: no card has {threads} threads with {shared} bytes, {len(args)} arguments")
        cooked = np.zeros(MOST_ARGUMENTS, np.uint64)
        for i, value in enumerate(args):
            if value is not None:
                number = int(value) if isinstance(value, int | np.integer) else self.address(value)
                cooked[i] = np.uint64(number % (1 << 64))
        with self._lock:
            library = self._unit(unit)
            sizes = (ctypes.c_int(each) for each in (*(*grid, 1, 1)[:3], threads))
            library.shim_launch(library[kernel], *sizes, ctypes.c_void_p(cooked.ctypes.data))


class Card:
    """The kernels on CuPy's current GPU and stream, from prebuilt cubins if given, else compiled now."""

    name = "card"

    def __init__(self, cubins: Path | None = None) -> None:
        import cupy  # type: ignore[import-not-found,unused-ignore]

        self.cupy, self._cubins = cupy, cubins
        self._units: dict[Unit, Any] = {}
        self._kernels: dict[tuple[Unit, str], Any] = {}
        major, minor = cupy.cuda.Device().compute_capability[:-1], cupy.cuda.Device().compute_capability[-1]
        self.arch = f"sm_{major}{minor}"

    def _module(self, unit: Unit) -> Any:
        if unit not in self._units:
            built = self._cubins / f"{unit.digest(self.arch)}.cubin" if self._cubins else None
            if built is not None and built.exists():
                module = self.cupy.RawModule(path=str(built))
            else:
                source = (NATIVE / unit.source).read_text(encoding="utf-8")
                options = (f"-I{NATIVE}", *OPTIONS, *unit.options())
                module = self.cupy.RawModule(code=source, options=options, backend="nvrtc")
            self._units[unit] = module
        return self._units[unit]

    def kernel(self, unit: Unit, name: str, shared: int = 0) -> Any:
        """The compiled kernel, allowed to have so much shared memory."""
        if (unit, name) not in self._kernels:
            self._kernels[unit, name] = self._module(unit).get_function(name)
        kernel = self._kernels[unit, name]
        if shared > 48 * 1024 and kernel.max_dynamic_shared_size_bytes < shared:
            kernel.max_dynamic_shared_size_bytes = shared
        return kernel

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike = np.uint64) -> Array:
        return self.cupy.empty(shape, dtype)

    def put(self, values: Any) -> Array:
        return self.cupy.asarray(np.ascontiguousarray(values))

    def get(self, values: Array) -> Any:
        return self.cupy.asnumpy(values)

    def address(self, values: Array) -> int:
        return int(values.data.ptr)

    def finish(self) -> None:
        self.cupy.cuda.get_current_stream().synchronize()

    def launch(
        self, unit: Unit, kernel: str, grid: tuple[int, ...], threads: int, args: Sequence[Any], shared: int = 0
    ) -> None:
        cooked = tuple(
            np.uint64(0) if each is None else np.int32(each) if isinstance(each, int) else each for each in args
        )
        self.kernel(unit, kernel, shared)((*grid, 1, 1)[:3], (threads,), cooked, shared_mem=shared)
