"""The cost of zero_moai, and its leakage."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.compiler.compile import compile_plan, lower
from helora_core.compiler.plan import Plan
from helora_core.errors import LeakageRefused
from helora_core.execution.reference import execute_plain
from helora_core.packing.costs import DEFAULT_COSTS
from helora_core.packing.protocol import Packing
from helora_core.packing.zero_moai import ZeroMOAI, ZeroMOAILayout
from helora_core.params.ckks import CKKSParams
from helora_core.privacy.leakage import LeakageClass

SMALL = CKKSParams(ring_degree=1024, data_bits=(60, 40, 40), special_bits=(60,), scale_bits=40)
PlanFor = Callable[[ModuleShape, Packing], Plan]
Modules = st.SearchStrategy[LoRAModule]

dimensions = st.integers(1, 20000)
SHAPES = st.builds(ModuleShape, d_in=dimensions, d_out=dimensions, rank=st.integers(1, 130))


def layouts(shape: ModuleShape, slots: int, tokens: int | None = None) -> list[ZeroMOAILayout]:
    return list(ZeroMOAI().layouts(shape, slots, tokens=tokens, costs=DEFAULT_COSTS))


@given(SHAPES)
def test_it_takes_no_rotation_and_a_product_for_each_block_and_ciphertext_that_comes_back(shape: ModuleShape) -> None:
    plan = compile_plan(shape, ZeroMOAI(), precision_bits=0, private_weights=False)
    width = min(plan.params.slots, shape.d_in)
    blocks = -(-shape.d_in // width)
    copies = min(plan.params.slots // width, shape.rank)
    back = -(-shape.rank // copies)
    assert (plan.counts.rotations, plan.counts.keyswitches) == (0, 0)
    assert (plan.counts.ct_pt, plan.counts.additions) == (blocks * back, (blocks - 1) * back)
    assert (plan.counts.rescales, plan.counts.encrypts, plan.counts.decrypts) == (back, blocks, back)
    assert plan.tokens_per_run == 1
    assert plan.rotation_steps == ()
    assert plan.layout.figures == {"copies": copies, "blocks": blocks, "ciphertexts_down": back}


@given(SHAPES, st.integers(1, 5000))
def test_tokens_that_are_there_share_the_slots(shape: ModuleShape, tokens: int) -> None:
    """Fewer copies for more tokens, never more of them than there are, and never more than the slots hold."""
    slots = 4096
    first, *others = layouts(shape, slots, tokens)
    for before, after in zip([first, *others], others, strict=False):
        assert after.copies == -(-before.copies // 2)
        assert after.tokens_per_run >= before.tokens_per_run
    for layout in (first, *others):
        assert 1 <= layout.tokens_per_run <= tokens
        assert layout.tokens_per_run * layout.copies * layout.width <= slots
    assert others == [] or others[-1].copies == 1 or others[-1].tokens_per_run == tokens


@given(data=st.data(), tokens=st.integers(1, 40))
def test_every_layout_is_exact(wide_modules: Modules, data: st.DataObject, tokens: int) -> None:
    module = data.draw(wide_modules)
    settings = compile_plan(module.shape, ZeroMOAI(), params=SMALL, private_weights=False).settings
    for layout in layouts(module.shape, SMALL.slots, tokens):
        *_, last = lower(layout, ZeroMOAI(), settings)
        x = np.random.default_rng(tokens).normal(size=(layout.tokens_per_run, module.shape.d_in))
        outputs = execute_plain(last.program, layout.pack(x), dict(layout.constants(module)))
        delta, reference = layout.unpack(outputs, len(x), module), module.reference_delta(x)
        assert np.abs(delta - reference).max() <= 1e-9 * np.abs(reference).max()


@pytest.mark.parametrize(
    ("shape", "ring", "back"),
    [("1536:1536:16", 8192, 8), ("1536:1536:16", 4096, 16), ("512:8:8", 8192, 1), ("300:9:7", 4096, 2)],
)
def test_as_many_rows_as_fit_share_a_ciphertext(shape: str, ring: int, back: int) -> None:
    assert (
        compile_plan(ModuleShape.parse(shape), ZeroMOAI(), ring_degree=ring, private_weights=False).counts.decrypts
        == back
    )


def test_copies_of_a_token_stand_one_after_the_other() -> None:
    (layout,) = layouts(ModuleShape(d_in=3, d_out=1, rank=5), 8)
    assert [vector.tolist() for vector in layout.pack(np.array([[1.0, 2.0, 3.0]]))] == [[1, 2, 3, 1, 2, 3]]


def test_tokens_stand_one_after_the_other_with_their_copies() -> None:
    (layout,) = layouts(ModuleShape(d_in=2, d_out=1, rank=2), 8, tokens=2)
    assert (layout.copies, layout.tokens_per_run) == (2, 2)
    assert [vector.tolist() for vector in layout.pack(np.array([[1.0, 2.0], [3.0, 4.0]]))] == [[1, 2, 1, 2, 3, 4, 3, 4]]


def test_what_is_wider_than_the_slots_is_cut_into_blocks() -> None:
    (layout,) = layouts(ModuleShape(d_in=5, d_out=1, rank=1), 4)
    assert [vector.tolist() for vector in layout.pack(np.arange(1.0, 6.0)[np.newaxis])] == [[1, 2, 3, 4], [5, 0, 0, 0]]


def test_it_says_that_products_are_revealed_and_the_client_must_own_the_adapter() -> None:
    assert ZeroMOAI.leakage.key_holder is LeakageClass.PRODUCTS
    assert not ZeroMOAI.leakage.needs_sanitize
    assert ZeroMOAI.client_finishes
    assert "down" in ZeroMOAI.leakage.explanation


def test_a_client_without_the_adapter_is_refused(refused: Callable[..., AbstractContextManager[None]]) -> None:
    (layout,) = layouts(ModuleShape(d_in=3, d_out=1, rank=1), 8)
    with refused(LeakageRefused, "zero_moai", "adapter in the clear", hint="rank_bsgs"):
        layout.unpack([np.ones(8)], 1, None)


@given(data=st.data())
def test_the_leak_is_real_one_query_gives_all_of_down(modules: Modules, plan_for: PlanFor, data: st.DataObject) -> None:
    """The key holder divides the decrypted products by the x it knows. Powers of two make that exact."""
    module = data.draw(modules)
    plan = plan_for(module.shape, ZeroMOAI())
    exponents = data.draw(st.lists(st.integers(-4, 4), min_size=module.shape.d_in, max_size=module.shape.d_in))
    x = np.exp2(exponents)
    decrypted = execute_plain(plan.program, plan.pack(x[np.newaxis]), dict(plan.layout.constants(module)))
    used = plan.layout.figures["copies"] * module.shape.d_in
    recovered = np.concatenate([output[:used].reshape(-1, module.shape.d_in) / x for output in decrypted])
    assert np.array_equal(recovered[: module.shape.rank], module.down)
