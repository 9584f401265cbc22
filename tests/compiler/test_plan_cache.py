"""Modules share a plan object exactly if their plans would be equal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.adapter.synthetic import synthetic_module
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.plan import Plan
from helora_core.compiler.plan_cache import PlanCache
from helora_core.compiler.request import PlanRequest
from helora_core.errors import SlotOverflow
from helora_core.packing.rank_bsgs import RankBSGS

Asked = list[tuple[str, int]]
OPEN: dict[str, Any] = {"private_weights": False}


@pytest.fixture
def asked() -> Asked:
    """What the compiler was asked for: names of modules and numbers of tokens."""
    return []


@pytest.fixture
def make_cache(asked: Asked) -> Callable[..., PlanCache]:
    def compile_plans(request: PlanRequest) -> tuple[Plan, ...]:
        assert request.module is not None
        assert request.count is not None
        asked.append((request.module.name, request.count))
        return (compile_plan(request.shape, RankBSGS(), tokens=request.count, module=request.module, **OPEN),)

    return lambda **options: PlanCache(compile_plans, **options)


def plan_of(cache: PlanCache, module: LoRAModule, tokens: int) -> Plan:
    (plan,) = cache.plans(PlanRequest(shape=module.shape, module=module, tokens=(tokens,)))
    return plan


def module(name: str, shape: str = "16:16:2") -> LoRAModule:
    return synthetic_module(ModuleShape.parse(shape), seed=1, name=name)


def without_rank(sound: LoRAModule, rank: int) -> LoRAModule:
    down = sound.down.copy()
    down[rank] = 0.0
    return LoRAModule(sound.name, down, sound.up, sound.scaling)


def test_modules_of_one_shape_share_one_plan_object(make_cache: Callable[..., PlanCache], asked: Asked) -> None:
    cache = make_cache()
    assert plan_of(cache, module("q"), 4) is plan_of(cache, module("v"), 4)
    assert asked == [("q", 4)]
    assert len(cache) == 1


def test_another_shape_or_another_batch_is_another_plan(make_cache: Callable[..., PlanCache], asked: Asked) -> None:
    cache = make_cache()
    plans = [
        plan_of(cache, module("q"), 1),
        plan_of(cache, module("q"), 2048),
        plan_of(cache, module("k", "16:8:2"), 1),
    ]
    assert asked == [("q", 1), ("q", 2048), ("k", 1)]
    assert len({id(plan) for plan in plans}) == len(cache) == 3
    assert plans[0].tokens_per_run != plans[1].tokens_per_run


def test_modules_with_zeros_share_with_those_that_have_the_same_zeros(
    make_cache: Callable[..., PlanCache], asked: Asked
) -> None:
    cache = make_cache()
    plans = [
        plan_of(cache, each, 1) for each in (module("a"), without_rank(module("b"), 0), without_rank(module("c"), 1))
    ]
    assert len({id(plan) for plan in plans}) == 3
    assert plan_of(cache, without_rank(module("d"), 0), 1) is plans[1]
    assert [name for name, _ in asked] == ["a", "b", "c"]


def test_a_plan_without_the_zeros_of_one_module_is_never_given_to_another(
    make_cache: Callable[..., PlanCache],
) -> None:
    """It would leave out weights."""
    cache = make_cache()
    gated = LoRAModule("gated", module("a").down, module("a").up, 0.0)
    assert plan_of(cache, gated, 1).program.results == ()
    assert plan_of(cache, module("a"), 1).program.results
    assert np.any(module("a").scaled_up)


def test_over_its_capacity_the_plan_used_longest_ago_is_dropped(
    make_cache: Callable[..., PlanCache], asked: Asked
) -> None:
    cache = make_cache(capacity=2)
    first = plan_of(cache, module("q"), 1)
    plan_of(cache, module("q"), 2)
    assert plan_of(cache, module("q"), 1) is first
    plan_of(cache, module("q"), 4)  # drops the plan for 2 tokens
    assert len(cache) == 2
    assert plan_of(cache, module("q"), 1) is first
    assert [tokens for _, tokens in asked] == [1, 2, 4]
    plan_of(cache, module("q"), 2)
    assert [tokens for _, tokens in asked] == [1, 2, 4, 2]


def test_a_capacity_of_one_keeps_the_plan_just_made(make_cache: Callable[..., PlanCache], asked: Asked) -> None:
    cache = make_cache(capacity=1)
    assert plan_of(cache, module("q"), 1) is plan_of(cache, module("q"), 1)
    assert len(asked) == 1


def test_a_refusal_is_passed_on_and_not_kept() -> None:
    asked: list[PlanRequest] = []

    def refuse(request: PlanRequest) -> tuple[Plan, ...]:
        asked.append(request)
        raise SlotOverflow("too wide", hint="a larger ring")

    cache = PlanCache(refuse)
    for _ in range(2):
        with pytest.raises(SlotOverflow):
            plan_of(cache, module("q"), 1)
    assert len(asked) == 2
    assert len(cache) == 0
