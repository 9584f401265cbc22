"""What a packing assumes of clients is accepted by name at every door, or nothing runs on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import helora_core
from helora_core.adapter.lora import LoRAAdapter, ModuleShape
from helora_core.adapter.synthetic import synthetic_module
from helora_core.artifact.read import read_artifact
from helora_core.artifact.write import write_artifact
from helora_core.compiler.compile import compile_plan, compile_request
from helora_core.compiler.compiled import CompiledModule, Part
from helora_core.compiler.request import Constraints, PlanRequest
from helora_core.errors import LeakageRefused
from helora_core.host.manager import get_manager
from helora_core.planning.compiling import candidates, compile_plans
from helora_core.privacy.leakage import Assumption, Leakage, LeakageClass
from helora_core.privacy.policy import qualifies, require_accepted
from tests.registered import ACCEPTED, packings_ahead

SHAPE = ModuleShape.parse("40:24:4")
Refused = Callable[..., Any]

AHEAD = packings_ahead()


def test_the_packings_that_rest_on_one_are_those_that_run_ahead() -> None:
    loaded = {name: get_manager().load_packing(name).leakage.assumes for name in get_manager().packings()}
    assert {name for name, assumes in loaded.items() if assumes} == set(AHEAD)


@pytest.mark.parametrize("assumption", Assumption)
def test_each_is_explained_and_has_a_name_for_the_command_line(assumption: Assumption, refused: Refused) -> None:
    leakage = Leakage(key_holder=LeakageClass.NOTHING, needs_sanitize=False, explanation="Δ.", assumes=(assumption,))
    option = f"--assume {assumption.option}"
    with refused(LeakageRefused, assumption.explanation, "Packing p", hint=option):
        require_accepted("p", leakage, ())
    require_accepted("p", leakage, [assumption])
    assert (qualifies(leakage, ()), qualifies(leakage, {assumption})) == (False, True)
    assert assumption.explanation.endswith(".")


@pytest.mark.parametrize("private", [True, False])
@pytest.mark.parametrize("packing", AHEAD)
class TestDoors:
    """Each refuses without it, whether or not weights are private, and takes it with it."""

    def test_one_plan(self, packing: str, private: bool, refused: Refused) -> None:
        strategy = get_manager().load_packing(packing)
        with refused(LeakageRefused, "forged key", hint="--assume honest-keys"):
            compile_plan(SHAPE, strategy, private_weights=private)
        assert compile_plan(SHAPE, strategy, private_weights=private, assume=list(ACCEPTED)).correlation is not None

    def test_a_request(self, packing: str, private: bool, refused: Refused) -> None:
        for asked in ((), (1, 64)):
            request = PlanRequest(shape=SHAPE, packing=packing, tokens=asked, backend="numpy")
            request = request.within(private_weights=private)
            with refused(LeakageRefused, "forged key"):
                compile_plans(request)
        with refused(LeakageRefused, "forged key"):
            compile_request(request, get_manager().load_packing(packing))

    def test_an_adapter(self, packing: str, private: bool, refused: Refused) -> None:
        adapter = LoRAAdapter({"m": synthetic_module(SHAPE, seed=1, name="m")}, ())
        with refused(LeakageRefused, "forged key"):
            helora_core.compile(
                adapter, packing=packing, backend="numpy", constraints=Constraints(private_weights=private)
            )

    def test_an_artifact(self, packing: str, private: bool, refused: Refused, tmp_path: Path) -> None:
        module = synthetic_module(SHAPE, seed=1, name="m")
        plan = compile_plan(SHAPE, get_manager().load_packing(packing), module=module, assume=ACCEPTED)
        write_artifact(tmp_path / "a", [CompiledModule(module, (Part(name="m", d_out=24),), plan)])
        load = get_manager().load_packing
        with refused(LeakageRefused, "forged key"):
            read_artifact(tmp_path / "a", load, private_weights=private)
        (stored,) = read_artifact(tmp_path / "a", load, private_weights=private, assume=ACCEPTED).modules
        assert stored.plan.to_dict() == plan.with_exponent(stored.exponent).to_dict() | {"exponent": None}
        with refused(LeakageRefused, "2^-99 is asked for"):
            read_artifact(tmp_path / "a", load, sanitize_bits=99, assume=ACCEPTED)


def test_auto_leaves_them_out_and_says_why() -> None:
    constraints = Constraints(target_bits=8)
    ranked = candidates(PlanRequest(shape=SHAPE, tokens=(1,), backend="numpy", constraints=constraints))
    assert ranked[0].refusal is None
    refusals = {each.packing: each.refusal for each in ranked if each.packing in AHEAD}
    assert set(refusals) == set(AHEAD)
    for refusal in refusals.values():
        assert refusal is not None
        assert "forged key" in refusal.message
    (plan,) = compile_plans(PlanRequest(shape=SHAPE, tokens=(1,), backend="numpy", constraints=constraints))
    assert plan.correlation is None


def test_constraints_take_any_collection_and_can_be_cached() -> None:
    listed = Constraints(assume=[Assumption.HONEST_KEYS])  # type: ignore[arg-type]
    assert listed == Constraints(assume=frozenset(Assumption))
    assert hash(listed) == hash(Constraints(assume=frozenset(Assumption)))
