"""The cost of MOAI's column packing, that it is exact, and that it needs no rotation key."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.adapter.synthetic import synthetic_activations, synthetic_module
from helora_core.backend.capabilities import Encoding
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.ir import OpKind
from helora_core.compiler.plan import Plan
from helora_core.compiler.recipe import recipe_of, remade
from helora_core.compiler.request import BackendTraits
from helora_core.execution.reference import precision_bits
from helora_core.host.manager import get_manager
from helora_core.packing.costs import DEFAULT_COSTS
from helora_core.packing.cpmm import CPMM
from helora_core.packing.protocol import Vector
from helora_core.params.presets import FAST
from helora_core.parties.module_run import ModuleRun


def planned(backend: str, shape: str, sanitize_bits: int | None) -> Plan:
    """A plan for a backend's traits."""
    traits = BackendTraits.of([get_manager().load_backend(backend).capabilities])
    private = sanitize_bits is not None
    return compile_plan(
        ModuleShape.parse(shape), CPMM(), private_weights=private, sanitize_bits=sanitize_bits, traits=traits
    )


Modules = st.SearchStrategy[LoRAModule]
SmallPlan = Callable[..., Plan]
RunOn = Callable[[str, Plan, LoRAModule, Vector], ModuleRun]

dimensions = st.integers(1, 500)
SHAPES = st.builds(ModuleShape, d_in=dimensions, d_out=dimensions, rank=st.integers(1, 130))


class TestExactness:
    @pytest.mark.parametrize("backend", ["numpy", "tenseal"])
    @pytest.mark.parametrize(("shape", "tokens"), [("37:90:5", 1), ("60:7:3", 512), ("20:33:40", 700)])
    def test_it_survives_encryption(
        self, backend: str, shape: str, tokens: int, small_plan: SmallPlan, run_on: RunOn
    ) -> None:
        """A partly filled run, a full one, and more tokens than slots."""
        module = synthetic_module(ModuleShape.parse(shape), seed=1)
        plan = small_plan(module, CPMM(), tokens)
        x = synthetic_activations(module.shape, tokens, seed=2)
        result = run_on(backend, plan, module, x)
        assert result.delta.shape == (tokens, module.shape.d_out)
        assert precision_bits(result.delta, module.reference_delta(x)) > 14

    @pytest.mark.parametrize("backend", ["numpy", "tenseal"])
    def test_a_weight_that_is_zero_does_no_harm(self, backend: str, small_plan: SmallPlan, run_on: RunOn) -> None:
        """Also where the plan does not know of it: a product with zero has no secret in it, and SEAL refuses those."""
        module = synthetic_module(ModuleShape.parse("5:4:3"), seed=1)
        down, up = module.down.copy(), module.up.copy()
        down[1], down[0, 2], up[2] = 0, 0, 0
        module = LoRAModule("zeros", down, up, 1.0)
        x = synthetic_activations(module.shape, 4, seed=2)
        for zeros in (False, True):
            plan = small_plan(module, CPMM(), 4, zeros=zeros)
            assert precision_bits(run_on(backend, plan, module, x).delta, module.reference_delta(x)) > 14


class TestCounts:
    @settings(max_examples=30)
    @given(shape=SHAPES, tokens=st.sampled_from([None, 8, 100_000]))
    def test_they_follow_the_formula(self, shape: ModuleShape, tokens: int | None) -> None:
        """No rotation; r·(d_in + d_out) products; r + d_out rescales; d_in ciphertexts up and d_out down."""
        plan = compile_plan(shape, CPMM(), tokens=tokens, params=FAST, private_weights=False)
        assert (plan.counts.rotations, plan.counts.keyswitches, plan.rotation_steps) == (0, 0, ())
        assert plan.counts.ct_pt == shape.rank * (shape.d_in + shape.d_out)
        assert plan.counts.additions == shape.rank * (shape.d_in - 1) + shape.d_out * (shape.rank - 1)
        assert plan.counts.rescales == shape.rank + shape.d_out
        assert (plan.counts.encrypts, plan.counts.decrypts) == (shape.d_in, shape.d_out)
        assert plan.tokens_per_run == plan.params.slots

    @pytest.mark.parametrize(
        ("shape", "products", "rescales"), [("512:512:8", 8192, 520), ("1536:1536:16", 49152, 1552)]
    )
    def test_they_are_those_published(self, shape: str, products: int, rescales: int) -> None:
        counts = compile_plan(ModuleShape.parse(shape), CPMM(), private_weights=False).counts
        assert (counts.rotations, counts.ct_pt, counts.rescales) == (0, products, rescales)

    def test_what_is_zero_is_neither_sent_nor_multiplied_nor_sent_back(self, small_plan: SmallPlan) -> None:
        module = synthetic_module(ModuleShape.parse("9:7:4"), seed=1)
        down, up = module.down.copy(), module.up.copy()
        down[:, 3], up[5], down[2, 0] = 0, 0, 0
        counts = small_plan(LoRAModule("zeros", down, up, 1.0), CPMM(), None, zeros=True).counts
        assert (counts.encrypts, counts.decrypts, counts.ct_pt) == (8, 6, 4 * 8 - 1 + 6 * 4)


class TestCoefficients:
    """Where a backend encodes integers: N tokens a ciphertext, one prime divided out between the products."""

    @pytest.mark.parametrize("name", ["numpy", "tenseal", "rns"])
    @pytest.mark.parametrize("sanitize_bits", [None, 40])
    def test_they_are_taken_where_they_are_exact(self, name: str, sanitize_bits: int | None) -> None:
        plan = planned(name, "300:200:16", sanitize_bits)
        assert plan.program.encoding is Encoding.COEFFICIENTS
        assert plan.tokens_per_run == plan.params.ring_degree
        assert plan.precision().bits >= 12
        assert plan.counts.rescales == 16
        assert plan.counts.ct_pt == 16 * 500
        # Nothing stands in a coefficient that is not a token's, so none is hidden.
        assert not plan.precision().mask_bits
        assert all(not op.positions for op in plan.program.ops if op.kind is OpKind.SANITIZE)

    def test_slots_are_taken_elsewhere(self) -> None:
        """By libraries of doubles, or with one scale for all; and where the library is not known."""
        exact = get_manager().load_backend("tenseal").capabilities
        lacking = msgspec.structs.replace(exact, encodings=exact.encodings - {Encoding.INTEGERS})
        one_scale = msgspec.structs.replace(exact, free_plaintext_scale=False)
        for abilities in ([], [lacking], [exact, lacking], [one_scale]):
            traits = BackendTraits.of(abilities)
            plan = compile_plan(ModuleShape.parse("9:7:4"), CPMM(), private_weights=False, traits=traits)
            assert plan.program.encoding is Encoding.SLOTS

    @pytest.mark.parametrize("sanitize_bits", [None, 40])
    def test_another_process_makes_the_same_plan(self, sanitize_bits: int | None) -> None:
        plan = planned("rns", "30:20:4", sanitize_bits)
        again = remade(recipe_of(plan), lambda name: CPMM(), plan.verdict)
        assert (again.digest, again.packing.encoding) == (plan.digest, Encoding.COEFFICIENTS)

    @pytest.mark.parametrize("name", ["tenseal", "rns"])
    @pytest.mark.parametrize("sanitize_bits", [None, 40])
    def test_structured_activations_keep_the_bound(self, name: str, sanitize_bits: int | None, run_on: RunOn) -> None:
        """One token 300 times as large, one feature, all equal, and very large or small: each within its own bound."""
        plan = planned(name, "24:20:4", sanitize_bits)
        module = synthetic_module(plan.shape, seed=1)
        x = synthetic_activations(module.shape, plan.tokens_per_run, seed=2)
        x[1] *= 300
        x[2, 5] *= 300
        x[3], x[4] = 1.0, 0.0
        x[5] *= 2.0**40
        x[6] *= 2.0**-40
        result, exact = run_on(name, plan, module, x), module.reference_delta(x)
        assert result.delta.shape == exact.shape
        assert np.all(np.abs(result.delta - exact).max(axis=1) <= result.error_bound)
        assert not result.delta[4].any()
        assert precision_bits(result.delta[6:7], exact[6:7]) > 8

    def test_emulation_and_libraries_agree(self, run_on: RunOn) -> None:
        module = synthetic_module(ModuleShape.parse("24:20:4"), seed=1)
        x = synthetic_activations(module.shape, 3, seed=2)
        for sanitize_bits in (None, 40):
            plan = planned("tenseal", "24:20:4", sanitize_bits)
            results = [run_on(name, plan, module, x) for name in ("numpy", "tenseal", "rns")]
            assert np.abs(results[0].delta - results[1].delta).max() <= 2 * results[0].error_bound.max()
            assert np.abs(results[0].delta - results[2].delta).max() <= 2 * results[0].error_bound.max()


class TestLayout:
    def test_its_weights_are_the_rows_and_numbers(self) -> None:
        module = LoRAModule("m", np.arange(6.0).reshape(2, 3), np.arange(8.0).reshape(4, 2), 0.5)
        plan = compile_plan(module.shape, CPMM(), private_weights=False)
        constants = {name: vector.tolist() for name, vector in plan.layout.constants(module)}
        assert constants == {
            "down.0": [0, 1, 2],
            "down.1": [3, 4, 5],
            "up.0": [0, 0.5],
            "up.1": [1, 1.5],
            "up.2": [2, 2.5],
            "up.3": [3, 3.5],
        }
        assert {spec.encoding for spec in plan.constant_specs.values()} == {Encoding.SCALAR}

    def test_a_ciphertext_holds_one_feature_of_every_token(self) -> None:
        (layout,) = CPMM().layouts(ModuleShape.parse("3:1:1"), 8, tokens=8, costs=DEFAULT_COSTS)
        packed = layout.pack(np.array([[1.0, 2.0, 3.0], [10.0, 20.0, 30.0]]))
        assert [vector.tolist() for vector in packed] == [[1, 10], [2, 20], [3, 30]]

    def test_sums_are_one_operation_each(self) -> None:
        program = compile_plan(ModuleShape.parse("100:60:5"), CPMM(), private_weights=False).program
        kinds = [op.kind for op in program.ops if op.kind not in (OpKind.INPUT, OpKind.RESCALE)]
        assert kinds == [OpKind.DOT_SCALARS] * 65

    def test_inputs_are_gone_before_results_come(self, peak_live: Callable[[Plan], int]) -> None:
        plan = compile_plan(ModuleShape.parse("300:70:5"), CPMM(), private_weights=False)
        assert peak_live(plan) == 300 + 5
        assert peak_live(compile_plan(ModuleShape.parse("70:300:5"), CPMM(), private_weights=False)) == 300 + 5
