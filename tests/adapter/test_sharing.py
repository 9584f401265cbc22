"""Modules of a layer that get one input run as one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helora_core.adapter.combine import stack, unstack
from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.adapter.sharing import shared_inputs
from helora_core.adapter.synthetic import synthetic_activations, synthetic_module
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.compiled import Part
from helora_core.execution.reference import precision_bits
from helora_core.host.manager import get_manager
from helora_core.parties.adapter_run import ModuleJob, run_adapter

WIDTHS = {"q_proj": "24:32:3", "k_proj": "24:8:2", "v_proj": "24:8:4"}


def layer(number: int, ending: str) -> LoRAModule:
    name = f"layers.{number}.self_attn.{ending}"
    return synthetic_module(ModuleShape.parse(WIDTHS[ending]), seed=number, name=name)


def activations(seed: int, tokens: int = 3) -> Any:
    return synthetic_activations(ModuleShape.parse("24:1:1"), tokens, seed=seed)


def test_modules_of_one_parent_and_equal_activations_become_one() -> None:
    x = activations(1)
    modules = tuple(layer(0, each) for each in WIDTHS)
    ((parts, shared),) = shared_inputs([(module, x.copy()) for module in modules])
    assert parts == modules
    assert stack(parts).name == "layers.0.self_attn.{q_proj,k_proj,v_proj}"
    assert str(stack(parts).shape) == "24:48:9"
    np.testing.assert_array_equal(shared, x)


def test_layers_stay_apart_even_on_equal_activations() -> None:
    x = activations(1)
    shared = shared_inputs([(layer(number, each), x) for number in (0, 1) for each in ("q_proj", "v_proj")])
    assert [stack(parts).name for parts, _ in shared] == [f"layers.{i}.self_attn.{{q_proj,v_proj}}" for i in (0, 1)]


def test_other_activations_are_never_shared() -> None:
    x = activations(1)
    moved = x.copy()
    moved[-1, -1] += 1e-12
    longer = np.concatenate([x, x])
    given_inputs = [(layer(0, each), values) for each, values in zip(WIDTHS, (x, moved, longer), strict=True)]
    shared = shared_inputs(given_inputs)
    assert [parts for parts, _ in shared] == [(module,) for module, _ in given_inputs]


def test_they_come_in_the_order_of_the_first_of_each() -> None:
    x, y = activations(1), activations(2)
    shared = shared_inputs([(layer(1, "q_proj"), x), (layer(0, "q_proj"), y), (layer(1, "v_proj"), x)])
    names = [[module.name.removeprefix("layers.") for module in parts] for parts, _ in shared]
    assert names == [["1.self_attn.q_proj", "1.self_attn.v_proj"], ["0.self_attn.q_proj"]]


@given(st.lists(st.sampled_from([(0, "q_proj"), (0, "v_proj"), (1, "k_proj"), (2, "q_proj")]), unique=True, max_size=4))
def test_no_module_is_lost_or_made(names: list[tuple[int, str]]) -> None:
    inputs = [(layer(*name), activations(name[0])) for name in names]
    found = [module for parts, _ in shared_inputs(inputs) for module in parts]
    assert sorted(module.name for module in found) == sorted(module.name for module, _ in inputs)


@pytest.mark.parametrize("packing", ["rank_bsgs", "zero_moai", "cheetah_two_round"])
def test_run_as_one_they_give_the_deltas_that_they_give_alone(numpy_backend: Any, packing: str) -> None:
    x = activations(5, tokens=4)
    modules = [layer(0, each) for each in WIDTHS]
    strategy = get_manager().load_packing(packing)

    def run(inputs: list[tuple[LoRAModule, Any]]) -> list[Any]:
        work = [
            ModuleJob(module, each, compile_plan(module.shape, strategy, tokens=4, private_weights=False))
            for module, each in inputs
        ]
        return list(run_adapter(numpy_backend, work, private_weights=False))

    (together,) = run([(stack(parts), each) for parts, each in shared_inputs([(module, x) for module in modules])])
    alone = run([(module, x) for module in modules])
    for module, delta, outcome in zip(modules, unstack(together.delta, modules), alone, strict=True):
        reference = module.reference_delta(x)
        assert delta.shape == outcome.delta.shape
        assert precision_bits(delta, reference) > 10
        assert precision_bits(delta, outcome.delta) > 10
    parts = tuple(Part(name=each.name, d_out=each.shape.d_out) for each in modules)
    job = replace(together.job, parts=parts)
    for (name, delta), module in zip(replace(together, job=job).deltas.items(), modules, strict=True):
        assert name == module.name
        assert precision_bits(delta, module.reference_delta(x)) > 10
    assert list(together.deltas) == [together.job.module.name]
    assert together.report.executed.encrypts < sum(outcome.report.executed.encrypts for outcome in alone)
