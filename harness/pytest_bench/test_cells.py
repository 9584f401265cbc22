"""Encrypted runs under pytest-benchmark, each held to the plain adapter.

The default test paths do not have this folder: a clock gates nothing. What a run costs in operations is in
``extra_info``, which pytest-benchmark stores and does not show; ``pytest_export.py`` makes rows of both.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from helora_harness.benchmarks.shim import NotThere, Prepared, plan_counts, plan_facts

pytest.importorskip("pytest_benchmark")

BACKENDS = ("numpy", "rns", "tenseal", "openfhe", "pyfhel")
PACKINGS = ("rank_bsgs", "zero_moai", "halevi_shoup_bsgs")
SHAPE = "256:256:8"
MIN_BITS = 8.0
"""The least a plan is wanted to keep is more; this is to tell a result from nonsense."""


@pytest.mark.parametrize("tokens", [1, 4])
@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_tokens(benchmark: Any, backend: str, packing: str, tokens: int) -> None:
    """Wall time of a batch, both ways; the result is that of the adapter in the clear."""
    try:
        prepared = Prepared(backend, packing, SHAPE, tokens)
    except NotThere as reason:
        if backend == BACKENDS[0]:
            raise  # the emulation needs nothing but this repository: without it, nothing would be tested
        pytest.skip(str(reason))
    run = benchmark.pedantic(prepared.run, rounds=5, warmup_rounds=1)
    bits = prepared.precision_bits(run.delta)
    assert np.isfinite(run.delta).all()
    assert bits > MIN_BITS
    benchmark.extra_info.update(
        cell={"backend": backend, "packing": packing, "shape": SHAPE, "tokens": tokens},
        counts=plan_counts(prepared.plan),
        plan=plan_facts(prepared.plan),
        runs=prepared.plan.runs(tokens),
        precision_bits=bits,
        bytes_up=run.bytes_up,
        bytes_down=run.bytes_down,
        library=prepared.library,
        library_version=prepared.library_version,
        provides_security=prepared.provides_security,
    )
