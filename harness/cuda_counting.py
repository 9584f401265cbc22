"""A device that counts, and what a launch takes at least: what ``cuda_plan.py`` works the bars out by."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from helora_cupy.device import Array

MEASURED = Path(__file__).parent / "history" / "cuda" / "h100-2026-11-27.jsonl"
FLOAT64 = 33.5e12
"""Operations a second of an H100's units for float64, by its data sheet; products of matrices by tensor cores apart."""

INTEGERS = 64 * 1.755e9
"""32-bit operations a second of one multiprocessor, which a block that works alone has, by the same."""

MULTIPROCESSORS = 132
CHACHA = 1000
"""Operations for eight words of ChaCha20: 80 quarter rounds of twelve, and sixteen sums and more."""

WORD = 8


class Launch(NamedTuple):
    """One launch: bytes read and written, rows transformed, multiply-adds of matrices, operations on doubles; and on
    integers, those of one block.
    """

    kernel: str
    read: int
    written: int
    rows: int = 0
    degree: int = 0
    products: int = 0
    operations: int = 0
    alone: float = 0.0


class Noted(np.ndarray):  # type: ignore[type-arg]
    """An array whose own operations are launches, too, as CuPy's are: copies, and what is done element by element."""

    device: Counting | None = None

    def __array_finalize__(self, other: Any) -> None:
        self.device = getattr(other, "device", None)

    def _note(self, name: str, read: int, written: int) -> None:
        if self.device is not None:
            self.device.launches.append(Launch(name, read, written))

    def copy(self, order: Any = "C") -> Any:
        self._note("copy", self.nbytes, self.nbytes)
        return super().copy(order)

    def __setitem__(self, where: Any, value: Any) -> None:
        size = self[where].nbytes
        self._note("copy", size, size)
        super().__setitem__(where, value)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **more: Any) -> Any:
        plain = [each.view(np.ndarray) if isinstance(each, Noted) else each for each in inputs]
        if out is not None:
            more["out"] = tuple(each.view(np.ndarray) for each in out)
        result = getattr(ufunc, method)(*plain, **more)
        self._note("elementwise", sum(getattr(each, "nbytes", 0) for each in plain), getattr(result, "nbytes", 0))
        if out is not None:
            return out[0]
        made = result.view(Noted) if isinstance(result, np.ndarray) else result
        if isinstance(made, Noted):
            made.device = self.device
        return made


class Counting:
    """A device that notes launches and computes nothing; arrays are the host's, and not set."""

    name = "counting"

    def __init__(self) -> None:
        self.launches: list[Launch] = []

    def _noted(self, values: Any) -> Array:
        found = values.view(Noted)
        found.device = self
        return found

    def empty(self, shape: tuple[int, ...], dtype: Any = np.uint64) -> Array:
        return self._noted(np.empty(shape, dtype))

    def put(self, values: Any) -> Array:
        return self._noted(np.ascontiguousarray(values))

    def get(self, values: Array) -> Any:
        return values.view(np.ndarray)

    def address(self, values: Array) -> int:
        return int(values.__array_interface__["data"][0])

    def finish(self) -> None:
        return None

    def launch(
        self, unit: Any, kernel: str, grid: tuple[int, ...], threads: int, args: Sequence[Any], shared: int = 0
    ) -> None:
        macros, args = (
            dict(unit.macros),
            [each.view(np.ndarray) if isinstance(each, np.ndarray) else each for each in args],
        )
        if "DEGREE_LOG" in macros:
            self.launches.append(_transform(kernel, 1 << int(macros["DEGREE_LOG"]), grid, args))
        elif kernel == "by_row":
            self.launches.append(_by_row(grid, args))
        elif kernel.startswith("product_"):
            self.launches.append(_product(grid, args))
        elif kernel in ("uniform_streams", "ternary_streams", "stream_words"):
            self.launches.append(_drawn(kernel, grid, args))
        elif kernel.startswith("words_"):
            self.launches.append(_words(args))
        else:
            self.launches.append(_plain(kernel, grid, args))


def _transform(kernel: str, n: int, grid: tuple[int, ...], args: Sequence[Any]) -> Launch:
    """Each job reads a row, and another if the transform is taken from it, and writes one; twiddles are read once."""
    jobs, runs = args[8], grid[1]
    transformed = int(np.sum(jobs[:, 5] == 0)) * runs
    taken = int(np.sum(jobs[:, 7] >= 0)) * runs if not kernel.endswith("columns") else 0
    twiddles = len(np.unique(jobs[:, 4])) * n * WORD
    stages = n.bit_length() - 1
    half = 1 if kernel.endswith("whole") else 2
    operations = transformed * (n // 2) * stages * 11 // half  # a butterfly: six operations, of which three are two
    rows = len(jobs) * runs
    return Launch(kernel, (rows + taken) * n * WORD + twiddles, rows * n * WORD, transformed, n, 0, operations)


def _by_row(grid: tuple[int, ...], args: Sequence[Any]) -> Launch:
    """A row that several tasks or runs read is read once: tasks on a row follow each other, and L2 has the rest."""
    tables, code, tasks, specials, n = args[0], args[2].tolist(), args[3], args[5], 1 << args[6]
    runs, written, operations = len(tables), 0, 0
    own = [len(np.unique(tables[:, slot])) for slot in range(tables.shape[1])]
    read: dict[tuple[int, int], int] = {}

    def reads(slot: int, first: int, rows: int) -> None:
        read.update({(slot, row): own[slot] for row in range(first, first + rows)})

    for task in range(tasks):
        at, end = code[2 * task], code[2 * task + 1]
        while at < end:
            kind, limbs, rows, terms, adds = code[at : at + 5]
            count = {3: 7, 4: 2 + 3 * terms, 5: 1 + terms, 6: 2}[kind]
            refs = [code[i : i + 3] for i in range(at + 5, at + 5 + 3 * count, 3)]
            outs = 2 if kind in (3, 4) else 1
            written += outs * rows * runs
            for slot, first, has in refs[: outs if adds else 0]:
                reads(slot, first, min(rows, has))
            if kind == 3:
                reads(refs[2][0], refs[2][1], limbs * (limbs + specials))
                reads(refs[3][0], 0, 2 * limbs * rows)  # of the key, what these limbs take
                reads(refs[4][0], 0, 1)  # 32 bits a place, half of what is counted
                reads(refs[6][0], refs[6][1], min(rows, refs[6][2]))
                operations += rows * runs * n * limbs * 2 * 10
            else:
                for slot, first, has in refs[outs:]:
                    reads(slot, first, min(rows, has))
                operations += rows * runs * n * terms * (20 if kind == 4 else 1)
            at += 5 + 3 * count
    return Launch("by_row", sum(read.values()) * n * WORD, written * n * WORD, 0, n, 0, operations)


def _product(grid: tuple[int, ...], args: Sequence[Any]) -> Launch:
    rows, terms, adds, limbs = args[5], args[6], args[8], grid[2]
    columns = grid[1] * 64
    cells = columns * limbs
    return Launch(
        "product", (cells * terms + limbs * rows * terms + (cells * rows if adds else 0)) * WORD,
        cells * rows * WORD, 0, 0, cells * rows * terms,
    )  # fmt: skip


def _words(args: Sequence[Any]) -> Launch:
    rows, terms, columns, adds = args[3], args[4], int(args[5]), args[6]
    read = columns * terms + rows * terms + (columns * rows if adds else 0)
    return Launch("words", read * WORD, columns * rows * WORD, 0, 0, columns * rows * terms)


def _drawn(kernel: str, grid: tuple[int, ...], args: Sequence[Any]) -> Launch:
    """Streams that one block each goes through, or words that all share."""
    if kernel == "stream_words":
        return Launch(kernel, 0, int(args[8]) * WORD, alone=int(args[8]) / 8 * CHACHA / MULTIPROCESSORS)
    if kernel == "uniform_streams":
        count, numbers = args[9], args[7] << args[11]
        words = numbers
    else:
        count, numbers = args[3], 1 << args[4]
        words = numbers / 24
    turns = -(-grid[0] // MULTIPROCESSORS)
    return Launch(kernel, 0, count * numbers * WORD, alone=turns * count / grid[0] * words / 8 * CHACHA)


def _plain(kernel: str, grid: tuple[int, ...], args: Sequence[Any]) -> Launch:
    """One pass over what it is given: the first array is written, the others read, none more than the grid covers."""
    arrays = [each for each in args if isinstance(each, np.ndarray)]
    return Launch(kernel, sum(each.nbytes for each in arrays[1:]), arrays[0].nbytes)


class Rates:
    """What the card did when it was measured."""

    def __init__(self, path: Path = MEASURED) -> None:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        self.card = rows[0]["card"]
        self.launch_us = next(r["us"] for r in rows if r["op"] == "launch replayed in a graph")
        self.copy = max(r["tb_per_s"] for r in rows if r["op"].startswith("copy") and r["mib"] > 64) * 1e12
        of = [r for r in rows if r["op"] == "lora product" and r["shape"] == "1536:1536:32"]
        self.products = {r["form"]: r["tera_macs_per_s"] * 1e12 for r in of}
        self._transforms: dict[tuple[str, str, int], list[tuple[int, float]]] = {}
        for r in rows:
            if r["op"] in ("ntt", "ntt in halves") and r["form"] == "fma50":
                self._transforms.setdefault((r["op"], r["direction"], r["n"]), []).append((r["batch"], r["us"]))

    def transform_us(self, launch: Launch) -> float:
        """By interpolation between the batches that were measured; of two launches each takes half."""
        halves = not launch.kernel.endswith("whole")
        direction = launch.kernel.split("_")[0]
        known = sorted(self._transforms["ntt in halves" if halves else "ntt", direction, launch.degree])
        batches, times = zip(*known, strict=True)
        beyond = max(1.0, launch.rows / batches[-1])
        return float(np.interp(launch.rows, batches, times)) * beyond / (2 if halves else 1)

    def us(self, launch: Launch) -> float:
        """At least so long."""
        bounds = [self.launch_us, (launch.read + launch.written) / self.copy * 1e6, launch.operations / FLOAT64 * 1e6]
        bounds.append(launch.alone / INTEGERS * 1e6)
        if launch.rows:
            bounds.append(self.transform_us(launch))
        if launch.products:
            bounds.append(launch.products / self.products["wrap" if launch.kernel == "words" else "fma"] * 1e6)
        return max(bounds)
