"""CompiledModule, stored, read and run without the adapter: Δ is LoRA's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helora_core.artifact.read import Artifact
from helora_core.artifact.write import write_artifact
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.compiled import CompiledModule, Part
from helora_core.data.bundled import bundled_activations, bundled_adapter
from helora_core.execution.reference import precision_bits
from helora_core.host.manager import get_manager
from helora_core.parties.adapter_run import ModuleJob, run_adapter
from helora_core.parties.report import result_row

NAMES = ("model.layers.3.self_attn.q_proj", "model.layers.3.self_attn.v_proj")
TOKENS = 4


@pytest.mark.parametrize("sanitize_bits", [None, 40])
@pytest.mark.parametrize("backend", ["numpy", "tenseal"])
def test_delta_from_an_artifact(
    tmp_path: Path, read: Callable[..., Artifact], backend: str, sanitize_bits: int | None
) -> None:
    manager, adapter = get_manager(), bundled_adapter()
    packing = manager.load_packing("rank_bsgs")
    compiled = []
    for name in NAMES:
        module = adapter.modules[name]
        plan = compile_plan(module.shape, packing, tokens=TOKENS, sanitize_bits=sanitize_bits, private_weights=False)
        compiled.append(CompiledModule(module, (Part(name=name, d_out=module.shape.d_out),), plan))
    write_artifact(tmp_path / "artifact", compiled)
    del compiled

    demands = {} if sanitize_bits else {"private_weights": False, "sanitize_bits": None}
    x = {name: values[:TOKENS] for name, values in bundled_activations().items()}
    work = [ModuleJob(module, x[module.name], module.plan) for module in read(tmp_path / "artifact", **demands).modules]
    outcomes = list(run_adapter(manager.load_backend(backend), work, private_weights=False))
    assert [outcome.job.module.name for outcome in outcomes] == list(NAMES)
    rows: list[dict[str, Any]] = []
    for outcome in outcomes:
        name = outcome.job.module.name
        reference = adapter.modules[name].reference_delta(x[name].astype(np.float64))
        assert precision_bits(outcome.delta, reference) >= 12
        rows.append(result_row(outcome, backend=backend, secure=True))
    assert [(row["precision_bits"], row["max_abs_error"]) for row in rows] == [(None, None)] * 2
