"""What is multiplied by zero is left out, what follows from it too, and the results stay the same."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.backend.ledger import Ledger, OperationCounts
from helora_core.backend.session import InsecureParametersWarning, open_sessions
from helora_core.compiler.builder import Builder
from helora_core.compiler.checks import Scales, annotate
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.cost import count_operations
from helora_core.compiler.ir import Op, OpKind, Program, plaintexts
from helora_core.compiler.passes.skip_zeros import Support, skip_zeros
from helora_core.compiler.plan import Plan
from helora_core.compiler.zeros import support_of
from helora_core.execution.constants import encode_constants
from helora_core.execution.reference import precision_bits, run_plain
from helora_core.host.manager import get_manager
from helora_core.packing.protocol import ModulusUse, ScaleRole, Vector
from helora_core.params.ckks import CKKSParams
from helora_core.parties.module_run import run_module
from tests.registered import online_packings

Programs = st.SearchStrategy[Program]
Computed = Callable[..., list[Vector]]
Constants = Callable[[Program], dict[str, Vector]]

UP = ScaleRole.UP


def some_zeroed(constants: dict[str, Vector], program: Program, data: st.DataObject) -> dict[str, Vector]:
    """Some plaintexts zero throughout, and some of the numbers."""
    numbers = {op.constant for op in program.ops if op.kind is OpKind.DOT_SCALARS}
    zeroed = {}
    for name, vector in constants.items():
        if name in numbers:
            kept = data.draw(st.lists(st.booleans(), min_size=vector.size, max_size=vector.size), label=name)
        else:
            kept = [data.draw(st.booleans(), label=name)]
        zeroed[name] = np.where(kept, vector, 0.0)
    return zeroed


def support(constants: dict[str, Vector]) -> Support:
    """For each constant, where it is not zero: more than ``support_of`` says, which leaves out what has no zeros."""
    return {name: tuple(np.flatnonzero(vector).tolist()) for name, vector in constants.items()}


def filled(program: Program, results: list[Vector]) -> list[Vector]:
    """The results with zeros where they are known to be."""
    given_back = iter(results)
    return [np.zeros(program.slots) if output is None else next(given_back) for output in program.outputs]


class TestAnyProgram:
    @given(st.data())
    def test_the_results_stay_the_same(
        self, programs: Programs, constants: Constants, computed: Computed, data: st.DataObject
    ) -> None:
        program = data.draw(programs)
        zeroed = some_zeroed(constants(program), program, data)
        skipped = skip_zeros(program, support(zeroed))
        found = filled(skipped, computed(skipped, zeroed))
        np.testing.assert_allclose(found, computed(program, zeroed), rtol=1e-12, atol=1e-12)

    @given(st.data())
    def test_the_laws_are_kept_and_nothing_is_done_more_often(
        self, programs: Programs, constants: Constants, params: CKKSParams, scales: Scales, data: st.DataObject
    ) -> None:
        program = data.draw(programs)
        skipped = skip_zeros(program, support(some_zeroed(constants(program), program, data)))
        annotate(skipped, params, scales)
        before, after = count_operations(program), count_operations(skipped)
        for name in ("rotations", "ct_pt", "additions", "rescales", "sanitizes", "decrypts"):
            assert getattr(after, name) <= getattr(before, name)

    @given(st.data())
    def test_no_product_with_zero_is_left(self, one_round: Programs, constants: Constants, data: st.DataObject) -> None:
        program = data.draw(one_round)
        zeroed = some_zeroed(constants(program), program, data)
        for op in skip_zeros(program, support(zeroed)).ops:
            assert all(zeroed[name].any() for name in plaintexts(op))
            if op.kind is OpKind.DOT_SCALARS:
                assert zeroed[op.constant][list(op.positions)].all()

    @given(st.data())
    def test_a_result_that_is_zero_is_not_computed(
        self, one_round: Programs, constants: Constants, data: st.DataObject
    ) -> None:
        """Every result that does not read an input but through zeros; sums of opposites nobody could know."""
        program = data.draw(one_round)
        zeroed = some_zeroed(constants(program), program, data)
        reaches: list[bool] = []
        for op in program.ops:
            passed = [reaches[arg] for arg in op.args]
            if plaintexts(op):
                passed = [each and bool(zeroed[name].any()) for each, name in zip(passed, plaintexts(op), strict=True)]
            if op.kind is OpKind.DOT_SCALARS:
                passed = [each and zeroed[op.constant][at] != 0 for each, at in zip(passed, op.positions, strict=True)]
            reaches.append(op.kind is OpKind.INPUT or any(passed))
        skipped = skip_zeros(program, support(zeroed))
        assert [output is not None for output in skipped.outputs] == [
            reaches[output] for output in program.outputs if output is not None
        ]

    @given(st.data())
    def test_without_zeros_nothing_changes(self, programs: Programs, constants: Constants, data: st.DataObject) -> None:
        program = data.draw(programs)
        assert skip_zeros(program, {}) == program
        assert skip_zeros(program, support(constants(program))) == program

    @given(st.data())
    def test_a_program_that_asks_the_client_is_left_alone_unless_it_is_for_nothing(
        self, programs: Programs, constants: Constants, data: st.DataObject
    ) -> None:
        """What is masked looks alike whether it is zero or not, and so it shall."""
        drawn = data.draw(programs)
        asking = Op(kind=OpKind.ASK_CLIENT, args=(0,))
        program = Program(slots=drawn.slots, ops=(*drawn.ops, asking), outputs=drawn.outputs)
        skipped = skip_zeros(program, dict.fromkeys(constants(program), ()))
        if skipped != program:
            assert (skipped.ops, set(skipped.outputs)) == ((), {None})


class TestExamples:
    def test_a_zero_term_leaves_a_sum(self) -> None:
        builder = Builder(8)
        x = builder.input()
        a, b, c = (builder.multiply_plain(x, name, UP) for name in "abc")
        builder.output(builder.sum([a, b, c]))
        skipped = skip_zeros(builder.program(), {"b": ()})
        assert [op.constant for op in skipped.ops if op.kind is OpKind.MULTIPLY_PLAIN] == ["a", "c"]
        assert count_operations(skipped).additions == 1

    def test_what_zero_becomes_is_zero(self) -> None:
        builder = Builder(8, sanitize_bits=40)
        product = builder.rescale(builder.multiply_plain(builder.input(), "a", UP))
        builder.output(builder.add(builder.rotate(product, 1), product))
        skipped = skip_zeros(builder.program(), {"a": ()})
        assert ([op.kind for op in skipped.ops], skipped.outputs) == ([OpKind.INPUT], (None,))

    def test_zeros_leave_fused_sums_and_sums_of_numbers(self) -> None:
        inputs = tuple(Op(kind=OpKind.INPUT, positions=(place,)) for place in range(3))
        dot = Op(kind=OpKind.DOT_PLAIN, args=(0, 1, 2), constants=("a", "b", "c"), role=UP)
        numbers = Op(kind=OpKind.DOT_SCALARS, args=(0, 1, 2), constant="v", role=UP, positions=(4, 0, 2))
        program = Program(slots=8, ops=(*inputs, dot, numbers), outputs=(3, 4))
        skipped = skip_zeros(program, {"b": (), "v": (2, 4)})
        assert skipped.ops[3:] == (
            Op(kind=OpKind.DOT_PLAIN, args=(0, 2), constants=("a", "c"), role=UP),
            Op(kind=OpKind.DOT_SCALARS, args=(0, 2), constant="v", role=UP, positions=(4, 2)),
        )


ONE_ROUND = tuple(
    name for name in online_packings() if get_manager().load_packing(name).modulus_use is not ModulusUse.MASKED
)
SHAPE = ModuleShape(d_in=40, d_out=24, rank=4)


def module_of(down: Vector, up: Vector) -> LoRAModule:
    return LoRAModule("sparse", down, up, 0.5)


def dense() -> LoRAModule:
    rng = np.random.default_rng(7)
    return module_of(rng.normal(size=(4, 40)), rng.normal(size=(24, 4)))


def sparse() -> LoRAModule:
    """Half of the inputs, a rank and half of the outputs are dead."""
    module = dense()
    down, up = module.down.copy(), module.up.copy()
    down[:, 16:] = down[2] = 0.0
    up[8:] = 0.0
    return module_of(down, up)


def zero() -> LoRAModule:
    return module_of(np.zeros((4, 40)), dense().up)


def planned(module: LoRAModule, packing: str, *, zeros: bool = True, tokens: int | None = None) -> Plan:
    loaded = get_manager().load_packing(packing)
    if loaded.modulus_use is ModulusUse.MASKED:
        params = CKKSParams(ring_degree=1024, data_bits=(46, 44), special_bits=(20,), scale_bits=32)
    else:
        params = CKKSParams(ring_degree=1024, data_bits=(60, 40, 40), special_bits=(60,), scale_bits=40)
    return compile_plan(
        module.shape, loaded, params=params, module=module if zeros else None, tokens=tokens, private_weights=False
    )


def run(plan: Plan, module: LoRAModule, x: Vector) -> tuple[Vector, OperationCounts]:
    """Δ on the numpy backend, and what was executed."""
    ledger = Ledger()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InsecureParametersWarning)
        client, server = open_sessions(
            get_manager().load_backend("numpy"), plan.params, plan.rotation_steps, ledger=ledger, insecure=True
        )
    owner = module if plan.packing.client_finishes else None
    constants = encode_constants(plan, module, server.encoder)
    result = run_module(plan, constants, client, server, x, client_module=owner)
    return result.delta, result.executed


class TestEndToEnd:
    @pytest.mark.parametrize("packing", ONE_ROUND)
    def test_a_sparse_module_gives_its_delta_for_no_more(self, packing: str) -> None:
        module = sparse()
        plan, full = (planned(module, packing, zeros=zeros, tokens=100) for zeros in (True, False))
        x = np.random.default_rng(8).normal(size=(5, 40))
        reference = module.reference_delta(x)
        np.testing.assert_allclose(run_plain(plan, module, x[:1]), reference[:1], atol=1e-9)
        delta, executed = run(plan, module, x)
        assert precision_bits(delta, reference) > 12
        assert executed == plan.counts.times(plan.runs(5))
        for name in ("rotations", "ct_pt", "additions", "rescales", "encrypts", "decrypts"):
            assert getattr(plan.counts, name) <= getattr(full.counts, name)
        assert set(plan.constant_specs) <= set(full.constant_specs)

    def test_inputs_that_meet_zeros_only_are_not_sent_and_results_that_are_zero_do_not_come(self) -> None:
        """cpmm has a ciphertext a feature: of 40 features 16 count, and of 24 results 8."""
        plan = planned(sparse(), "cpmm")
        assert plan.program.input_positions == tuple(range(16))
        assert [output is None for output in plan.program.outputs] == [False] * 8 + [True] * 16
        assert (plan.counts.encrypts, plan.counts.decrypts) == (16, 8)
        assert plan.counts.ct_pt == 16 * 3 + 3 * 8
        assert len(plan.pack(np.ones((1, 40)))) == 16

    def test_blocks_that_are_zero_are_not_sent(self) -> None:
        rng = np.random.default_rng(9)
        down = rng.normal(size=(2, 1200))
        down[:, 512:1024] = 0.0
        module = module_of(down, np.pad(rng.normal(size=(512, 2)), ((0, 88), (0, 0))))
        plan = planned(module, "rank_bsgs")
        assert plan.program.input_positions == (0, 2)
        assert [output is None for output in plan.program.outputs] == [False, True]
        x = rng.normal(size=(1, 1200))
        assert precision_bits(run(plan, module, x)[0], module.reference_delta(x)) > 12

    @pytest.mark.parametrize("packing", online_packings())
    def test_a_module_that_is_zero_takes_no_operation_at_all(self, packing: str) -> None:
        module = zero()
        plan = planned(module, packing)
        assert plan.program.ops == ()
        assert set(plan.program.outputs) == {None}
        assert plan.counts == OperationCounts()
        assert (plan.rotation_steps, plan.constant_specs) == ((), {})
        delta, executed = run(plan, module, np.ones((3, 40)))
        assert (delta.shape, executed) == ((3, 24), OperationCounts())
        assert not delta.any()

    def test_a_dense_module_has_the_plan_of_its_shape(self) -> None:
        for packing in ONE_ROUND:
            assert planned(dense(), packing).digest == planned(dense(), packing, zeros=False).digest

    @pytest.mark.parametrize("packing", ONE_ROUND)
    def test_a_modules_support_is_where_its_plaintexts_are_not_zero(self, packing: str) -> None:
        module = sparse()
        plan = planned(module, packing, zeros=False)
        numbers = {op.constant for op in plan.program.ops if op.kind is OpKind.DOT_SCALARS}
        found = support_of(plan.program, plan.layout, module)
        for name, vector in plan.layout.constants(module):
            places = tuple(np.flatnonzero(vector).tolist())
            if not places or (name in numbers and len(places) < vector.size):
                assert found[name] == places
            else:
                assert name not in found
