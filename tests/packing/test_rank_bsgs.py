"""What rank_bsgs costs, and that each of the shortcuts found in the literature is wrong and caught."""

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
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.ir import OpKind
from helora_core.compiler.plan import Plan
from helora_core.packing.protocol import Packing, ProgramBuilder, ScaleRole, Value, Vector
from helora_core.packing.rank_bsgs import RankBSGS, RankBSGSLayout
from helora_core.privacy.leakage import LeakageClass
from helora_core.runtime.reference import run_plain

PlanFor = Callable[[ModuleShape, Packing], Plan]
Activations = Callable[..., Vector]

dimensions = st.integers(1, 4096)
SHAPES = st.builds(ModuleShape, d_in=dimensions, d_out=dimensions, rank=st.integers(1, 130))


def log2(power: int) -> int:
    assert power & (power - 1) == 0
    return power.bit_length() - 1


def power_of_two(number: int) -> int:
    return int(2 ** math.ceil(math.log2(number)))


class TestCounts:
    @pytest.mark.parametrize(
        ("slots", "d", "rank", "rotations", "tokens", "per_token", "ct_pt"),
        [
            (4096, 512, 8, 14, 8, 1.75, 16),
            (4096, 1024, 16, 18, 4, 4.5, 32),
            (4096, 1536, 16, 19, 2, 9.5, 32),
            (4096, 1536, 32, 26, 2, 13, 64),
            (4096, 4096, 16, 20, 1, 20, 32),
            (4096, 4096, 64, 34, 1, 34, 128),
            (8192, 4096, 16, 20, 2, 10, 32),
        ],
    )
    def test_they_are_those_published(
        self, slots: int, d: int, rank: int, rotations: int, tokens: int, per_token: float, ct_pt: int
    ) -> None:
        plan = compile_plan(ModuleShape(d_in=d, d_out=d, rank=rank), RankBSGS(), ring_degree=2 * slots)
        assert (plan.counts.rotations, plan.counts.keyswitches, plan.counts.ct_pt) == (rotations, rotations, ct_pt)
        assert (plan.counts.rescales, plan.counts.encrypts, plan.counts.decrypts) == (2, 1, 1)
        assert plan.tokens_per_run == tokens
        assert plan.to_dict()["rotations_per_token"] == per_token

    @given(SHAPES)
    def test_they_follow_the_formula(self, shape: ModuleShape) -> None:
        """2·((n₁−1) + (r₂/n₁−1)) + log₂(d₂/r₂) rotations and 2·r₂ products, with n₁ the root of r₂, rounded up."""
        plan = compile_plan(shape, RankBSGS())
        r2 = power_of_two(shape.rank)
        d2 = power_of_two(max(shape.d_in, shape.d_out, shape.rank))
        n1 = 2 ** math.ceil(log2(r2) / 2)
        assert plan.counts.rotations == 2 * ((n1 - 1) + (r2 // n1 - 1)) + log2(d2 // r2)
        assert plan.counts.keyswitches == plan.counts.rotations
        assert plan.counts.ct_pt == 2 * r2
        assert plan.counts.additions == 2 * (r2 - 1) + log2(d2 // r2)
        assert plan.tokens_per_run == plan.params.slots // d2
        assert plan.layout.figures == {"period": d2, "padded_rank": r2, "baby_steps": n1, "giant_steps": r2 // n1}

    @given(SHAPES)
    def test_no_other_number_of_baby_steps_takes_fewer_rotations(self, shape: ModuleShape) -> None:
        plan = compile_plan(shape, RankBSGS())
        r2 = plan.layout.figures["padded_rank"]
        fewest = min((n1 - 1) + (r2 // n1 - 1) for n1 in (1 << e for e in range(log2(r2) + 1)))
        figures = plan.layout.figures
        assert figures["baby_steps"] + figures["giant_steps"] - 2 == fewest

    def test_an_unbalanced_module_is_as_wide_as_its_wider_side(self) -> None:
        wide, tall = (compile_plan(ModuleShape.parse(text), RankBSGS()) for text in ("256:1536:16", "1536:256:16"))
        assert wide.counts == tall.counts == compile_plan(ModuleShape.parse("1536:1536:16"), RankBSGS()).counts


def test_the_key_holder_learns_nothing_but_the_result_once_it_is_sanitised() -> None:
    assert RankBSGS.leakage.key_holder is LeakageClass.NOTHING
    assert RankBSGS.leakage.needs_sanitize
    assert not RankBSGS.client_finishes


def test_one_ciphertext_goes_each_way() -> None:
    plan = compile_plan(ModuleShape.parse("4096:11:64"), RankBSGS())
    assert (len(plan.program.inputs), len(plan.program.outputs)) == (1, 1)


def test_feature_f_of_token_t_stands_in_slot_f_times_tokens_plus_t() -> None:
    layout = RankBSGS().layout(ModuleShape(d_in=3, d_out=1, rank=1), 16)
    (slots,) = layout.pack(np.array([[1.0, 2.0, 3.0], [10.0, 20.0, 30.0]]))
    assert slots.reshape(4, 4).tolist() == [[1, 10, 0, 0], [2, 20, 0, 0], [3, 30, 0, 0], [0, 0, 0, 0]]


class PrerotatedPlaintexts(RankBSGSLayout):
    """Rotates plaintexts in place of ciphertexts, as if rot(c)∘p were c∘rot(p) without a rotation of the result."""

    def _rotate(self, builder: ProgramBuilder, value: Value, features: int) -> Value:
        return value if features < self.baby_steps else super()._rotate(builder, value, features)

    def constants(self, module: LoRAModule) -> Iterator[tuple[str, Vector]]:
        for name, vector in super().constants(module):
            baby = int(name.partition(".")[2]) % self.baby_steps
            yield name, np.roll(vector, baby * self.tokens_per_run)


class NoFolds(RankBSGSLayout):
    """Adds nothing up inside the ciphertext, as if sums across blocks were free."""

    def emit(self, builder: ProgramBuilder) -> None:
        y = builder.rescale(self._diagonal_sum(builder, builder.input(), "down", ScaleRole.DOWN))
        builder.output(builder.rescale(self._diagonal_sum(builder, y, "up", ScaleRole.UP)))


class RotatesRight(RankBSGSLayout):
    """Takes rotations to go to the right."""

    def _rotate(self, builder: ProgramBuilder, value: Value, features: int) -> Value:
        return super()._rotate(builder, value, -features)


class SumsOverTheRankFirst(RankBSGSLayout):
    """Multiplies x by the sum of down's rows and of up's columns: (Σ down)(Σ up)∘x, in one rank."""

    def constants(self, module: LoRAModule) -> Iterator[tuple[str, Vector]]:
        down, up = np.zeros_like(module.down), np.zeros_like(module.up)
        down[0], up[:, 0] = module.down.sum(axis=0), module.up.sum(axis=1)
        return super().constants(LoRAModule(module.name, down, up, module.scaling))


class ForgetsTheScaling(RankBSGSLayout):
    """Leaves α/r out."""

    def constants(self, module: LoRAModule) -> Iterator[tuple[str, Vector]]:
        return super().constants(LoRAModule(module.name, module.down, module.up, 1.0))


class TokensOneAfterTheOther(RankBSGSLayout):
    """Packs whole tokens in blocks and rotates as if they were interleaved."""

    def pack(self, x: Vector) -> list[Vector]:
        blocks = np.zeros((self.tokens_per_run, self.period))
        blocks[: x.shape[0], : self.shape.d_in] = x
        return [blocks.ravel()]


WRONG = (
    PrerotatedPlaintexts,
    NoFolds,
    RotatesRight,
    SumsOverTheRankFirst,
    ForgetsTheScaling,
    TokensOneAfterTheOther,
)


def altered(layout_class: type[RankBSGSLayout]) -> RankBSGS:
    """The packing with a layout of another class."""

    class Altered(RankBSGS):
        def layout(self, shape: ModuleShape, slots: int) -> RankBSGSLayout:
            sound = super().layout(shape, slots)
            return layout_class(sound.shape, sound.slots, sound.period, sound.padded_rank, sound.baby_steps)

    return Altered()


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

    def test_a_sound_layout_built_the_same_way_is_exact(
        self, plan_for: PlanFor, activations: Activations, module: LoRAModule
    ) -> None:
        plan = plan_for(module.shape, altered(RankBSGSLayout))
        assert self.relative_error(plan, module, activations(module, 8)) < 1e-12

    @pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.__name__)
    def test_a_shortcut_is_not_lora(
        self, plan_for: PlanFor, activations: Activations, module: LoRAModule, wrong: type[RankBSGSLayout]
    ) -> None:
        plan = plan_for(module.shape, altered(wrong))
        assert self.relative_error(plan, module, activations(module, 8)) > 0.3

    def test_no_fold_is_what_the_name_says(self, plan_for: PlanFor, module: LoRAModule) -> None:
        right, wrong = (plan_for(module.shape, packing).counts for packing in (RankBSGS(), altered(NoFolds)))
        assert right.rotations - wrong.rotations == right.additions - wrong.additions == log2(64 // 8)

    def test_no_operation_can_be_altered_unnoticed(
        self, plan_for: PlanFor, activations: Activations, module: LoRAModule
    ) -> None:
        plan = plan_for(module.shape, RankBSGS())
        x = activations(module, 8)
        for i, op in enumerate(plan.program.ops):
            if op.kind is OpKind.ROTATE:
                other = msgspec.structs.replace(op, steps=op.steps % (plan.params.slots - 1) + 1)
            elif op.kind is OpKind.MULTIPLY_PLAIN:
                place = int(op.constant.rpartition(".")[2])
                other = msgspec.structs.replace(op, constant=f"{op.role.value}.{(place + 1) % 8}")  # type: ignore[union-attr]
            elif op.kind is OpKind.ADD:
                other = msgspec.structs.replace(op, args=(op.args[0], op.args[0]))
            else:
                continue
            ops = (*plan.program.ops[:i], other, *plan.program.ops[i + 1 :])
            wrong = replace(plan, program=msgspec.structs.replace(plan.program, ops=ops))
            assert self.relative_error(wrong, module, x) > 1e-3, f"%{i} = {op}"
