"""The laws of every packing in core. A new one is tested as soon as it is registered."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.backend.capabilities import Encoding
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.ir import OpKind
from helora_core.compiler.plan import Plan
from helora_core.errors import SlotOverflow
from helora_core.execution.reference import run_plain
from helora_core.host.builtin import helora_packings
from helora_core.packing.costs import DEFAULT_COSTS
from helora_core.packing.protocol import Layout, ModulusUse, Packing, Vector
from helora_core.privacy.leakage import Leakage, LeakageClass
from tests.conftest import examples
from tests.registered import ACCEPTED

PlanFor = Callable[..., Plan]
Activations = Callable[..., Vector]
Modules = st.SearchStrategy[LoRAModule]

SPECS = {spec.name: spec for spec in helora_packings()}
dimensions = st.integers(1, 5000)
SHAPES = st.builds(ModuleShape, d_in=dimensions, d_out=dimensions, rank=st.integers(1, 130))


_COEFFICIENTS = " in coefficients"


@pytest.fixture(scope="session", params=[*SPECS, "cpmm" + _COEFFICIENTS], ids=str)
def packing(request: pytest.FixtureRequest) -> Any:
    """Each packing, made as the plugin host makes it."""
    name = request.param.removesuffix(_COEFFICIENTS)
    module, _, attribute = SPECS[name].target.partition(":")
    made = getattr(importlib.import_module(module), attribute)()
    return made if name == request.param else made.in_coefficients


def test_the_packings_are_those_of_the_design() -> None:
    assert set(SPECS) == {
        "rank_bsgs",
        "zero_moai",
        "halevi_shoup",
        "halevi_shoup_bsgs",
        "outer_product",
        "cpmm",
        "cheetah",
        "cheetah_two_round",
        "precomputed",
        "precomputed_exact",
    }


def test_it_has_the_name_of_its_spec_and_says_what_it_reveals(packing: Packing) -> None:
    assert packing.name in SPECS
    assert packing.version >= 1
    assert isinstance(packing.leakage, Leakage)
    assert packing.leakage.explanation.endswith(".")


KEY_HOLDER = {  # what it learns beyond Δ, and whether only from results that were not sanitised
    "rank_bsgs": (LeakageClass.NOTHING, True),
    "halevi_shoup": (LeakageClass.NOTHING, True),
    "halevi_shoup_bsgs": (LeakageClass.NOTHING, True),
    "outer_product": (LeakageClass.NOTHING, True),
    "cpmm": (LeakageClass.NOTHING, True),
    "cheetah": (LeakageClass.Z, True),
    "cheetah_two_round": (LeakageClass.MASKED_Z, True),
    "zero_moai": (LeakageClass.PRODUCTS, False),
    "precomputed": (LeakageClass.NOTHING, False),
    "precomputed_exact": (LeakageClass.NOTHING, False),
}


def test_what_the_key_holder_learns(packing: Packing) -> None:
    assert (packing.leakage.key_holder, packing.leakage.needs_sanitize) == KEY_HOLDER[packing.name]
    assert packing.client_finishes is (packing.name in ("cheetah", "zero_moai"))


def transform_error(packing: Packing, module: LoRAModule) -> float:
    """What a product of polynomials by FFT is off by: a part of the largest number there is; of slots, nothing."""
    if packing.encoding is not Encoding.COEFFICIENTS:
        return 0.0
    largest = np.abs(module.down).max() * np.abs(module.scaled_up).max() * module.shape.rank * module.shape.d_in
    return float(1e-11 * largest)


@given(data=st.data())
def test_it_is_exact_and_a_token_depends_on_no_other(
    packing: Packing, modules: Modules, plan_for: PlanFor, activations: Activations, data: st.DataObject
) -> None:
    """Neither on one that changes, nor on those that fill a run up."""
    module = data.draw(modules)
    plan = plan_for(module.shape, packing)
    x, off = activations(module, plan.tokens_per_run), transform_error(packing, module)
    delta, reference = run_plain(plan, module, x), module.reference_delta(x)
    assert delta.shape == reference.shape
    assert delta.dtype == np.float64
    assert np.abs(delta - reference).max() <= 1e-9 * np.abs(reference).max() + off
    tokens, changed = data.draw(st.integers(1, len(x))), data.draw(st.integers(0, len(x) - 1))
    assert np.abs(run_plain(plan, module, x[:tokens]) - delta[:tokens]).max() <= off
    x[changed] = activations(module, 1, seed=1)
    others = np.delete(run_plain(plan, module, x) - delta, changed, axis=0)
    assert np.abs(others).max(initial=0.0) <= off


@given(data=st.data(), tokens=st.sampled_from([None, 1, 3, 8, 70, 600]), zeros=st.booleans())
def test_it_is_exact_for_wide_modules_and_any_number_of_tokens(
    packing: Packing, wide_modules: Modules, plan_for: PlanFor, data: st.DataObject, tokens: int | None, zeros: bool
) -> None:
    module = data.draw(wide_modules)
    plan = plan_for(module.shape, packing, tokens, module if zeros else None)
    count = data.draw(st.integers(1, min(plan.tokens_per_run, tokens or plan.tokens_per_run)))
    x = np.random.default_rng(0).normal(size=(count, module.shape.d_in))
    delta, reference = run_plain(plan, module, x), module.reference_delta(x)
    assert delta.shape == reference.shape
    assert np.abs(delta - reference).max() <= 1e-11 * np.abs(reference).max() + transform_error(packing, module)


@given(data=st.data())
def test_what_it_packs_and_multiplies_by_fits_the_slots_and_has_names(
    packing: Packing, modules: Modules, plan_for: PlanFor, activations: Activations, data: st.DataObject
) -> None:
    module = data.draw(modules)
    plan = plan_for(module.shape, packing)
    packed, constants = plan.pack(activations(module, plan.tokens_per_run)), list(plan.layout.constants(module))
    assert len(packed) == len(plan.program.inputs)
    for vector in (*packed, *dict(constants).values()):
        assert vector.dtype == np.float64
        assert vector.ndim == 1
        assert 0 < vector.size <= plan.params.slots * (2 if packing.encoding is Encoding.COEFFICIENTS else 1)
    assert len(dict(constants)) == len(constants)
    assert set(dict(constants)) == set(plan.constant_specs)


@examples(6)  # some packings emit thousands of operations for the widest of these shapes
@given(shape=SHAPES)
def test_the_program_is_as_deep_and_turns_as_it_says(packing: Packing, shape: ModuleShape) -> None:
    plan = compile_plan(shape, packing, precision_bits=0, private_weights=False, assume=ACCEPTED)
    if packing.modulus_use is ModulusUse.LEVELS:
        assert {plan.params.max_level - plan.values[output].level for output in plan.program.results} == {packing.depth}
    if not packing.rotates:
        assert plan.counts.rotations == 0
    # Rotation keys are for exactly the program's steps.
    steps = [op.steps for op in plan.program.ops if op.kind is OpKind.ROTATE]
    assert set(plan.rotation_steps) == set(steps)
    assert len(plan.rotation_steps) == len(set(plan.rotation_steps))
    assert all(0 < step < plan.params.slots for step in plan.rotation_steps)


def smallest_slots(packing: Packing, shape: ModuleShape) -> int:
    """The fewest slots of a ring that hold the module."""
    return 1 << (packing.min_slots(shape) - 1).bit_length()


def first_layout(packing: Packing, shape: ModuleShape, slots: int) -> Layout:
    """The layout to take where costs are equal."""
    return next(packing.layouts(shape, slots, tokens=None, costs=DEFAULT_COSTS))


@given(shape=SHAPES, more=st.integers(0, 3))
def test_min_slots_suffice(packing: Packing, shape: ModuleShape, more: int) -> None:
    assert first_layout(packing, shape, smallest_slots(packing, shape) << more).tokens_per_run >= 1


@given(shape=SHAPES, less=st.integers(1, 3))
def test_fewer_slots_are_refused_with_the_smallest_ring_that_works(
    packing: Packing, shape: ModuleShape, less: int
) -> None:
    enough = smallest_slots(packing, shape)
    if not enough >> less:
        return  # any ring will do
    with pytest.raises(SlotOverflow) as caught:
        first_layout(packing, shape, enough >> less)
    assert f"{packing.name}: " in caught.value.message
    assert str(shape) in caught.value.message
    assert re.findall(r"\d+", caught.value.hint) == [str(2 * enough)]
