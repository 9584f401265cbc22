"""Packings on SEAL, with secure parameters, at the shapes of language models.

The conformance kit, which has smaller shapes, runs every packing on every library.
"""

from __future__ import annotations

import pytest

from helora_core.adapter.lora import ModuleShape
from helora_core.adapter.synthetic import synthetic_activations, synthetic_module
from helora_core.compiler.compile import compile_plan
from helora_core.execution.reference import precision_bits
from helora_core.host.manager import get_manager
from helora_core.parties.adapter_run import ModuleJob, run_adapter


@pytest.mark.parametrize(
    ("packing", "shape", "tokens"),
    [
        ("outer_product", "512:512:8", 8),
        ("rank_bsgs", "1536:1536:16", 64),
        *(
            pytest.param(*case, marks=pytest.mark.thorough)
            for case in (
                ("cpmm", "512:64:2", 3),
                ("cpmm", "512:512:8", 2048),
                ("halevi_shoup", "512:512:8", 8),
                ("halevi_shoup", "1024:256:16", 4),
                ("halevi_shoup_bsgs", "512:512:8", 8),
                ("halevi_shoup_bsgs", "1536:1536:16", 2),
                ("halevi_shoup_bsgs", "1536:256:16", 16),
                ("outer_product", "1536:1536:16", 5),
                ("outer_product", "8960:1536:8", 1),
                ("rank_bsgs", "1536:8960:32", 3),
            )
        ),
    ],
)
def test_delta_keeps_its_precision_and_the_ledger_shows_what_the_plan_says(
    packing: str, shape: str, tokens: int
) -> None:
    manager = get_manager()
    module = synthetic_module(ModuleShape.parse(shape), seed=1)
    plan = compile_plan(module.shape, manager.load_packing(packing), tokens=tokens, private_weights=False)
    x = synthetic_activations(module.shape, tokens, seed=2)
    (outcome,) = run_adapter(manager.load_backend("tenseal"), [ModuleJob(module, x, plan)], private_weights=False)
    assert outcome.report.executed == plan.counts.times(plan.runs(tokens))
    assert precision_bits(outcome.delta, module.reference_delta(x)) > 12
