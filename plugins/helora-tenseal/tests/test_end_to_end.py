"""Real LoRA on real ciphertexts: shapes of models in use, automatic parameters, 128-bit security."""

from __future__ import annotations

import pytest

from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.adapter.synthetic import synthetic_activations, synthetic_module
from helora_core.compiler.compile import compile_plan
from helora_core.data.bundled import bundled_activations, bundled_adapter
from helora_core.execution.reference import precision_bits
from helora_core.host.manager import get_manager
from helora_core.parties.adapter_run import ModuleJob, ModuleResult, run_adapter

WANTED_BITS = 12.0


def run(module: LoRAModule, x: object, packing: str = "rank_bsgs") -> ModuleResult:
    manager = get_manager()
    plan = compile_plan(module.shape, manager.load_packing(packing), private_weights=False)
    (outcome,) = run_adapter(manager.load_backend("tenseal"), [ModuleJob(module, x, plan)], private_weights=False)  # type: ignore[arg-type]
    return outcome


@pytest.mark.parametrize("shape", ["1536:1536:32", "4096:4096:16", "1536:256:16"])
def test_shapes_of_models_in_use_run_at_8192_with_128_bits_of_security(shape: str) -> None:
    module = synthetic_module(ModuleShape.parse(shape), seed=0)
    x = synthetic_activations(module.shape, 2, seed=1)
    outcome = run(module, x)
    assert outcome.job.plan.params.ring_degree == 8192
    assert outcome.job.plan.verdict.secure
    assert outcome.job.plan.verdict.security_bits >= 128
    assert outcome.delta.shape == (2, module.shape.d_out)
    assert precision_bits(outcome.delta, module.reference_delta(x)) >= WANTED_BITS
    assert outcome.report.executed == outcome.job.plan.counts.times(outcome.job.plan.runs(2))


@pytest.mark.parametrize("packing", ["rank_bsgs", "zero_moai"])
@pytest.mark.parametrize(
    "name", ["layers.0.self_attn.q_proj", "layers.12.self_attn.v_proj", "layers.29.self_attn.q_proj"]
)
def test_modules_of_a_trained_adapter_on_real_activations(name: str, packing: str) -> None:
    (module,) = bundled_adapter().select(name)
    x = bundled_activations()[module.name][-5:]
    outcome = run(module, x, packing)
    assert precision_bits(outcome.delta, module.reference_delta(x)) >= WANTED_BITS
