"""The cost of the merged matrix's diagonals, with and without baby steps, and that both are exact."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.adapter.synthetic import synthetic_activations, synthetic_module
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.ir import OpKind
from helora_core.compiler.plan import Plan
from helora_core.execution.reference import precision_bits
from helora_core.packing.costs import DEFAULT_COSTS
from helora_core.packing.halevi_shoup import HaleviShoup
from helora_core.packing.halevi_shoup_bsgs import HaleviShoupBSGS
from helora_core.packing.interleaved import MOST_PLAINTEXTS
from helora_core.packing.protocol import Vector
from helora_core.params.presets import FAST
from helora_core.parties.module_run import ModuleRun

Modules = st.SearchStrategy[LoRAModule]
SmallPlan = Callable[..., Plan]
RunOn = Callable[[str, Plan, LoRAModule, Vector], ModuleRun]

BOTH = pytest.mark.parametrize("packing", [HaleviShoup(), HaleviShoupBSGS()], ids=lambda packing: packing.name)
dimensions = st.integers(1, 1500)
SHAPES = st.builds(ModuleShape, d_in=dimensions, d_out=dimensions, rank=st.integers(1, 130))
TOKENS = st.sampled_from([None, 1, 3, 8, 600])


def plan_for(packing: HaleviShoup | HaleviShoupBSGS, shape: str, tokens: int | None = None) -> Plan:
    return compile_plan(ModuleShape.parse(shape), packing, tokens=tokens, private_weights=False)


def figures(plan: Plan) -> tuple[int, int, int, int]:
    period, blocks_in, blocks_out, baby_steps = plan.layout.figures.values()
    return period, blocks_in, blocks_out, baby_steps


class TestCounts:
    @BOTH
    @settings(max_examples=10)
    @given(shape=SHAPES, tokens=st.sampled_from([None, 4, 40]))
    def test_they_follow_the_formula(
        self, packing: HaleviShoup | HaleviShoupBSGS, shape: ModuleShape, tokens: int | None
    ) -> None:
        """B(n−1) + B'(p/n−1) rotations with n keys; B·B'·p products; B' rescales."""
        plan = compile_plan(shape, packing, tokens=tokens, params=FAST, private_weights=False)
        p, blocks_in, blocks_out, n = figures(plan)
        assert plan.counts.rotations == blocks_in * (n - 1) + blocks_out * (p // n - 1)
        assert plan.counts.keyswitches == plan.counts.rotations
        assert plan.counts.ct_pt == blocks_in * blocks_out * p == len(plan.constant_specs)
        assert plan.counts.additions == blocks_out * (blocks_in * p - 1)
        assert (plan.counts.encrypts, plan.counts.decrypts) == (blocks_in, blocks_out)
        assert plan.counts.rescales == blocks_out
        assert plan.tokens_per_run == plan.params.slots // p
        steps = {*range(1, n)} | ({n} if n < p else set())
        assert plan.rotation_steps == tuple(sorted(step * plan.tokens_per_run for step in steps))

    @pytest.mark.parametrize("exponent", [2, 4, 6, 8, 10, 12])
    def test_with_baby_steps_it_takes_twice_the_root(self, exponent: int) -> None:
        d = 2**exponent
        assert plan_for(HaleviShoupBSGS(), f"{d}:{d}:2").counts.rotations == 2 * 2 ** (exponent // 2) - 2

    def test_the_rank_does_not_matter(self) -> None:
        thin, thick = plan_for(HaleviShoup(), "100:100:1"), plan_for(HaleviShoup(), "100:100:130")
        assert thin.counts == thick.counts


class TestManyTokens:
    @BOTH
    def test_a_shorter_period_runs_more_of_them(self, packing: HaleviShoup | HaleviShoupBSGS) -> None:
        few, many = plan_for(packing, "512:512:8"), plan_for(packing, "512:512:8", 64)
        assert (few.tokens_per_run, many.tokens_per_run) == (8, 64)
        assert many.counts.rotations / 64 < few.counts.rotations / 8

    @BOTH
    @settings(max_examples=50)
    @given(shape=SHAPES, slots=st.sampled_from([512, 4096, 16384]))
    def test_a_shorter_period_never_takes_too_many_plaintexts(
        self, packing: HaleviShoup | HaleviShoupBSGS, shape: ModuleShape, slots: int
    ) -> None:
        first, *others = packing.layouts(shape, slots, tokens=10**6, costs=DEFAULT_COSTS)
        assert [layout.period for layout in others] == [first.period >> i for i in range(1, len(others) + 1)]
        assert all(layout.blocks_in * layout.blocks_out * layout.period <= MOST_PLAINTEXTS for layout in others)

    @BOTH
    def test_the_first_layout_is_that_of_fewest_tokens(self, packing: HaleviShoup | HaleviShoupBSGS) -> None:
        shape = ModuleShape.parse("300:70:3")
        (alone,) = packing.layouts(shape, 4096, tokens=None, costs=DEFAULT_COSTS)
        assert alone == next(iter(packing.layouts(shape, 4096, tokens=4096, costs=DEFAULT_COSTS)))


class TestMemory:
    @pytest.mark.parametrize("shape", ["512:512:8", "300:1200:4", "1200:300:4"])
    def test_few_ciphertexts_are_alive(self, shape: str, peak_live: Callable[[Plan], int]) -> None:
        plan = plan_for(HaleviShoup(), shape)
        _, blocks_in, blocks_out, _ = figures(plan)
        assert peak_live(plan) <= blocks_in + blocks_out + 2

    @pytest.mark.parametrize("shape", ["512:512:8", "1536:8960:32"])
    def test_no_more_than_all_baby_steps_are_alive(self, shape: str, peak_live: Callable[[Plan], int]) -> None:
        plan = plan_for(HaleviShoupBSGS(), shape)
        _, blocks_in, blocks_out, baby_steps = figures(plan)
        assert peak_live(plan) <= blocks_in * baby_steps + blocks_out + 2


class TestOneKey:
    """The plain variant rotates by one step only, whatever the passes do."""

    @pytest.mark.parametrize(("shape", "tokens"), [("512:512:8", None), ("1536:256:16", 16), ("300:600:3", 16)])
    def test_all_rotations_are_by_one_feature(self, shape: str, tokens: int | None) -> None:
        plan = plan_for(HaleviShoup(), shape, tokens)
        assert plan.rotation_steps == (plan.tokens_per_run,)

    def test_every_rotation_is_used_once_so_none_can_be_merged(self) -> None:
        program = plan_for(HaleviShoup(), "256:256:8").program
        rotated = [op.args[0] for op in program.ops if op.kind is OpKind.ROTATE]
        assert len(set(rotated)) == len(rotated)
        assert all(program.ops[value].kind is not OpKind.ROTATE for value in rotated)

    @pytest.mark.thorough
    def test_the_noise_of_a_thousand_rotations_in_a_row_is_not_seen(self, run_on: RunOn) -> None:
        """Products are rotated before the rescale, which takes their noise down."""
        module = synthetic_module(ModuleShape.parse("1024:1024:4"), seed=1)
        x = synthetic_activations(module.shape, 2, seed=2)
        reference = module.reference_delta(x)
        bits = [
            precision_bits(
                run_on("numpy", compile_plan(module.shape, packing, private_weights=False), module, x).delta, reference
            )
            for packing in (HaleviShoup(), HaleviShoupBSGS())
        ]
        assert bits[0] > bits[1] - 1
        assert bits[0] > 12
