"""What zero_moai costs, and what it gives away."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.plan import Plan
from helora_core.errors import LeakageRefused
from helora_core.packing.protocol import Packing
from helora_core.packing.zero_moai import ZeroMOAI
from helora_core.privacy.leakage import LeakageClass
from helora_core.runtime.reference import execute_plain

PlanFor = Callable[[ModuleShape, Packing], Plan]
Modules = st.SearchStrategy[LoRAModule]

dimensions = st.integers(1, 4096)
SHAPES = st.builds(ModuleShape, d_in=dimensions, d_out=dimensions, rank=st.integers(1, 130))


@given(SHAPES)
def test_it_takes_no_rotation_and_a_product_for_each_ciphertext_that_comes_back(shape: ModuleShape) -> None:
    plan = compile_plan(shape, ZeroMOAI())
    copies = min(plan.params.slots // shape.d_in, shape.rank)
    back = -(-shape.rank // copies)
    assert (plan.counts.rotations, plan.counts.keyswitches, plan.counts.additions) == (0, 0, 0)
    assert (plan.counts.ct_pt, plan.counts.rescales, plan.counts.decrypts) == (back, back, back)
    assert plan.counts.encrypts == 1
    assert plan.tokens_per_run == 1
    assert plan.rotation_steps == ()
    assert plan.layout.figures == {"copies": copies, "ciphertexts_down": back}


@pytest.mark.parametrize(
    ("shape", "ring", "back"),
    [("1536:1536:16", 8192, 8), ("1536:1536:16", 4096, 16), ("512:8:8", 8192, 1), ("300:9:7", 4096, 2)],
)
def test_as_many_rows_as_fit_share_a_ciphertext(shape: str, ring: int, back: int) -> None:
    assert compile_plan(ModuleShape.parse(shape), ZeroMOAI(), ring_degree=ring).counts.decrypts == back


def test_copies_of_a_token_stand_one_after_the_other() -> None:
    layout = ZeroMOAI().layout(ModuleShape(d_in=3, d_out=1, rank=5), 8)
    assert [vector.tolist() for vector in layout.pack(np.array([[1.0, 2.0, 3.0]]))] == [[1, 2, 3, 1, 2, 3]]


def test_it_says_that_products_are_revealed_and_the_client_must_own_the_adapter() -> None:
    assert ZeroMOAI.leakage.key_holder is LeakageClass.PRODUCTS
    assert not ZeroMOAI.leakage.needs_sanitize
    assert ZeroMOAI.client_finishes
    assert "down" in ZeroMOAI.leakage.explanation


def test_a_client_without_the_adapter_is_refused(refused: Callable[..., AbstractContextManager[None]]) -> None:
    layout = ZeroMOAI().layout(ModuleShape(d_in=3, d_out=1, rank=1), 8)
    with refused(LeakageRefused, "zero_moai", "adapter in the clear", hint="rank_bsgs"):
        layout.unpack([np.ones(8)], 1, None)


@given(data=st.data())
def test_the_leak_is_real_one_query_gives_all_of_down(modules: Modules, plan_for: PlanFor, data: st.DataObject) -> None:
    """The key holder divides what she decrypts by the x she knows. Powers of two make that exact."""
    module = data.draw(modules)
    plan = plan_for(module.shape, ZeroMOAI())
    exponents = data.draw(st.lists(st.integers(-4, 4), min_size=module.shape.d_in, max_size=module.shape.d_in))
    x = np.exp2(exponents)
    decrypted = execute_plain(plan.program, plan.pack(x[np.newaxis]), dict(plan.layout.constants(module)))
    used = plan.layout.figures["copies"] * module.shape.d_in
    recovered = np.concatenate([output[:used].reshape(-1, module.shape.d_in) / x for output in decrypted])
    assert np.array_equal(recovered[: module.shape.rank], module.down)
