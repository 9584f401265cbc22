"""The cost of rank_bsgs, and that each shortcut found in the literature is wrong and caught."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.backend.ledger import OperationCounts
from helora_core.compiler.builder import Builder
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.cost import count_operations
from helora_core.compiler.ir import Op, OpKind
from helora_core.compiler.plan import Plan
from helora_core.execution.reference import execute_plain, run_plain
from helora_core.packing.costs import DEFAULT_COSTS
from helora_core.packing.protocol import Packing, Vector
from helora_core.packing.rank_bsgs import RankBSGS, RankBSGSLayout

PlanFor = Callable[[ModuleShape, Packing], Plan]
Activations = Callable[..., Vector]

dimensions = st.integers(1, 20000)
WIDE_SHAPES = st.builds(ModuleShape, d_in=dimensions, d_out=dimensions, rank=st.integers(1, 130))
KEYS = ["period", "padded_rank", "blocks_in", "blocks_out", "baby_steps_down", "baby_steps_up"]


def layouts(shape: ModuleShape, slots: int, tokens: int | None = None) -> list[RankBSGSLayout]:
    return list(RankBSGS().layouts(shape, slots, tokens=tokens, costs=DEFAULT_COSTS))


def emitted(layout: RankBSGSLayout) -> OperationCounts:
    """Counts of the program as it is emitted; no pass makes it cheaper."""
    builder = Builder(layout.slots)
    layout.emit(builder)
    return count_operations(builder.program())


def log2(power: int) -> int:
    assert power & (power - 1) == 0
    return power.bit_length() - 1


def power_of_two(number: int) -> int:
    return int(2 ** math.ceil(math.log2(number)))


class TestCounts:
    @given(WIDE_SHAPES, st.sampled_from([None, 1, 2, 7, 64, 256, 5000]))
    def test_they_follow_the_formula(self, shape: ModuleShape, tokens: int | None) -> None:
        """B(n-1) + r₂/n - 1 + log2(p/r₂) + (n'-1) + B'(r₂/n'-1) rotations and (B+B')·r₂ products."""
        for layout in layouts(shape, 4096, tokens):
            figures = layout.figures
            assert list(figures) == KEYS
            p, r2, b_in, b_out, n_down, n_up = figures.values()
            counts = emitted(layout)
            babies = b_in * (n_down - 1) + (n_up - 1)
            giants = (r2 // n_down - 1) + b_out * (r2 // n_up - 1)
            assert counts.rotations == counts.keyswitches == babies + giants + log2(p // r2)
            assert counts.ct_pt == (b_in + b_out) * r2
            assert counts.additions == (b_in * r2 - 1) + log2(p // r2) + b_out * (r2 - 1)
            assert (counts.rescales, counts.encrypts, counts.decrypts) == (1 + b_out, b_in, b_out)

    @given(WIDE_SHAPES, st.sampled_from([None, 1, 2, 7, 64, 256, 5000]))
    def test_layouts_are_those_described(self, shape: ModuleShape, tokens: int | None) -> None:
        """p a power of two from the widest vector, or the slots, down to r₂ as long as tokens wait; T = slots/p."""
        slots, found = 4096, layouts(shape, 4096, tokens)
        r2 = power_of_two(shape.rank)
        longest = min(power_of_two(max(shape.d_in, shape.d_out, shape.rank)), slots)
        assert [layout.period for layout in found] == [longest >> i for i in range(len(found))]
        assert found[-1].period >= r2
        for layout in found:
            assert layout.padded_rank == r2
            assert layout.tokens_per_run == slots // layout.period
            assert (layout.blocks_in, layout.blocks_out) == (
                math.ceil(shape.d_in / layout.period),
                math.ceil(shape.d_out / layout.period),
            )
        for layout in found[:-1]:
            assert tokens is not None
            assert layout.tokens_per_run < tokens
        if tokens is None:
            assert len(found) == 1
        else:
            assert found[-1].tokens_per_run >= tokens or found[-1].period == r2

    def test_an_unbalanced_module_is_as_wide_as_its_wider_side(self) -> None:
        wide, tall = (
            compile_plan(ModuleShape.parse(text), RankBSGS(), private_weights=False)
            for text in ("256:1536:16", "1536:256:16")
        )
        assert (
            wide.counts
            == tall.counts
            == compile_plan(ModuleShape.parse("1536:1536:16"), RankBSGS(), private_weights=False).counts
        )

    def test_256_tokens_of_a_model_with_1536_features_take_at_most_30_rotations_a_run(self) -> None:
        plan = compile_plan(ModuleShape.parse("1536:1536:16"), RankBSGS(), tokens=256, private_weights=False)
        assert plan.counts.rotations <= 30
        total = plan.counts.times(plan.runs(256))
        alone = compile_plan(ModuleShape.parse("1536:1536:16"), RankBSGS(), tokens=2, private_weights=False)
        assert 4 * total.rotations / 256 < alone.counts.rotations / 2


class TestShortPeriodsAndBlocks:
    @given(data=st.data(), tokens=st.sampled_from([None, 1, 3, 20, 200]))
    def test_every_layout_is_exact_for_any_number_of_tokens(
        self, wide_modules: st.SearchStrategy[LoRAModule], data: st.DataObject, tokens: int | None
    ) -> None:
        """In 512 slots: d above the slots, periods down to r₂, runs that are not full."""
        module = data.draw(wide_modules)
        for layout in layouts(module.shape, 512, tokens):
            count = data.draw(st.integers(1, layout.tokens_per_run))
            x = np.random.default_rng(count).normal(size=(count, module.shape.d_in))
            builder = Builder(512)
            layout.emit(builder)
            packed = layout.pack(x)
            assert len(packed) == layout.blocks_in
            outputs = execute_plain(builder.program(), packed, dict(layout.constants(module)))
            delta, reference = layout.unpack(outputs, count, None), module.reference_delta(x)
            assert delta.shape == reference.shape
            assert np.abs(delta - reference).max() <= 1e-9 * np.abs(reference).max()

    def test_a_rank_above_the_dimensions_is_a_period_of_its_own(self) -> None:
        (layout,) = layouts(ModuleShape(d_in=3, d_out=2, rank=20), 4096)
        assert (layout.period, layout.padded_rank) == (32, 32)


def test_one_ciphertext_goes_each_way() -> None:
    plan = compile_plan(ModuleShape.parse("4096:11:64"), RankBSGS(), private_weights=False)
    assert (len(plan.program.inputs), len(plan.program.outputs)) == (1, 1)


def test_feature_f_of_token_t_stands_in_slot_f_times_tokens_plus_t() -> None:
    (layout,) = layouts(ModuleShape(d_in=3, d_out=1, rank=1), 16)
    (slots,) = layout.pack(np.array([[1.0, 2.0, 3.0], [10.0, 20.0, 30.0]]))
    assert slots.reshape(4, 4).tolist() == [[1, 10, 0, 0], [2, 20, 0, 0], [3, 30, 0, 0], [0, 0, 0, 0]]


def test_a_wide_vector_is_cut_into_blocks_of_a_period() -> None:
    (_, layout) = layouts(ModuleShape(d_in=6, d_out=1, rank=4), 16, tokens=4)
    first, second = layout.pack(np.array([np.arange(1.0, 7.0), np.arange(10.0, 70.0, 10.0)]))
    assert first.reshape(4, 4).tolist() == [[1, 10, 0, 0], [2, 20, 0, 0], [3, 30, 0, 0], [4, 40, 0, 0]]
    assert second.reshape(4, 4).tolist() == [[5, 50, 0, 0], [6, 60, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]


def alterations(op: Op, slots: int) -> Iterator[Op]:
    """The operation with another step, another plaintext of its kind, or an operand read twice."""
    if op.kind is OpKind.ROTATE:
        yield msgspec.structs.replace(op, steps=op.steps % (slots - 1) + 1)
    elif op.kind is OpKind.ADD:
        yield msgspec.structs.replace(op, args=(op.args[0], op.args[0]))
    elif op.kind is OpKind.DOT_PLAIN:
        for place, name in enumerate(op.constants):
            kind, _, i = name.rpartition(".")
            others = (*op.constants[:place], f"{kind}.{(int(i) + 1) % 8}", *op.constants[place + 1 :])
            yield msgspec.structs.replace(op, constants=others)
        yield msgspec.structs.replace(op, args=(op.args[0], *op.args[:-1]))


class TestTheOracleHasTeeth:
    """Published shortcuts, each written out. All of them run, none computes LoRA, and each is far off."""

    @staticmethod
    def relative_error(plan: Plan, module: LoRAModule, x: Vector) -> float:
        reference = module.reference_delta(x)
        return float(np.abs(run_plain(plan, module, x) - reference).max() / np.abs(reference).max())

    @pytest.fixture
    def module(self) -> LoRAModule:
        rng = np.random.default_rng(5)
        return LoRAModule("m", rng.normal(size=(8, 64)), rng.normal(size=(48, 8)), 2.0)

    def test_no_operation_can_be_altered_unnoticed(
        self, plan_for: PlanFor, activations: Activations, module: LoRAModule
    ) -> None:
        plan = plan_for(module.shape, RankBSGS())
        x = activations(module, 8)
        for i, op in enumerate(plan.program.ops):
            for other in alterations(op, plan.params.slots):
                ops = (*plan.program.ops[:i], other, *plan.program.ops[i + 1 :])
                wrong = replace(plan, program=msgspec.structs.replace(plan.program, ops=ops))
                assert self.relative_error(wrong, module, x) > 1e-3, f"%{i} = {op}"
