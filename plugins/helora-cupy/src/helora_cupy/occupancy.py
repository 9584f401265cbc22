"""How many warps of each kernel a multiprocessor holds: what is asked for, and what a compiler's report comes to.

A kernel that waits for memory hides it by other warps. Few suffice where each thread has several loads under way, as
transforms have that keep 8 or 16 residues in registers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from helora_cupy import building
from helora_cupy.building import PACKING, SAMPLING, WORDS, Unit
from helora_cupy.products import tile_bytes
from helora_cupy.sampling import BLOCK, SCAN_BYTES
from helora_cupy.transforms import blocks

ARCHITECTURES = {"sm_80": 164, "sm_90": 228, "sm_100": 228}
"""KiB of shared memory of a multiprocessor."""

DEGREES = range(10, 17)
_REGISTERS, _WARPS, _BLOCKS = 65536, 64, 32

WARPS: dict[str, tuple[int, ...]] = {
    "forward_columns": (32, 32),
    "forward_rows": (32, 32),
    "inverse_columns": (32, 32),
    "inverse_rows": (32, 32),
    "forward_whole": (32, 32),
    "inverse_whole": (32, 32),
    "pointwise": (64, 64),
    "dot": (32, 32),
    "permute": (64, 64),
    "rotated": (24, 24),
    "by_row": (24, 24),
    "lifted_digits": (32, 32),
    "to_doubles": (40, 40),
    "of_doubles": (48, 48),
    "product_16": (16, 16),
    "words_16": (24, 24),
    "product_64": (16, 8),
    "words_64": (16, 16),
    "uniform": (32,),
    "uniform_streams": (32,),
    "ternary": (32,),
    "ternary_streams": (32,),
    "stream_words": (48,),
    "binomial": (64,),
    "random_bits": (64,),
    "normal": (64,),
    "pack": (64,),
    "unpack": (64,),
    "beyond": (64,),
    "embedding_stage": (64,),
    "placed": (64,),
    "rounded": (64,),
    "slots_of": (64,),
    "embedding_tiles": (48,),
    "round_off": (64,),
    "of_words": (64,),
    "of_small": (64,),
    "joined": (48,),
    "quotients": (48,),
    "opened": (64,),
}
"""At least so many warps of a kernel, with primes of up to 50 bits and with longer ones too, on each architecture."""

SPILLED = {
    ("forward_whole", False): 8,
    ("inverse_whole", False): 8,
    ("uniform", False): 24,
    ("forward_whole", True): 176,
    ("inverse_whole", True): 72,
    ("forward_columns", True): 16,
    ("inverse_columns", True): 20,
}
"""Bytes that a thread moves to and from local memory, where it does, with longer primes or without."""


class Kernel(NamedTuple):
    """One kernel's shape: its unit, name, threads and shared memory a block."""

    unit: Unit
    name: str
    threads: int
    shared: int
    wide: bool


class Use(NamedTuple):
    """What a kernel takes: registers a thread, bytes spilled, bytes of static shared memory."""

    registers: int
    spilled: int
    static: int


def kernels() -> Iterator[Kernel]:
    """All that a ring launches, of every ring degree."""
    for wide in (False, True):
        for log_n in DEGREES:
            for name, block in blocks(log_n).items():
                yield Kernel(building.transforms(log_n, wide=wide), name, block.threads, block.shared, wide)
        rows = "pointwise", "dot", "permute", "rotated", "by_row", "lifted_digits", "to_doubles", "of_doubles"
        yield from (Kernel(building.rows(wide=wide), name, 256, 0, wide) for name in rows)
        for size, threads in ((16, 128), (64, 256)):
            unit, shared = building.products(wide=wide), tile_bytes(size)
            yield from (Kernel(unit, f"{name}_{size}", threads, shared, wide) for name in ("product", "words"))
    for name in ("uniform", "uniform_streams", "ternary", "ternary_streams"):
        yield Kernel(SAMPLING, name, BLOCK, SCAN_BYTES, False)
    yield from (Kernel(SAMPLING, name, 256, 0, False) for name in ("stream_words", "binomial", "random_bits", "normal"))
    for name in ("pack", "unpack", "beyond", "embedding_stage", "placed", "rounded", "slots_of"):
        yield Kernel(PACKING, name, 256, 0, False)
    yield Kernel(PACKING, "embedding_tiles", 512, 16384, False)
    yield Kernel(Unit("rounding.cu"), "round_off", 256, 0, False)
    yield from (
        Kernel(WORDS, name, 256, 0, False) for name in ("of_words", "of_small", "joined", "quotients", "opened")
    )


def uses(log: str) -> dict[str, Use]:
    """By kernel, of what ptxas reports with -v."""
    found = {}
    for part in re.split(r"Compiling entry function '", log)[1:]:
        spilled = re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", part)
        used = re.search(r"Used (\d+) registers", part)
        if spilled is None or used is None:
            raise ValueError(f"ptxas reports neither registers nor spills of {part.split(chr(39))[0]}")
        static = re.search(r"(\d+) bytes smem", part)
        found[part.split("'")[0]] = Use(
            int(used[1]), int(spilled[1]) + int(spilled[2]), int(static[1]) if static else 0
        )
    return found


def warps(kernel: Kernel, use: Use, arch: str) -> int:
    """Warps that a multiprocessor holds at once."""
    each = kernel.threads // 32
    of_registers = _REGISTERS // (-(-32 * use.registers // 256) * 256) // each
    of_shared = ARCHITECTURES[arch] * 1024 // (kernel.shared + use.static + 1024)
    return min(of_registers, of_shared, _BLOCKS, _WARPS // each) * each
