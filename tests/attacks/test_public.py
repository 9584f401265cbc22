"""What anybody can see of a service depends on the weights' shape, zeros and exponent, and on nothing else of them."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from attackers.modules import KINDS, module_of
from attackers.service import Service, plan_of, random_module

from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.backend.protocol import Backend
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.plan import Plan
from helora_core.errors import PrecisionLost
from helora_core.host.manager import get_manager
from tests.conftest import THOROUGH

SHAPES = {
    "rank_bsgs": "37:90:5",
    "cpmm": "6:4:2",
    "cheetah_two_round": "96:80:3",
    "halevi_shoup": "9:12:2",
    "halevi_shoup_bsgs": "16:16:2",
    "outer_product": "9:12:2",
}


def modules(shape: ModuleShape) -> list[LoRAModule]:
    return [module_of(kind, shape, seed) for kind in KINDS for seed in range(3 if THOROUGH else 1)] + [
        LoRAModule("m", random_module(shape).down * 10.0**size, random_module(shape).up, 0.5) for size in (-9, 0, 9)
    ]


def shown(plan: Plan) -> dict[str, Any]:
    """A plan as it is told to people and put in offers, without the exponent."""
    told = plan.to_dict()
    del told["exponent"]
    return told | {"values": plan.values, "report": msgspec.to_builtins(plan.precision())}


@pytest.mark.parametrize("packing", SHAPES)
def test_plans_of_all_weights_are_one(packing: str) -> None:
    loaded = get_manager().load_packing(packing)
    shape = ModuleShape.parse(SHAPES[packing])
    alike = shown(compile_plan(shape, loaded))
    for module in modules(shape):
        assert shown(compile_plan(shape, loaded, module=module)) == alike


@pytest.mark.parametrize("packing", ["rank_bsgs", "cheetah_two_round"])
def test_messages_floods_and_masks_of_all_weights_are_one(tenseal: Backend, packing: str) -> None:
    """As they are really made and sent. SEAL compresses ciphertexts, whose sizes vary with their randomness."""
    shape = ModuleShape.parse(SHAPES[packing])
    usual = Service.of(tenseal, random_module(shape), plan_of(packing, SHAPES[packing]))
    sizes, reports = [], []
    for kind in KINDS:
        try:
            service = usual.serving(module_of(kind, shape))
        except PrecisionLost:
            continue
        passed = service.ask(service.nothing)
        sizes.append([len(service.server.send(each)) for each in (*passed.results, *passed.masked)])
        reports.append(service.constants.report)
    assert all(report == usual.constants.report for report in reports)
    assert np.max(np.abs(np.array(sizes) / np.mean(sizes, axis=0) - 1)) < 0.01


def test_zeros_are_seen() -> None:
    """They are left out of the program, whose operations anybody counts."""
    shape = ModuleShape.parse(SHAPES["cpmm"])
    module, packing = random_module(shape), get_manager().load_packing("cpmm")
    sparse = LoRAModule("m", module.down, module.up * np.array([[1.0], [0.0], [1.0], [1.0]]), 1.0)
    plans = [compile_plan(shape, packing, module=each) for each in (module, sparse)]
    assert len(plans[0].program.results) == len(plans[1].program.results) + 1
