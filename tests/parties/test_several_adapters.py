"""Several adapters at one server: their names tell them apart, and equal inputs are encrypted once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import helora_core as helora
from helora_core.adapter.lora import LoRAAdapter, LoRAModule, ModuleShape
from helora_core.adapter.synthetic import synthetic_activations, synthetic_module
from helora_core.errors import InvalidInput
from helora_core.host.manager import get_manager
from helora_core.parties.compiled_lora import CompiledLoRA

SHAPE = ModuleShape.parse("64:48:4")
Q, O = "layers.0.self_attn.q_proj", "layers.0.self_attn.o_proj"  # noqa: E741 - as layers call them


def adapter(seed: int, shape: ModuleShape = SHAPE) -> LoRAAdapter:
    modules = [synthetic_module(shape, seed=seed + i, name=name) for i, name in enumerate((Q, O))]
    return LoRAAdapter.from_modules(modules, source="test")


def module(seed: int, name: str) -> LoRAModule:
    (found,) = adapter(seed).select(name)
    return found


def compiled(seed: int, shape: ModuleShape = SHAPE, **options: Any) -> CompiledLoRA:
    return helora.compile(adapter(seed, shape), backend="numpy", packing="rank_bsgs", **options)


@pytest.fixture(scope="module")
def both() -> dict[str, CompiledLoRA]:
    return {"legal": compiled(1), "medical": compiled(11)}


def test_modules_of_two_adapters_are_answered_from_one_encrypted_input(both: dict[str, CompiledLoRA]) -> None:
    server = helora.Server(both)
    client = helora.Client(server.offer())
    assert set(client.modules) == {f"legal/{Q}", f"legal/{O}", f"medical/{Q}", f"medical/{O}"}
    session = server.open(client.evaluation_keys())
    x = synthetic_activations(SHAPE, 3, seed=5)
    request = client.begin([f"legal/{Q}", f"medical/{Q}", f"medical/{O}"], x)
    while not request.done:
        request.receive(session.answer(request.message()))
    assert request.report.executed.encrypts == client.plans_of(f"legal/{Q}")[0].counts.encrypts
    for name, (seed, own) in {
        f"legal/{Q}": (1, Q),
        f"medical/{Q}": (11, Q),
        f"medical/{O}": (11, O),
    }.items():
        error = np.max(np.abs(request.deltas[name] - module(seed, own).reference_delta(x)), axis=1)
        assert (error <= request.error_bounds[name]).all()


def test_an_ending_that_both_have_is_ambiguous(both: dict[str, CompiledLoRA], refused: Any) -> None:
    client = helora.Client(helora.Server(both).offer())
    with refused(InvalidInput, "'q_proj' means 2 modules", hint="more of the name"):
        client.begin("q_proj", synthetic_activations(SHAPE, 1, seed=1))
    assert client.begin("legal/*.q_proj", synthetic_activations(SHAPE, 1, seed=1)).wanted == (f"legal/{Q}",)


def test_one_compiled_adapter_is_served_by_its_own_names(both: dict[str, CompiledLoRA]) -> None:
    lora = both["legal"]
    assert helora.Server(lora).offer() == lora.server().offer()


def test_inputs_that_differ_are_refused(refused: Any, both: dict[str, CompiledLoRA]) -> None:
    wide = compiled(1, ModuleShape.parse("96:48:4"))
    client = helora.Client(helora.Server({**both, "wide": wide}).offer())
    with refused(InvalidInput, "do not take the same ciphertexts", hint="one by one"):
        client.begin([f"legal/{Q}", f"wide/{Q}"], synthetic_activations(SHAPE, 1, seed=1))


class TestRefusals:
    def test_names(self, both: dict[str, CompiledLoRA], refused: Any) -> None:
        for name in ("", "a/b", "a\n"):
            with refused(InvalidInput, "cannot name an adapter", hint="slash"):
                helora.Server({name: both["legal"]})

    def test_adapters_for_different_backends(self, both: dict[str, CompiledLoRA], refused: Any) -> None:
        other = replace(both["medical"], backend=get_manager().load_backend("tenseal"))
        with refused(InvalidInput, "different backends: numpy, tenseal", hint="one backend"):
            helora.Server({"legal": both["legal"], "medical": other})

    def test_adapters_whose_promises_differ(self, both: dict[str, CompiledLoRA], refused: Any) -> None:
        shown = replace(both["medical"], private_weights=False)
        with refused(InvalidInput, "and others do not", hint="its own server"):
            helora.Server({"legal": both["legal"], "medical": shown})

    def test_adapters_and_modules_together(self, both: dict[str, CompiledLoRA], refused: Any) -> None:
        mixed: Any = {"legal": both["legal"], "m": both["medical"].modules[0]}
        with refused(InvalidInput, "given together"):
            helora.Server(mixed)

    def test_modules_without_a_backend(self, both: dict[str, CompiledLoRA], refused: Any) -> None:
        with refused(InvalidInput, "without a backend", hint="Give the backend"):
            helora.Server({"m": both["legal"].modules[0]})


def test_what_a_shared_input_saves_is_said_as_data() -> None:
    names = [f"layers.0.self_attn.{each}" for each in ("q_proj", "k_proj", "v_proj")]
    modules = [synthetic_module(SHAPE, seed=i, name=name) for i, name in enumerate(names)]
    lora = helora.compile(
        LoRAAdapter.from_modules(modules, source="test"), tokens=8, backend="numpy", packing="rank_bsgs"
    )
    ((saved,),) = lora.shared_inputs().values()
    alone = helora.compile(adapter(1), tokens=8, backend="numpy", packing="rank_bsgs").modules[0].plan
    together = lora.modules[0].plan
    assert (saved.modules, saved.tokens) == (3, 8)
    assert saved.together.encrypts == together.counts.encrypts * together.runs(8) / 8
    assert saved.separately.encrypts == 3 * alone.counts.encrypts * alone.runs(8) / 8
    assert saved.encrypts_saved == saved.separately.encrypts - saved.together.encrypts > 0
    assert saved.bytes_up_saved == 3 * alone.bytes_up * alone.runs(8) / 8 - together.bytes_up * together.runs(8) / 8
