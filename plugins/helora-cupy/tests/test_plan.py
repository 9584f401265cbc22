"""The plan of launches: what is on the page is what the programs come to, by the counting device."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from helora_core.backend.primes import distinct_ntt_primes
from helora_cupy.kernels import DeviceKernels

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT / "harness"))

import cuda_plan  # noqa: E402
from cuda_counting import Counting, Launch, Rates  # noqa: E402


def test_the_page_and_the_history_are_what_is_predicted_now() -> None:
    rows = cuda_plan.planned()
    kept = (ROOT / "harness" / "history" / "cuda" / "plan.jsonl").read_text(encoding="utf-8")
    assert [json.loads(line) for line in kept.splitlines()] == rows
    assert cuda_plan.table(rows) in (ROOT / "docs" / "cuda.md").read_text(encoding="utf-8")


def test_launches_are_counted_by_what_they_are_given() -> None:
    n, counting = 8192, Counting()
    kernels = DeviceKernels(counting, n, distinct_ntt_primes((50, 50), n))
    counting.launches.clear()
    kernels.forward(counting.empty((100, 2, n)), (0, 1))
    kernels.add(*[counting.empty((3, 2, n))] * 2, (0, 1))
    transform, add = counting.launches
    assert (transform.rows, transform.written) == (200, 200 * n * 8)
    assert transform.read == (200 + 2) * n * 8  # rows, and twiddles of two primes
    assert add.written == 6 * n * 8
    assert 0 <= add.read - 12 * n * 8 < 4096  # and the primes


def test_a_launch_takes_what_it_took_where_that_was_measured() -> None:
    rates = Rates()
    assert rates.us(Launch("nothing", 0, 0)) == rates.launch_us
    assert np.isclose(rates.us(Launch("copy", 1 << 30, 1 << 30)), (2 << 30) / rates.copy * 1e6)
    many = rates.us(Launch("forward_whole", 0, 0, 4096, 8192))
    assert np.isclose(many / 4096, 0.0544, atol=0.0005)
    assert np.isclose(rates.us(Launch("forward_whole", 0, 0, 8192, 8192)), 2 * many)
