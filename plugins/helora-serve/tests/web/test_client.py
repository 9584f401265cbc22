"""The client in JavaScript against the server: Δ is the adapter's, and bytes are those of the client in Python."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from helora_core.adapter.lora import LoRAAdapter, LoRAModule
from helora_core.compiler.exponents import normalized
from helora_core.parties.compiled_lora import CompiledLoRA

Begin = Callable[..., None]

# Packing, whether weights stay private, and for how many tokens it is compiled.
PLANS = [
    ("rank_bsgs", True, 1),
    ("rank_bsgs", True, 24),
    ("cheetah", False, 1),
    ("cheetah", False, 4),
    ("cheetah_two_round", True, 1),
    ("cheetah_two_round", True, 3),
]


def _ups(lora: CompiledLoRA) -> dict[str, str]:
    """What a client gets that finishes the sum: ``up``, scaled."""
    found = {}
    for each in lora.modules:
        if each.plan.packing.client_finishes and isinstance(each.module, LoRAModule):
            scaled, _ = normalized(each.module)
            found[each.name] = base64.b64encode(np.ascontiguousarray(scaled.scaled_up).tobytes()).decode()
    return found


def _deltas(answer: dict[str, Any], tokens: int) -> dict[str, Any]:
    assert "deltas" in answer, answer
    return {name: np.frombuffer(base64.b64decode(each)).reshape(tokens, -1) for name, each in answer["deltas"].items()}


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: f"{plan[0]}-{plan[2]}")
def test_delta_is_the_adapters_and_bytes_are_pythons(
    plan: tuple[str, bool, int], adapter: LoRAAdapter, compiled: Any, partner: Any, counted: Begin
) -> None:
    lora: CompiledLoRA = compiled(*plan)
    rng = np.random.default_rng(11)
    server = lora.server()
    offer = server.offer()
    asked = [["layers.0.q_proj", "layers.0.v_proj"], ["layers.0.down_proj"], ["layers.0.o_proj"]]
    counted()
    client = lora.client(offer)
    session = server.open(client.evaluation_keys())
    own = []
    inputs = []
    for names in asked:
        for tokens in (1, plan[2] + 1):
            x = rng.standard_normal((tokens, adapter.modules[names[0]].down.shape[1])) * 10.0 ** rng.integers(-3, 4)
            x[-1] *= tokens == 1  # a token of zeros at the end of several
            inputs.append((names, x))
            counted(1000 * len(inputs))
            request, messages = client.begin(names, x), []
            while not request.done:
                messages.append(request.message())
                request.receive(session.answer(messages[-1]))
            own.append((messages, request.deltas, request.error_bounds))
    counted()
    node = partner("node_client.mjs", op="load", builds=["relaxed"], counts=True)
    made = node.ask(op="make", offer=offer, up=_ups(lora))
    assert "error" not in made, made
    assert base64.b64decode(made["keys"]) == client.evaluation_keys()
    theirs = server.open(base64.b64decode(made["keys"]))
    for k, ((names, x), (messages, deltas, bounds)) in enumerate(zip(inputs, own, strict=True)):
        answer = node.ask(op="begin", names=names, x=x.tobytes(), tokens=len(x), at=1000 * (k + 1))
        for i, message in enumerate(messages):
            sent = base64.b64decode(answer["message"])
            if i == 0:  # later ones follow other answers
                assert sent == message
            answer = node.ask(op="receive", answer=theirs.answer(sent))
        found = _deltas(answer, len(x))
        bound = max(np.max(each) for each in bounds.values())
        assert set(found) >= set(names)
        for name in names:
            module = adapter.modules[name]
            assert np.max(np.abs(found[name] - module.reference_delta(x))) <= bound
            assert np.max(np.abs(found[name] - deltas[name])) <= 2 * bound
            assert (found[name][~x.any(axis=1)] == 0).all()


def test_the_same_answer_is_read_alike(adapter: LoRAAdapter, compiled: Any, partner: Any, counted: Begin) -> None:
    lora: CompiledLoRA = compiled("rank_bsgs", True, 1)
    server = lora.server()
    counted()
    client = lora.client(server.offer())
    session = server.open(client.evaluation_keys())
    counted()
    node = partner("node_client.mjs", op="load", builds=["simd128"], counts=True)
    node.ask(op="make", offer=server.offer())
    x = np.random.default_rng(2).standard_normal((1, 64))
    counted()
    request = client.begin("q_proj", x)
    began = node.ask(op="begin", names=["layers.0.q_proj"], x=x.tobytes(), tokens=1)
    assert base64.b64decode(began["message"]) == request.message()
    answer = session.answer(request.message())
    found = _deltas(node.ask(op="receive", answer=answer), 1)
    request.receive(answer)
    for name, delta in request.deltas.items():
        assert found[name].tobytes() == np.ascontiguousarray(delta).tobytes()


def test_answers_that_are_not_ours_are_refused(compiled: Any, partner: Any) -> None:
    lora: CompiledLoRA = compiled("rank_bsgs", True, 1)
    server = lora.server()
    node = partner("node_client.mjs", op="load", builds=["scalar"])
    made = node.ask(op="make", offer=server.offer())
    session = server.open(base64.b64decode(made["keys"]))
    x = np.ones((1, 64)).tobytes()
    first = session.answer(base64.b64decode(node.ask(op="begin", names=["layers.0.q_proj"], x=x, tokens=1)["message"]))
    answer = session.answer(base64.b64decode(node.ask(op="begin", names=["layers.0.q_proj"], x=x, tokens=1)["message"]))
    assert node.ask(op="receive", answer=first)["error"] == "unexpected-message"
    for at in (0, 4, 5, 20, 60, len(answer) // 2, len(answer) - 1):
        damaged = answer[:at] + bytes([answer[at] ^ 1]) + answer[at + 1 :]
        assert node.ask(op="receive", answer=damaged)["error"] == "corrupt-payload"
    assert node.ask(op="receive", answer=answer[:-40])["error"] == "corrupt-payload"
    assert "deltas" in node.ask(op="receive", answer=answer)
    assert node.ask(op="receive", answer=answer)["error"] == "unexpected-message"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ((b'"ring_degree":8192', b'"ring_degree":4096'), "insecure-parameters"),
        ((b'"data_bits":[42', b'"data_bits":[50,50,42'), "insecure-parameters"),
        ((b'"schema":2', b'"schema":3'), "version-mismatch"),
        ((b'"backend":"rns"', b'"backend":"sea"'), "foreign-ciphertext"),
        ((b'"format":"helora', b'"format":"Helora'), "corrupt-payload"),
        ((b'"packing":"rank_bsgs"', b'"packing":"rank_bsgz"'), "packing-unavailable"),
        ((b'"period":', b'"period":1'), "corrupt-payload"),
    ],
)
def test_offers_that_contradict_themselves_or_are_insecure_are_refused(
    change: tuple[bytes, bytes], code: str, compiled: Any, partner: Any
) -> None:
    offer = compiled("rank_bsgs", True, 1).server().offer()
    assert change[0] in offer
    node = partner("node_client.mjs", op="load", builds=["scalar"])
    assert node.ask(op="make", offer=offer.replace(*change))["error"] == code
