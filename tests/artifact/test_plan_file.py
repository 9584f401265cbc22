"""A plan comes back as it was, by the packing that is installed; nothing that it says of itself is believed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.adapter.synthetic import synthetic_module
from helora_core.artifact.plan_file import Demands, encode_plan, restore_plan
from helora_core.artifact.read import Artifact
from helora_core.artifact.verify import Programs
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.ir import OpKind
from helora_core.compiler.plan import Plan
from helora_core.errors import (
    ArtifactInvalid,
    ArtifactUnsupported,
    InsecureParameters,
    InvalidInput,
    PackingUnavailable,
)
from helora_core.host.manager import get_manager
from helora_core.packing.costs import OperationCosts
from helora_core.packing.protocol import Interactive
from tests.registered import ACCEPTED

SHAPE = ModuleShape.parse("37:20:3")
PATH = Path("plan.json")
Read = Callable[..., Artifact]
Forge = Callable[..., None]


ANY = {"private_weights": False, "sanitize_bits": None, "assume": ACCEPTED}
"""Demands of a server whose key holder owns the adapter."""


def restored(data: bytes, **demands: Any) -> Plan:
    return restore_plan(data, PATH, get_manager().load_packing, Demands(**ANY | demands))


def storable() -> list[str]:
    """Packings whose plans run without the adapter."""
    found = []
    for name in get_manager().packings():
        packing = get_manager().load_packing(name)
        if not packing.client_finishes and not isinstance(
            compile_plan(SHAPE, packing, precision_bits=8, private_weights=False, assume=ACCEPTED).layout, Interactive
        ):
            found.append(name)
    return found


@pytest.mark.parametrize("sanitize_bits", [None, 40])
@pytest.mark.parametrize("tokens", [None, 1, 5, 100])
@pytest.mark.parametrize("packing", storable())
def test_plans_come_back(packing: str, tokens: int | None, sanitize_bits: int | None) -> None:
    strategy = get_manager().load_packing(packing)
    options = {"tokens": tokens, "sanitize_bits": sanitize_bits, "precision_bits": 8}
    plan = compile_plan(SHAPE, strategy, **options, private_weights=False, assume=ACCEPTED)
    again = restored(encode_plan(plan))
    assert again.digest == plan.digest
    assert again.to_dict() == plan.to_dict()
    assert encode_plan(again) == encode_plan(plan)


def test_plans_that_leave_out_zeros_come_back() -> None:
    dense = synthetic_module(SHAPE, seed=1)
    up = dense.up.copy()
    up[:, 1:] = 0
    module = LoRAModule("m", dense.down, up, dense.scaling)
    plan = compile_plan(SHAPE, get_manager().load_packing("halevi_shoup"), module=module, private_weights=False)
    assert restored(encode_plan(plan)).program == plan.program


@pytest.mark.parametrize("rotate", [1e-3, 1e3])
def test_layouts_chosen_by_other_costs_come_back(rotate: float) -> None:
    costs = OperationCosts(decompose=0.9 * rotate, key_product=rotate / 10)
    shape = ModuleShape.parse("300:700:16")
    plan = compile_plan(shape, get_manager().load_packing("rank_bsgs"), tokens=3, costs=costs, private_weights=False)
    assert restored(encode_plan(plan)).digest == plan.digest


def test_packings_whose_server_needs_the_adapter_are_refused(refused: Any) -> None:
    for name in set(get_manager().packings()) - set(storable()):
        plan = compile_plan(SHAPE, get_manager().load_packing(name), precision_bits=8, private_weights=False)
        with refused(InvalidInput, name, "artifact"):
            restored(encode_plan(plan))


def test_another_version_of_the_packing_is_refused(
    artifact: Path, plan_name: str, read: Read, forge: Forge, refused: Any
) -> None:
    forge(plan_name, lambda content: content.update(packing_version=1))
    with refused(ArtifactUnsupported, plan_name, "version 1", hint="Compile"):
        read(artifact)


def test_a_packing_that_is_not_installed_is_named(
    artifact: Path, plan_name: str, read: Read, forge: Forge, refused: Any
) -> None:
    forge(plan_name, lambda content: content.update(packing="nobodys"))
    with refused(PackingUnavailable, "nobodys"):
        read(artifact)


def test_insecure_parameters_are_judged_again(
    artifact: Path, plan_name: str, read: Read, forge: Forge, refused: Any
) -> None:
    forge(plan_name, lambda content: content["settings"]["params"].update(data_bits=[60, 60, 60]))
    with refused(InsecureParameters, "8192"):
        read(artifact)


def test_a_higher_level_can_be_insisted_on(plan: Plan, refused: Any) -> None:
    assert plan.verdict.asked_bits == 128
    with refused(InsecureParameters, "256"):
        restored(encode_plan(plan), security_bits=256)


def _first(content: Any, kind: OpKind) -> Any:
    return next(op for op in content["program"]["ops"] if op["kind"] == kind.value)


LIES: dict[str, Callable[[Any], object]] = {
    "an unknown field": lambda content: content.update(novelty=1),
    "no program": lambda content: content.pop("program"),
    "an unknown operation": lambda content: content["program"]["ops"][0].update(kind="decrypt"),
    "an operand to come": lambda content: content["program"]["ops"][1].update(args=[99]),
    "a rotation out of range": lambda content: _first(content, OpKind.ROTATE).update(steps=4096),
    "other slots": lambda content: content["program"].update(slots=2048),
    "a ring of no power": lambda content: content["settings"]["params"].update(ring_degree=8191),
    "a level of no table": lambda content: content.update(security_bits=130),
    "another table": lambda content: content.update(security_table="mine"),
    "an absurd shape": lambda content: content["shape"].update(d_in=1 << 40),
    "a shape of nothing": lambda content: content["shape"].update(d_in=0),
    "no tokens": lambda content: content.update(tokens=0),
    "a level too many": lambda content: content["settings"]["scales"].update(down_bits=90),
}


@pytest.mark.parametrize("lie", LIES, ids=lambda name: name.replace(" ", "-"))
def test_plans_that_cannot_be_are_refused(
    artifact: Path, plan_name: str, read: Read, forge: Forge, refused: Any, lie: str
) -> None:
    forge(plan_name, LIES[lie])
    with refused(ArtifactInvalid, plan_name):
        read(artifact)


@pytest.mark.parametrize("lie", ["not at all", "less", "more is shown"])
def test_results_are_sanitised_as_the_plan_says(refused: Any, lie: str) -> None:
    plan = compile_plan(SHAPE, get_manager().load_packing("rank_bsgs"), sanitize_bits=40, private_weights=False)
    output = plan.program.results[0]
    if lie == "not at all":
        program = msgspec.structs.replace(plan.program, outputs=plan.program.ops[output].args)
    else:
        changed = {"bits": 1} if lie == "less" else {"positions": (0,)}
        ops = list(plan.program.ops)
        ops[output] = msgspec.structs.replace(ops[output], **changed)
        program = msgspec.structs.replace(plan.program, ops=tuple(ops))
    forged = Plan(plan.packing, plan.shape, plan.layout, plan.settings, program, plan.values, plan.verdict, 40)
    with refused(ArtifactInvalid, "not the one of its layout"):
        Programs(restored(encode_plan(forged)), PATH).check({})


def test_a_plan_ahead_of_time_whose_bits_were_changed_is_refused(refused: Any) -> None:
    """A server could send less of a result than its bound on the error takes."""
    plan = compile_plan(SHAPE, get_manager().load_packing("precomputed"), precision_bits=8, assume=ACCEPTED)
    ops = tuple(msgspec.structs.replace(op, low_bits=(37, 39, 40) if op.low_bits else ()) for op in plan.program.ops)
    changed = replace(plan, program=msgspec.structs.replace(plan.program, ops=ops))
    with refused(ArtifactInvalid, "37 and 39 low bits"):
        restored(encode_plan(changed))
