"""A module with plans for several numbers of tokens: one key pair, one session, and the plan that the tokens take."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import helora_core as helora
from helora_core.adapter.lora import LoRAAdapter, ModuleShape
from helora_core.adapter.synthetic import synthetic_activations, synthetic_module
from helora_core.backend import envelope
from helora_core.backend.envelope import PayloadKind
from helora_core.compiler.sizes import one_key_bytes
from helora_core.errors import InvalidInput
from helora_core.parties.client import Client
from helora_core.parties.compiled_lora import CompiledLoRA
from helora_core.parties.messages import Upload, decode, encode
from helora_core.parties.offer import read_offer
from helora_core.parties.server import Server

SHAPE = ModuleShape.parse("128:64:4")
NAMES = ("layers.0.self_attn.q_proj", "layers.0.self_attn.v_proj", "layers.0.self_attn.o_proj")
COUNTS = (4, 128)


def adapter(*names: str, seed: int = 1, shape: ModuleShape = SHAPE) -> LoRAAdapter:
    modules = [synthetic_module(shape, seed=seed + i, name=name) for i, name in enumerate(names or NAMES)]
    return LoRAAdapter.from_modules(modules, source="test")


(O_PROJ,) = adapter().select("o_proj")


@pytest.fixture(scope="module")
def lora() -> CompiledLoRA:
    return helora.compile(adapter(), tokens=COUNTS, backend="numpy")


def plan_named(message: bytes) -> tuple[str, ...]:
    return decode(envelope.opened(PayloadKind.UPLOAD, None, message).payload, Upload).plans


def test_each_module_has_a_plan_for_each_number_and_all_have_one_key_set(lora: CompiledLoRA) -> None:
    assert len(lora.by_name) == 2  # q and v run as one
    for versions in lora.by_name.values():
        assert [each.plan.tokens for each in versions] == list(COUNTS)
        (params,) = {each.plan.params for each in versions}
        steps = {step for each in versions for step in each.plan.rotation_steps}
        (keys,) = [each for each in lora.key_sets if each.params == params]
        assert steps <= set(keys.rotation_steps)
    assert {step for each in lora.modules for step in each.plan.rotation_steps} == {
        step for keys in lora.key_sets for step in keys.rotation_steps
    }


def test_one_session_answers_every_number_of_tokens_by_its_plan(lora: CompiledLoRA) -> None:
    client, session = lora.open()
    few, many = client.plans_of("o_proj")
    for tokens, expected in ((1, few), (4, few), (128, many)):
        x = synthetic_activations(SHAPE, tokens, seed=tokens)
        request = client.begin("o_proj", x)
        assert plan_named(request.message()) == (expected.digest,)
        while not request.done:
            request.receive(session.answer(request.message()))
        error = np.max(np.abs(request.delta - O_PROJ.reference_delta(x)), axis=1)
        assert (error <= request.error_bounds["layers.0.self_attn.o_proj"]).all()


def test_what_is_run_by_another_plan_costs_more(lora: CompiledLoRA) -> None:
    few, many = (each.plan for each in lora.by_name["layers.0.self_attn.o_proj"])
    assert few.runs(4) * few.run_cost < many.runs(4) * many.run_cost
    assert many.runs(128) * many.run_cost < few.runs(128) * few.run_cost


def test_the_keys_are_no_more_than_those_of_each_plan_alone(lora: CompiledLoRA) -> None:
    def key_bytes(compiled: CompiledLoRA) -> int:
        return sum(len(each.rotation_steps) * one_key_bytes(each.params) for each in compiled.key_sets)

    alone = [
        replace(lora, modules=tuple(each for each in lora.modules if each.plan.tokens == count)) for count in COUNTS
    ]
    assert 0 < key_bytes(lora) <= sum(map(key_bytes, alone))


def test_a_plan_that_a_module_does_not_have_is_refused(lora: CompiledLoRA, refused: Any) -> None:
    offer = read_offer(lora.server().offer())
    assert len(offer.modules) == len(lora.modules)
    client, session = lora.open()
    other = client.plans_of("q_proj")[0].digest
    request = client.begin("o_proj", synthetic_activations(SHAPE, 1, seed=1))
    with refused(InvalidInput, "not served by the plan", hint="one of its plans"):
        session.answer(_altered(request.message(), other))


def _altered(message: bytes, plan: str) -> bytes:
    found = envelope.opened(PayloadKind.UPLOAD, None, message)
    upload = msgspec.structs.replace(decode(found.payload, Upload), plans=(plan,))
    return envelope.wrap(PayloadKind.UPLOAD, found.key_id, encode(upload), found.origin)


def test_an_artifact_holds_all_plans(lora: CompiledLoRA, tmp_path: Path) -> None:
    lora.save(tmp_path / "served")
    server = Server.load(tmp_path / "served", backend="numpy")
    offers = [read_offer(each.offer()) for each in (server, lora.server())]
    assert offers[0].modules == offers[1].modules
    client = Client(server.offer())
    session = server.open(client.evaluation_keys())
    for tokens in COUNTS:
        x = synthetic_activations(SHAPE, tokens, seed=tokens)
        delta = client.delta("o_proj", x, session)
        expected = O_PROJ.reference_delta(x)
        np.testing.assert_allclose(delta, expected, atol=2e-2)
