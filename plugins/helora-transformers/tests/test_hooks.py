"""Hooks fail closed: no token is sampled from a pass in which some Δ is missing, late, or another tensor's."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import helora_core as helora
from helora_core.errors import LimitExceeded
from helora_transformers import attach
from helora_transformers.errors import DeltaMissing, ModelUnsupported
from helora_transformers.tiny import adapted, base_model, prompt


class Failing:
    """A host whose sessions refuse from some message on."""

    def __init__(self, server: helora.Server, answers: int) -> None:
        self._server, self.left = server, answers

    def offer(self) -> bytes:
        return self._server.offer()

    def open(self, evaluation_keys: bytes) -> Failing:
        self._session = self._server.open(evaluation_keys)
        return self

    def answer(self, message: bytes) -> bytes:
        if not self.left:
            raise LimitExceeded("Session: enough.", hint="Come back tomorrow.")
        self.left -= 1
        return self._session.answer(message)


@pytest.fixture
def server(tmp_path: Path) -> helora.Server:
    adapted("llama", tmp_path, targets=["q_proj", "v_proj"])
    return helora.Server(helora.compile(tmp_path, backend="rns", packing="rank_bsgs"))


def test_a_refusal_in_mid_sentence_ends_the_generation_and_every_later_one(server: helora.Server) -> None:
    model, inputs = base_model(), prompt(4)
    host = Failing(server, answers=5)  # two a pass
    with attach(model, host):
        for _ in range(2):
            with pytest.raises(LimitExceeded, match="enough"):
                model.generate(**inputs, max_new_tokens=8, do_sample=False)
        host.left = 100
        assert model.generate(**inputs, max_new_tokens=2, do_sample=False).shape == (1, 6)


def test_a_module_without_its_delta_ends_the_pass(server: helora.Server) -> None:
    """Whoever replaces a module, clears its hooks, or skips a layer hears of it."""
    for breaking in (
        lambda model: model.model.layers[1].self_attn.v_proj._forward_hooks.clear(),
        lambda model: setattr(model.model.layers[0].self_attn, "q_proj", nn.Linear(32, 32)),
        lambda model: model.model.layers.pop(1),
    ):
        model = base_model()
        with attach(model, server):
            breaking(model)
            with pytest.raises(DeltaMissing, match="got no Δ"), torch.no_grad():
                model(**prompt(3), use_cache=False)


def test_a_pass_ends_as_it_began_whatever_another_thread_sets(server: helora.Server) -> None:
    model, inputs = base_model(), prompt(3)
    with attach(model, server) as private, torch.no_grad():
        hooks, expected = private._active.hooks, model(**inputs).logits
        handle = model.model.layers[0].register_forward_hook(lambda *_: setattr(hooks, "enabled", False))
        assert (model(**inputs).logits - expected).abs().max() < 1e-3
        handle.remove()
        assert (model(**inputs).logits - expected).abs().max() > 1e-3  # the base model's, from here on


def test_train_mode_is_refused_at_every_pass(server: helora.Server) -> None:
    model = base_model()
    with attach(model, server):
        model.train()
        with pytest.raises(ModelUnsupported, match="train mode"):
            model(**prompt(3))


def test_a_model_compiled_later_still_gets_its_delta(server: helora.Server, tmp_path: Path) -> None:
    model, inputs = base_model(), prompt(4)
    reference = adapted("llama", tmp_path, targets=["q_proj", "v_proj"])
    with attach(model, server), torch.no_grad():
        compiled = torch.compile(model, backend="eager")
        assert (compiled(**inputs).logits - reference(**inputs).logits).abs().max() < 1e-2


def test_delta_carries_no_gradient_and_needs_no_context(server: helora.Server) -> None:
    model, inputs = base_model(), prompt(4)
    with attach(model, server):
        loss = model(**inputs, labels=inputs["input_ids"]).loss
        loss.backward()  # of the base model; nothing fails
        with torch.inference_mode():
            model(**inputs)


def test_inputs_are_told_apart_though_their_memory_is_used_again(server: helora.Server) -> None:
    """The inner model, without the pass of the outer one, sees many tensors at one address."""
    model = base_model()
    with attach(model, server) as private, torch.no_grad():
        asked = private._active.adapter.deltas
        seen: list[Any] = []
        private._active.adapter.deltas = lambda group, x: seen.append((group, x.copy())) or asked(group, x)
        for seed in range(3):
            model.model(**prompt(2, seed=seed))
    assert len(seen) == 6
    assert len({x.tobytes() for _, x in seen}) == 6


def test_threads_share_a_model(server: helora.Server, tmp_path: Path) -> None:
    reference = adapted("llama", tmp_path, targets=["q_proj", "v_proj"])
    model, found = base_model(), {}
    prompts = {seed: prompt(3 + seed, seed=seed) for seed in range(3)}

    def generate(seed: int) -> None:
        found[seed] = model.generate(**prompts[seed], max_new_tokens=4, do_sample=False)

    with attach(model, server):
        threads = [threading.Thread(target=generate, args=(seed,)) for seed in prompts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for seed, inputs in prompts.items():
        assert torch.equal(found[seed], reference.generate(**inputs, max_new_tokens=4, do_sample=False))
