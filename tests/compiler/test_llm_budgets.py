"""Every projection of the models that helora is for keeps the default budget, at few tokens run together."""

from __future__ import annotations

import pytest

from helora_core.adapter.lora import ModuleShape
from helora_core.adapter.synthetic import LLM_SHAPES
from helora_core.compiler.batch import smallest_batch
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.plan import Plan
from helora_core.packing.rank_bsgs import RankBSGS

MODULES = [(model, name, shape) for model, shapes in LLM_SHAPES.items() for name, shape in dict(shapes).items()]


@pytest.mark.parametrize("sanitize_bits", [None, 40], ids=["bare", "sanitised"])
@pytest.mark.parametrize(("model", "name", "shape"), MODULES, ids=[f"{model}-{name}" for model, name, _ in MODULES])
def test_each_keeps_the_default_budget_at_eight_tokens_or_fewer(
    model: str, name: str, shape: ModuleShape, sanitize_bits: int | None
) -> None:
    def compile_for(tokens: int) -> Plan:
        return compile_plan(shape, RankBSGS(), tokens=tokens, sanitize_bits=sanitize_bits, private_weights=False)

    found = smallest_batch(compile_for)
    assert found is not None
    tokens, plan = found
    assert tokens <= 8
    plan.check_budget(tokens)
    assert plan.verdict.secure
    assert plan.precision().bits >= 12
    runs = plan.runs(tokens)
    assert runs * plan.counts.rotations <= 16 * tokens
    assert runs * plan.counts.keyswitches <= 16 * tokens
    assert runs * plan.counts.rescales <= 8 * tokens
