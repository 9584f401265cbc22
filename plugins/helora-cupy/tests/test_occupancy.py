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


@pytest.fixture(scope="module")
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


def test_nothing_is_warned_of(reports: Reports) -> None:
    assert [f"{unit}: {said}" for (unit, _), said in reports.items() if "warning" in said] == []


def test_every_kernel_of_a_ring_is_in_the_table(reports: Reports) -> None:
    listed = {(kernel.unit, kernel.name) for kernel in occupancy.kernels()}
    compiled = {
        (unit, name) for (unit, _), said in reports.items() if unit not in FORMS for name in occupancy.uses(said)
    }
    assert compiled == listed


def test_warps_and_spills_are_what_is_stated(reports: Reports) -> None:
    """No fewer warps and no more bytes, and no statement that a kernel could fall back to unnoticed."""
    least: defaultdict[tuple[str, bool], int] = defaultdict(lambda: 64)
    most: defaultdict[tuple[str, bool], int] = defaultdict(int)
    for kernel, arch in product(occupancy.kernels(), occupancy.ARCHITECTURES):
        use, key = occupancy.uses(reports[kernel.unit, arch])[kernel.name], (kernel.name, kernel.wide)
        least[key] = min(least[key], occupancy.warps(kernel, use, arch))
        most[key] = max(most[key], use.spilled)
    assert dict(least) == {key: occupancy.WARPS[key[0]][key[1] and len(occupancy.WARPS[key[0]]) > 1] for key in least}
    assert {key: spilled for key, spilled in most.items() if spilled} == occupancy.SPILLED
