"""Each weakening of what protects weights is noticed by what is measured on results; without one, nothing is found.

Floods and masks are worked out anew under each weakening, for the same keys and weights.
"""

from __future__ import annotations

import pytest
from attackers.measures import Measured, OfSlots, OfTwoRounds
from attackers.modules import module_of
from attackers.mutants import MUTANTS, SLOTS, TWO_ROUNDS, Mutant
from attackers.service import Service, plan_of

from helora_core.backend.protocol import Backend
from helora_core.compiler.compile import compile_plan
from helora_core.privacy import policy

Battery = OfSlots | OfTwoRounds


@pytest.fixture(scope="module")
def batteries(tenseal: Backend) -> dict[str, Battery]:
    """Weights as noisy as any: every row of ``up`` has a norm of nearly one, and those of ``down`` are orthonormal."""
    made = {}
    for name, battery, packing, shape in (
        (SLOTS, OfSlots, "rank_bsgs", "32:24:4"),
        (TWO_ROUNDS, OfTwoRounds, "cheetah_two_round", "64:256:8"),
    ):
        plan = plan_of(packing, shape)
        made[name] = battery(Service.of(tenseal, module_of("orthogonal", plan.shape), plan))
    return made


def found(measured: list[Measured]) -> list[str]:
    return [str(each) for each in measured if not each.holds]


@pytest.mark.parametrize("name", [SLOTS, TWO_ROUNDS])
def test_nothing_is_found_where_nothing_is_weakened(batteries: dict[str, Battery], name: str) -> None:
    measured = batteries[name].measure(batteries[name].usual.planned_anew())
    print(*measured, sep="\n")
    assert found(measured) == []


@pytest.mark.parametrize(
    ("mutant", "name"),
    [(mutant, name) for mutant in MUTANTS for name in mutant.seen_in],
    ids=lambda each: each.what if isinstance(each, Mutant) else each,
)
def test_a_weakening_is_found(batteries: dict[str, Battery], mutant: Mutant, name: str) -> None:
    battery = batteries[name]
    battery.prepare()
    with mutant.weakened():
        measured = battery.measure(battery.usual.planned_anew())
    print(*found(measured), sep="\n")
    assert found(measured) != []


def test_fewer_bits_by_default_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bits that a plan promises where none are asked for."""
    plan = plan_of("rank_bsgs", "32:24:4")
    assert compile_plan(plan.shape, plan.packing).sanitize_bits == 40
    monkeypatch.setattr(policy, "DEFAULT_SANITIZE_BITS", 20)
    weakened = compile_plan(plan.shape, plan.packing)
    assert weakened.precision().flood_bits != plan.precision().flood_bits
