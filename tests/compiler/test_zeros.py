"""Zeros of a module are found in its plaintexts, and modules with the same ones look alike."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.adapter.synthetic import synthetic_activations, synthetic_module
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.cost import relative_cost
from helora_core.compiler.zeros import has_zeros, support_of, zero_pattern
from helora_core.execution.reference import run_plain
from helora_core.host.manager import get_manager
from helora_core.packing.costs import DEFAULT_COSTS
from helora_core.params.ckks import CKKSParams
from tests.conftest import examples

QUICK = CKKSParams(ring_degree=1024, data_bits=(55, 36, 36), special_bits=(55,), scale_bits=36)
SHAPE = ModuleShape.parse("20:24:4")


def module(*, rows: tuple[int, ...] = (), columns: tuple[int, ...] = (), scaling: float = 2.0) -> LoRAModule:
    """SHAPE, dense but for rows of ``down`` and columns of ``up``."""
    dense = synthetic_module(SHAPE, seed=3)
    down, up = dense.down.copy(), dense.up.copy()
    down[list(rows)] = 0.0
    up[:, list(columns)] = 0.0
    return LoRAModule("m", down, up, scaling)


class TestPattern:
    def test_a_dense_module_has_none(self) -> None:
        assert not has_zeros(module())
        assert zero_pattern(module()) == b""

    @pytest.mark.parametrize(
        "sparse", [module(rows=(1,)), module(columns=(1,)), module(scaling=0.0)], ids=["down", "up", "gate"]
    )
    def test_one_zero_is_a_pattern(self, sparse: LoRAModule) -> None:
        assert has_zeros(sparse)
        assert len(zero_pattern(sparse)) == 32

    def test_it_depends_on_the_places_and_not_on_the_other_weights(self) -> None:
        left = module(rows=(1,))
        right = LoRAModule("another", -3 * left.down, left.up + 1.0, 0.5)
        assert zero_pattern(left) == zero_pattern(right)

    def test_other_places_are_other_patterns(self) -> None:
        patterns = [
            zero_pattern(each)
            for each in (module(), module(rows=(1,)), module(rows=(2,)), module(columns=(1,)), module(scaling=0.0))
        ]
        assert len(set(patterns)) == len(patterns)


class TestSupport:
    def test_a_dense_module_supports_everything(self) -> None:
        plan = compile_plan(SHAPE, get_manager().load_packing("rank_bsgs"), params=QUICK, private_weights=False)
        assert support_of(plan.program, plan.layout, module()) == {}

    @pytest.mark.parametrize("packing", ["rank_bsgs", "zero_moai", "outer_product", "halevi_shoup", "cpmm"])
    def test_it_names_the_plaintexts_that_are_zero_throughout(self, packing: str) -> None:
        strategy = get_manager().load_packing(packing)
        plan = compile_plan(SHAPE, strategy, params=QUICK, private_weights=False)
        sparse = module(rows=(1, 2), columns=(0, 3))
        support = support_of(plan.program, plan.layout, sparse)
        zero = {name for name, vector in plan.layout.constants(sparse) if not np.any(vector)}
        assert {name for name, places in support.items() if not places} == zero

    @pytest.mark.parametrize("packing", ["rank_bsgs", "zero_moai", "cpmm"])
    @pytest.mark.parametrize("nothing", [module(scaling=0.0), module(rows=(0, 1, 2, 3)), module(columns=(0, 1, 2, 3))])
    def test_nothing_is_left_where_delta_is_zero(self, packing: str, nothing: LoRAModule) -> None:
        """Not even what the client would multiply by zeros."""
        plan = compile_plan(SHAPE, get_manager().load_packing(packing), module=nothing, private_weights=False)
        assert plan.is_zero
        assert not plan.program.inputs


@st.composite
def sparse_modules(draw: st.DrawFn) -> LoRAModule:
    """Single zeros, zero rows and zero columns in both factors."""
    dense = synthetic_module(SHAPE, seed=draw(st.integers(0, 20)))
    ranks = st.sets(st.integers(0, SHAPE.rank - 1))
    kept = np.random.default_rng(draw(st.integers(0, 20))).random
    share = draw(st.sampled_from([0.0, 0.1, 0.9]))
    down, up = dense.down * (kept(dense.down.shape) >= share), dense.up * (kept(dense.up.shape) >= share)
    down[list(draw(ranks))] = 0.0
    up[:, list(draw(ranks))] = 0.0
    return LoRAModule("m", down, up, draw(st.sampled_from([2.0, 0.0])))


@pytest.mark.parametrize(
    "packing",
    ["rank_bsgs", "zero_moai", "outer_product", "halevi_shoup", "halevi_shoup_bsgs", "cpmm", "cheetah"],
)
@examples(6)
@given(sparse=sparse_modules())
def test_what_is_left_of_a_program_computes_the_same_for_no_more(packing: str, sparse: LoRAModule) -> None:
    strategy = get_manager().load_packing(packing)
    full = compile_plan(SHAPE, strategy, params=QUICK, private_weights=False)
    lean = compile_plan(SHAPE, strategy, params=QUICK, module=sparse, private_weights=False)
    x = synthetic_activations(SHAPE, min(2, lean.tokens_per_run), seed=1)
    reference = sparse.reference_delta(x)
    np.testing.assert_allclose(run_plain(lean, sparse, x), reference, rtol=0, atol=1e-9)
    assert relative_cost(lean.program, DEFAULT_COSTS) <= relative_cost(full.program, DEFAULT_COSTS) + 1e-9
