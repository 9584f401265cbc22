"""Plans for several numbers of tokens run under one key set, and are chosen together: the keys count."""

from __future__ import annotations

import functools

import pytest

from helora_core.adapter.lora import ModuleShape
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.cost import Budget
from helora_core.compiler.key_sets import key_sets
from helora_core.compiler.moved import moved
from helora_core.compiler.request import MOST_COUNTS, Constraints, PlanRequest
from helora_core.compiler.result_size import divided
from helora_core.compiler.sizes import ciphertext_bytes, one_key_bytes
from helora_core.errors import (
    BudgetExceeded,
    InvalidInput,
    InvalidParameters,
    NoCommonParameters,
)
from helora_core.host.manager import get_manager
from helora_core.packing.protocol import Packing
from helora_core.planning.joint import TOKENS_OF_A_KEY_SET, Combination, ranked_together
from helora_core.planning.planner import CalibratedBackend, choose, rank

SHAPE = ModuleShape.parse("256:128:8")
OPEN = Constraints(private_weights=False, sanitize_bits=None)


def packings(*names: str) -> list[Packing]:
    manager = get_manager()
    return [manager.load_packing(name) for name in names or manager.packings()]


def machine() -> CalibratedBackend:
    return CalibratedBackend(get_manager().load_backend("numpy"), None)


def request(*tokens: int, shape: ModuleShape = SHAPE, constraints: Constraints | None = None) -> PlanRequest:
    return PlanRequest(shape=shape, tokens=tokens, constraints=constraints or Constraints())


@functools.cache
def together(asked: PlanRequest, *names: str) -> list[Combination]:
    return ranked_together(asked, "numpy", machine(), packings(*names))


@pytest.mark.parametrize("constraints", [Constraints(), OPEN], ids=["private", "open"])
@pytest.mark.parametrize("tokens", [(1, 64), (4, 256), (1, 8, 64)], ids=str)
def test_all_plans_of_a_combination_run_under_one_key_set(tokens: tuple[int, ...], constraints: Constraints) -> None:
    found = together(request(*tokens, constraints=constraints))
    for each in found:
        assert len(each.plans) == len(tokens)
        (keys,) = key_sets(each.plans)
        assert set(keys.rotation_steps) == {step for plan in each.plans for step in plan.rotation_steps}
        assert each.key_bytes == len(keys.rotation_steps) * one_key_bytes(keys.params)
        assert each.key_bytes <= sum(plan.key_bytes for plan in each.plans)
        for plan in each.plans:
            assert plan.verdict.secure
            assert plan.precision().bits >= constraints.target_bits


def test_the_price_is_that_of_a_token_in_the_mean_with_its_share_of_the_keys() -> None:
    found = together(request(1, 64))
    assert [each.total for each in found] == sorted(each.total for each in found)
    for each in found:
        few, many = each.plans
        costs = few.runs(1) * few.run_cost, many.runs(64) * many.run_cost / 64
        assert each.cost == pytest.approx(sum(costs) / 2)
        encryptions = each.key_bytes / ciphertext_bytes(few.params, few.params.max_level)
        assert each.key_cost == pytest.approx(encryptions * few.costs.encrypt / TOKENS_OF_A_KEY_SET)


def test_a_number_that_is_named_twice_counts_twice() -> None:
    one, two = together(request(1, 64))[0], together(request(1, 64, 64))[0]
    few, many = (plan.runs(tokens) * plan.run_cost / tokens for plan, tokens in zip(two.plans, (1, 64), strict=True))
    assert two.cost == pytest.approx((few + 2 * many) / 3)
    assert two.cost < one.cost


def test_keys_make_another_choice_than_each_number_of_tokens_alone() -> None:
    asked = request(4, 256)
    alone = [choose(rank(each, {"numpy": machine()}, packings())).plan for each in asked.each_count()]
    found = together(asked)
    best, fastest = found[0], min(found, key=lambda each: each.cost)
    assert all(plan is not None for plan in alone)
    assert [plan.digest for plan in best.plans] != [plan.digest for plan in alone if plan is not None]
    # A little slower, and with so much less of keys that it pays.
    assert best.cost > fastest.cost
    assert best.key_bytes < fastest.key_bytes
    assert best.total < fastest.total


def test_one_number_of_tokens_may_run_by_the_plan_of_another() -> None:
    """A plan for many tokens also runs one, with no keys of its own."""
    best = together(request(1, 64, shape=ModuleShape.parse("64:48:4")))[0]
    assert len({plan.digest for plan in best.plans}) == 1


class TestRefusals:
    def test_numbers_of_tokens_without_common_parameters_are_named(self) -> None:
        """Sixteen tokens fill the runs of one packing, and twenty need a second one, which is over the budget; those of
        the other packing, which runs under other parameters, are the other way round.
        """
        budget = Budget(rotations=None, keyswitches=None, rescales=None, bytes=16384)
        narrow = Constraints(private_weights=False, sanitize_bits=None, budget=budget)
        with pytest.raises(NoCommonParameters) as caught:
            together(request(16, 20, constraints=narrow), "halevi_shoup_bsgs", "cheetah")
        assert "16 and 20 tokens" in caught.value.message
        assert "16 can have N=8192" in caught.value.message
        assert "20 can have N=2048" in caught.value.message
        assert "--ring" in caught.value.hint

    def test_a_number_of_tokens_that_has_no_plan_at_all_says_why(self) -> None:
        budget = Budget(rotations=1, keyswitches=None, rescales=None)
        with pytest.raises(BudgetExceeded, match="rotations per token"):
            together(request(1, 64, constraints=Constraints(budget=budget)), "rank_bsgs")

    def test_the_budget_of_key_bytes_is_that_of_all_plans_together(self) -> None:
        found = together(request(4, 256))
        least = min(each.key_bytes for each in found)
        kept = together(
            request(
                4,
                256,
                constraints=Constraints(
                    budget=Budget(rotations=None, keyswitches=None, rescales=None, key_bytes=least)
                ),
            )
        )
        assert {each.key_bytes for each in kept} == {least}

    @pytest.mark.parametrize("tokens", [(0, 1), (1, -4), tuple(range(1, MOST_COUNTS + 2))], ids=str)
    def test_numbers_that_make_no_sense_are_refused_at_the_door(self, tokens: tuple[int, ...]) -> None:
        with pytest.raises(InvalidInput, match="tokens"):
            request(*tokens)


class TestMoved:
    def test_a_program_that_never_rescales_runs_under_a_larger_modulus(self) -> None:
        small, large = (compile_plan(SHAPE, *packings("rank_bsgs"), precision_bits=bits) for bits in (8, 14))
        assert small.params.ring_degree == large.params.ring_degree
        plan = moved(small, large.params, 8)
        whole = [divided(each, 0) for each in (plan, small)]
        assert all(whole)
        assert len({each.program for each in whole if each}) == 1  # up to how results are shortened at the end
        assert (plan.params, plan.scales) == (large.params, small.scales)
        assert plan.digest != small.digest
        assert plan.precision().bits >= 8
        assert moved(small, small.params, 8) is small

    def test_a_smaller_modulus_or_another_ring_is_refused(self) -> None:
        plans = [compile_plan(SHAPE, *packings("rank_bsgs"), precision_bits=bits) for bits in (8, 14)]
        small, large = (plan for plan in plans)
        with pytest.raises(InvalidParameters, match="does not fit"):
            moved(large, small.params, 14)
        other = compile_plan(SHAPE, *packings("rank_bsgs"), ring_degree=16384)
        with pytest.raises(InvalidParameters, match="other parameters"):
            moved(small, other.params, 10)

    def test_a_program_that_rescales_stays_under_its_own_primes(self) -> None:
        bare = compile_plan(SHAPE, *packings("rank_bsgs"), private_weights=False)
        with pytest.raises(InvalidParameters, match="other parameters"):
            moved(bare, compile_plan(SHAPE, *packings("rank_bsgs")).params, 10)
