"""A plan says what a module costs, needs and reveals, the same in every process."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import helora_core
from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.ir import ConstantSpec, Op, OpKind, Program
from helora_core.compiler.plan import Plan
from helora_core.compiler.request import BackendTraits
from helora_core.errors import InvalidInput, LeakageRefused
from helora_core.packing.protocol import ScaleRole
from helora_core.packing.rank_bsgs import RankBSGS
from helora_core.packing.zero_moai import ZeroMOAI
from helora_core.params.ckks import CKKSParams
from helora_core.params.noise import NoiseModel

Refused = Callable[..., AbstractContextManager[None]]

REPOSITORY = Path(helora_core.__file__).parents[1]
SHAPE = ModuleShape(d_in=1536, d_out=1536, rank=16)
GOLDEN_DIGEST = "a1c94a3016181ce02d027cfb4deb115d472c1a39e008ea49336885f6173be12a"

"""What ``helora plan --json`` gives: scripts match on these, so a change is one of the interface."""


@pytest.fixture(scope="module")
def plan() -> Plan:
    """rank_bsgs, 1536:1536:16, in ring 8192."""
    return compile_plan(SHAPE, RankBSGS(), private_weights=False)


class TestToDict:
    def test_the_values_are_those_of_the_plan(self, plan: Plan) -> None:
        assert plan.to_dict() == {
            "packing": "rank_bsgs",
            "d_in": 1536,
            "d_out": 1536,
            "rank": 16,
            "tokens": 2,
            "tokens_per_run": 2,
            "runs": 1,
            "rotations": 19,
            "keyswitches": 19,
            "ct_pt": 32,
            "additions": 37,
            "rescales": 2,
            "sanitizes": 0,
            "encrypts": 1,
            "decrypts": 1,
            "rotations_per_token": 9.5,
            "keyswitches_per_token": 9.5,
            "rescales_per_token": 1.0,
            "round_trips": 1,
            "depth": 2,
            "rotation_steps": [2, 4, 6, 8, 16, 24, 32, 64, 128, 256, 512, 1024, 2048],
            "constants": 32,
            "layout": {
                "period": 2048,
                "padded_rank": 16,
                "blocks_in": 1,
                "blocks_out": 1,
                "baby_steps_down": 4,
                "baby_steps_up": 4,
            },
            "ring_degree": 8192,
            "data_bits": list(plan.params.data_bits),
            "special_bits": list(plan.params.special_bits),
            "scales": {
                "input_bits": plan.params.scale_bits,
                **dict.fromkeys(("down_bits", "up_bits"), plan.params.scale_bits),
            },
            "modulus_bits": plan.params.modulus_bits,
            "security_bits": 128,
            "security_table": "guidelines-2024",
            "security_limit_bits": 214,
            "leakage": "nothing",
            "leakage_label": "nothing*",
            "needs_sanitize": True,
            "sanitize_bits": None,
            "assumes": [],
            "leakage_note": "The key holder decrypts Δ alone.",
            "bytes_up_estimate": 8 * 8192 * 3,
            "bytes_down_estimate": 2 * 8 * 8192,
            "key_bytes_estimate": plan.key_bytes,
            "exponent": None,
            "is_zero": False,
            "expected_bits": plan.precision().bits,
            "normalized_error_bound": plan.precision().error_bound,
            "flood_bits": [],
            "over_budget": None,
            "digest": plan.digest,
        }

    def test_a_run_that_is_partly_padding_costs_as_much_as_a_full_one(self, plan: Plan) -> None:
        """Five tokens, two to a run: three runs of 19 rotations."""
        figures = plan.to_dict(tokens=5)
        assert (figures["tokens"], figures["runs"], figures["rotations"]) == (5, 3, 19)
        assert figures["rotations_per_token"] == figures["keyswitches_per_token"] == 57 / 5
        assert figures["rescales_per_token"] == 6 / 5

    def test_over_budget_is_judged_for_the_tokens_asked_about(self, plan: Plan) -> None:
        assert plan.to_dict(tokens=1)["over_budget"] == (
            "Budget: "
            "19 rotations per token (budget 16; for one token %34 = rotate %33, steps=8 is the first too many); "
            "19 keyswitches per token (budget 16; for one token %34 = rotate %33, steps=8 is the first too many)."
        )
        assert plan.to_dict(tokens=3)["over_budget"] is None


class TestWhatRuns:
    def test_rotation_steps_are_ascending_distinct_and_inside_the_slots(self, plan: Plan) -> None:
        assert list(plan.rotation_steps) == sorted(set(plan.rotation_steps))
        assert 0 < plan.rotation_steps[0] <= plan.rotation_steps[-1] < plan.params.slots

    @given(tokens=st.integers(1, 10_000))
    def test_runs_are_as_few_as_hold_all_tokens(self, plan: Plan, tokens: int) -> None:
        runs = plan.runs(tokens)
        assert (runs - 1) * plan.tokens_per_run < tokens <= runs * plan.tokens_per_run

    def test_down_is_encoded_a_level_above_up_at_the_scale_of_the_prime_dropped_next(self) -> None:
        params = CKKSParams(ring_degree=8192, data_bits=(60, 35, 45), special_bits=(60,), scale_bits=40)
        plan = compile_plan(SHAPE, RankBSGS(), params=params, private_weights=False)
        assert plan.constant_specs == {
            **{f"down.0.{i}": ConstantSpec(level=2, scale_bits=45) for i in range(16)},
            **{f"up.0.{i}": ConstantSpec(level=1, scale_bits=35, role=ScaleRole.UP) for i in range(16)},
        }
        assert {(info.level, info.scale_bits) for info in plan.values} == {(2, 40), (2, 85), (1, 40), (1, 75), (0, 40)}

    def test_a_sanitised_plan_needs_a_public_key_and_reveals_what_it_says(self) -> None:
        bare, sanitised = (
            compile_plan(SHAPE, RankBSGS(), sanitize_bits=bits, private_weights=False) for bits in (None, 40)
        )
        assert (bare.needs_public_key, sanitised.needs_public_key) == (False, True)
        assert (bare.leakage_label, sanitised.leakage_label) == ("nothing*", "nothing")
        assert (bare.counts.sanitizes, sanitised.counts.sanitizes) == (0, 1)


class TestPacking:
    @pytest.mark.parametrize("shape", [(3, 1536), (0, 1536), (1, 1535), (1536,), (1, 1, 1536)])
    def test_activations_that_are_not_one_run_are_refused(self, refused: Refused, plan: Plan, shape: Any) -> None:
        with refused(InvalidInput, "rank_bsgs 1536:1536:16", "1 to 2 tokens", f"{shape}", hint="batches"):
            plan.pack(np.zeros(shape))

    def test_a_run_that_is_not_full_is_taken(self, plan: Plan) -> None:
        assert [len(plan.pack(np.ones((tokens, 1536)))) for tokens in (1, 2)] == [1, 1]

    def test_a_client_that_must_finish_needs_the_adapter(self, refused: Refused) -> None:
        shape = ModuleShape(d_in=3, d_out=2, rank=1)
        plan = compile_plan(shape, ZeroMOAI(), private_weights=False)
        outputs = [np.ones(plan.params.slots)]
        with refused(LeakageRefused, "zero_moai", hint="rank_bsgs"):
            plan.unpack(outputs, 1)
        owner = LoRAModule("m", np.ones((1, 3)), np.ones((2, 1)), 2.0)
        assert plan.unpack(outputs, 1, owner).tolist() == [[6.0, 6.0]]


class TestZeros:
    """Results that are known to be zero do not come, and inputs that meet zeros only are not sent."""

    def test_they_are_filled_in_where_they_stand(self, plan: Plan) -> None:
        """A block of Δ that never comes back is zero, the others stay in their places."""
        wide = compile_plan(
            ModuleShape(d_in=8, d_out=12000, rank=1), RankBSGS(), ring_degree=8192, private_weights=False
        )
        first, second, third = wide.program.outputs
        without = replace(wide, program=msgspec.structs.replace(wide.program, outputs=(first, None, third)))
        ones = np.ones(wide.params.slots)
        delta = without.unpack([ones, 2 * ones], 1)
        assert second is not None
        assert delta[0].tolist() == [1.0] * 4096 + [0.0] * 4096 + [2.0] * (12000 - 8192)

    def test_all_of_them(self, plan: Plan) -> None:
        silent = replace(plan, program=Program(slots=plan.params.slots, ops=(), outputs=(None,)))
        assert silent.pack(np.ones((2, 1536))) == []
        assert silent.unpack([], 2).tolist() == np.zeros((2, 1536)).tolist()

    def test_only_the_inputs_of_the_program_are_packed(self) -> None:
        wide = compile_plan(ModuleShape(d_in=9000, d_out=64, rank=8), RankBSGS(), private_weights=False)
        kept = Op(kind=OpKind.INPUT, positions=(2,))
        third = replace(wide, program=Program(slots=4096, ops=(kept,), outputs=(0,)))
        x = np.arange(9000.0)[np.newaxis]
        (vector,) = third.pack(x)
        assert np.array_equal(vector, wide.pack(x)[2])


class TestDigest:
    def test_it_is_the_golden_one(self, plan: Plan) -> None:
        """Layout, program, scales and parameters of this plan are pinned.

        If this fails, the server would run something else than before. Was that meant? Then raise the packing's
        ``version`` (or the plan's ``SCHEMA``) and commit the new digest; if not, the change broke it by accident.
        """
        assert plan.digest == GOLDEN_DIGEST

    def test_plans_that_differ_in_anything_that_runs_have_different_ones(self, plan: Plan) -> None:
        class Raised(RankBSGS):
            version = RankBSGS.version + 1

        class Renamed(RankBSGS):
            name = "rank_bsgs_too"

        others = [
            compile_plan(ModuleShape(d_in=1535, d_out=1536, rank=16), RankBSGS(), private_weights=False),
            compile_plan(ModuleShape(d_in=1536, d_out=1535, rank=16), RankBSGS(), private_weights=False),
            compile_plan(ModuleShape(d_in=1536, d_out=1536, rank=15), RankBSGS(), private_weights=False),
            compile_plan(SHAPE, RankBSGS(), ring_degree=16384, private_weights=False),
            compile_plan(SHAPE, RankBSGS(), tokens=256, private_weights=False),
            compile_plan(SHAPE, RankBSGS(), sanitize_bits=40, private_weights=False),
            compile_plan(SHAPE, ZeroMOAI(), private_weights=False),
            compile_plan(SHAPE, Raised(), private_weights=False),
            compile_plan(SHAPE, Renamed(), private_weights=False),
            *(
                compile_plan(
                    SHAPE,
                    RankBSGS(),
                    params=CKKSParams(ring_degree=8192, data_bits=d, special_bits=s, scale_bits=c),
                    private_weights=False,
                )
                for d, s, c in (((60, 40, 39), (60,), 40), ((60, 40, 40), (59,), 40), ((60, 40, 40), (60,), 39))
            ),
        ]
        assert len({plan.digest, *(other.digest for other in others)}) == 1 + len(others)

    def test_what_was_asked_of_the_parameters_is_no_part_of_it(self, plan: Plan) -> None:
        assert compile_plan(SHAPE, RankBSGS(), params=plan.params, private_weights=False).digest == plan.digest
        assert (
            compile_plan(SHAPE, RankBSGS(), params=plan.params, security_bits=256, private_weights=False).digest
            == plan.digest
        )
        assert compile_plan(SHAPE, RankBSGS(), table="he-standard-2018", private_weights=False).digest == plan.digest
        assert compile_plan(SHAPE, RankBSGS(), tokens=2, private_weights=False).digest == plan.digest
        noisy = BackendTraits(noise_model=NoiseModel(public_encryption=True, keyswitch_floors=True))
        assert compile_plan(SHAPE, RankBSGS(), traits=noisy, private_weights=False).digest == plan.digest
