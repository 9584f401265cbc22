"""Every kernel through NVRTC for three architectures, without a card: no warning, and registers and shared memory that
leave room for as many warps as ``occupancy`` states. Runs where the wheel nvidia-cuda-nvrtc is installed (nox -s cuda).
"""

from __future__ import annotations

import os
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import pytest

from helora_cupy import building, occupancy
from helora_cupy.building import Unit

Reports = dict[tuple[Unit, str], str]
FORMS = (building.ntt("shoup64", 13), building.keyswitch("fma50", 13), building.GEMM)
"""What only measurements launch."""


def reports() -> Reports:
    """What the compiler says of each unit for each architecture."""
    path = building.find_nvrtc()
    if path is None:
        assert os.environ.get("HELORA_REQUIRE_NVRTC") != "1", "nvidia-cuda-nvrtc is not installed"
        pytest.skip("nvidia-cuda-nvrtc is not installed")
    nvrtc = building.Nvrtc(path)
    units = [*dict.fromkeys(kernel.unit for kernel in occupancy.kernels()), *FORMS]
    cells = list(product(units, occupancy.ARCHITECTURES))

    def log(cell: tuple[Unit, str]) -> str:
        cubin, said = nvrtc.compile(*cell)
        assert cubin[:4] == b"\x7fELF"
        return said

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(zip(cells, pool.map(log, cells), strict=True))


def test_every_kernel_is_compiled_to_what_is_stated() -> None:
    """No warning; no fewer warps and no more bytes, and no statement that a kernel could fall back to unnoticed. One
    test, since compiling takes a minute.
    """
    found = reports()
    assert [f"{unit}: {said}" for (unit, _), said in found.items() if "warning" in said] == []
    compiled = {(unit, name) for (unit, _), said in found.items() if unit not in FORMS for name in occupancy.uses(said)}
    assert compiled == {(kernel.unit, kernel.name) for kernel in occupancy.kernels()}
    least: defaultdict[tuple[str, bool], int] = defaultdict(lambda: 64)
    most: defaultdict[tuple[str, bool], int] = defaultdict(int)
    for kernel, arch in product(occupancy.kernels(), occupancy.ARCHITECTURES):
        use, key = occupancy.uses(found[kernel.unit, arch])[kernel.name], (kernel.name, kernel.wide)
        least[key] = min(least[key], occupancy.warps(kernel, use, arch))
        most[key] = max(most[key], use.spilled)
    assert dict(least) == {key: occupancy.WARPS[key[0]][key[1] and len(occupancy.WARPS[key[0]]) > 1] for key in least}
    assert {key: spilled for key, spilled in most.items() if spilled} == occupancy.SPILLED


def test_occupancy_is_what_limits_come_to() -> None:
    """Registers, shared memory, threads and blocks: by hand, for an H100."""
    kernel, use = next(iter(occupancy.kernels())), occupancy.Use
    assert occupancy.warps(kernel._replace(threads=256, shared=0), use(64, 0, 0), "sm_90") == 32  # 65536 registers
    assert occupancy.warps(kernel._replace(threads=256, shared=0), use(65, 0, 0), "sm_90") == 24  # as 72 each
    assert occupancy.warps(kernel._replace(threads=512, shared=70000), use(32, 0, 0), "sm_90") == 48  # 228 KiB
    assert occupancy.warps(kernel._replace(threads=512, shared=70000), use(32, 0, 0), "sm_80") == 32  # 164 KiB
    assert occupancy.warps(kernel._replace(threads=32, shared=0), use(16, 0, 0), "sm_80") == 32  # blocks
