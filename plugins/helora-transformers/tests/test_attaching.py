"""What attaching refuses, and what several adapters, pools and fallbacks do."""

from __future__ import annotations

import gc
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import helora_core as helora
from helora_core.adapter.lora import LoRAAdapter, ModuleShape
from helora_core.adapter.synthetic import synthetic_module
from helora_core.errors import HeloraError, InvalidInput, LeakageRefused, PoolEmpty
from helora_transformers import attach
from helora_transformers.bank import adapter_names
from helora_transformers.errors import ModelUnsupported
from helora_transformers.tiny import adapted, base_model, mixture, prompt

Q = "model.layers.0.self_attn.q_proj"
V = "model.layers.0.self_attn.v_proj"
ASSUMED = helora.Constraints(assume=frozenset({helora.Assumption.HONEST_KEYS}))


def adapter_of(**shapes: str) -> LoRAAdapter:
    """An adapter of modules by name; two underscores stand for a dot."""
    modules = [
        synthetic_module(ModuleShape.parse(shape), seed=i, name=name.replace("__", "."))
        for i, (name, shape) in enumerate(shapes.items())
    ]
    return LoRAAdapter.from_modules(modules, source="test")


def logits(model: Any, inputs: Any) -> Any:
    with torch.no_grad():
        return model(**inputs).logits


def hooks_of(model: Any) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


def refused(kind: type[HeloraError], model: Any, adapter: Any, message: str, **options: Any) -> None:
    before = hooks_of(model)
    with pytest.raises(kind, match=message) as caught:
        attach(model, adapter, **{"backend": "rns", "buckets": (1,), **options})
    assert caught.value.hint
    assert hooks_of(model) == before


class TestModels:
    def test_one_that_runs_no_hooks_or_runs_them_twice_is_refused(self) -> None:
        adapter = adapter_of(**{Q.replace(".", "__"): "32:32:4"})
        model = base_model()
        model.train()
        refused(ModelUnsupported, model, adapter, "train mode")
        model.eval()
        model.activation_checkpointing_enable()
        refused(ModelUnsupported, model, adapter, "checkpointing")
        model.activation_checkpointing_disable()
        refused(ModelUnsupported, torch.compile(model), adapter, "compiled")
        model.model.layers[1].compile()
        refused(ModelUnsupported, model, adapter, r"compiled \(model.layers.1\)")
        refused(InvalidInput, nn.Linear(2, 2).eval(), adapter, "has not")

    def test_one_that_has_its_adapter_already_is_refused(self, tmp_path: Path) -> None:
        refused(ModelUnsupported, adapted("llama", tmp_path), tmp_path, "PEFT")

    def test_modules_are_matched_by_name_and_size(self) -> None:
        model = base_model()
        refused(InvalidInput, model, adapter_of(model__layers__7__self_attn__q_proj="32:32:4"), "layers.7.*has not")
        refused(InvalidInput, model, adapter_of(model__layers__0__self_attn__q_proj="32:48:4"), "32 to 32 .* 32 to 48")
        refused(ModelUnsupported, model, adapter_of(model__embed_tokens="96:32:4"), "embedding")
        refused(ModelUnsupported, model, adapter_of(model__layers__0__mlp="32:32:4"), "LlamaMLP, not a linear")

    def test_experts_and_routers_of_a_mixture_are_refused_and_its_attention_is_not(self, private: Any) -> None:
        model = mixture()
        refused(ModelUnsupported, model, adapter_of(model__layers__0__mlp__gate="32:4:2"), "Router")
        block = model.model.layers[0].mlp
        block.expert = nn.Linear(32, 32)
        forward = block.forward
        block.forward = lambda hidden: forward(hidden) + block.expert(hidden.reshape(-1, 32)[:2]).sum() * 0
        refused(ModelUnsupported, model, adapter_of(model__layers__0__mlp__expert="32:32:4"), r"of shape \(2, 32\)")
        inputs = prompt(4)
        before = logits(model, inputs)
        with private(model, adapter_of(**{Q.replace(".", "__"): "32:32:4"})):
            assert not torch.equal(logits(model, inputs), before)

    def test_a_module_that_is_never_called_is_refused(self) -> None:
        model = base_model()
        model.spare = nn.Linear(32, 32)
        refused(ModelUnsupported, model, adapter_of(spare="32:32:4"), "does not call spare")


class TestAdapters:
    def test_several_are_told_apart_and_one_is_active(self, tmp_path: Path) -> None:
        folders, inputs, model = [tmp_path / "legal", tmp_path / "medical"], prompt(4), base_model()
        expected = [
            logits(adapted("llama", folder, seed=seed, targets=["q_proj"]), inputs)
            for seed, folder in enumerate(folders)
        ]
        plain = logits(model, inputs)
        server = helora.Server(
            {each.name: helora.compile(each, backend="rns", packing="rank_bsgs") for each in folders}
        )
        with pytest.raises(InvalidInput, match="legal, medical"):
            attach(model, server)
        with attach(model, server, adapter_name="legal") as private:
            assert private.adapters == adapter_names(server.offer()) == ("legal", "medical")
            assert (logits(model, inputs) - expected[0]).abs().max() < 1e-3
            private.set_adapter("medical")
            assert private.active_adapter == "medical"
            assert (logits(model, inputs) - expected[1]).abs().max() < 1e-3
            with private.disable_adapter():
                assert torch.equal(logits(model, inputs), plain)
            assert (logits(model, inputs) - expected[1]).abs().max() < 1e-3
            with pytest.raises(InvalidInput, match="no adapter music"):
                private.set_adapter("music")
        assert torch.equal(logits(model, inputs), plain)
        private.close()
        with pytest.raises(InvalidInput, match="closed"):
            private.report()

    def test_one_that_cannot_be_set_leaves_the_one_before_at_work(self, tmp_path: Path) -> None:
        inputs, model = prompt(4), base_model()
        expected = logits(adapted("llama", tmp_path / "ours", targets=["q_proj"]), inputs)
        adapted("gpt2", tmp_path / "foreign", targets=["c_attn"])
        compiled = {name: helora.compile(tmp_path / name, backend="rns", packing="rank_bsgs") for name in
                    ("ours", "foreign")}  # fmt: skip
        with attach(model, helora.Server(compiled), adapter_name="ours") as private:
            with pytest.raises(InvalidInput):
                private.set_adapter("foreign")
            assert private.active_adapter == "ours"
            assert (logits(model, inputs) - expected).abs().max() < 1e-3

    def test_a_dora_is_refused_by_name(self, tmp_path: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            adapted("llama", tmp_path, targets=["q_proj"], use_dora=True)
        with pytest.raises(HeloraError, match=r"(?i)dora"):
            attach(base_model(), tmp_path)

    def test_modules_of_one_input_are_asked_for_together(self, tmp_path: Path, private: Any) -> None:
        adapted("llama", tmp_path)
        with private(base_model()) as attached:
            names = [[name.rpartition(".")[2] for name in group] for group in attached._active.adapter.groups]
        assert names == 2 * [["q_proj", "k_proj", "v_proj"], ["o_proj"], ["gate_proj", "up_proj"], ["down_proj"]]

    def test_nothing_is_left_of_what_was_attached(self, tmp_path: Path, private: Any) -> None:
        adapted("llama", tmp_path, targets=["q_proj"])
        model = base_model()
        with private(model):
            pass
        assert hooks_of(model) == 0
        gc.collect()
        assert not [each for each in gc.get_objects() if type(each).__name__ == "ClientSession"]


class TestAhead:
    def test_it_rests_on_an_assumption_that_must_be_accepted(self, tmp_path: Path) -> None:
        adapted("llama", tmp_path, targets=["q_proj"])
        refused(LeakageRefused, base_model(), tmp_path, "public keys", ahead=10)

    def test_delta_is_right_and_an_empty_pool_ends_the_generation(self, tmp_path: Path, private: Any) -> None:
        reference, inputs, model = adapted("llama", tmp_path, targets=["q_proj", "v_proj"]), prompt(6), base_model()
        told: list[float] = []
        with private(model, ahead=10, constraints=ASSUMED, buckets=None, on_prepared=told.append) as attached:
            assert told == sorted(told)
            assert told[-1] == pytest.approx(1)
            attached._active.adapter._refill.stop()
            expected = logits(reference, inputs)
            assert (logits(model, inputs) - expected).abs().max() < 1e-2
            assert attached.report().correlations_left == 4
            with pytest.raises(PoolEmpty, match="6 correlations"):
                logits(model, inputs)
            assert attached.report().assumes == ("honest keys",)

    def test_it_falls_back_to_plans_that_run_online(self, tmp_path: Path, private: Any) -> None:
        reference, inputs, model = adapted("llama", tmp_path, targets=["q_proj"]), prompt(6), base_model()
        with private(model, ahead=8, fallback="online", constraints=ASSUMED) as attached:
            attached._active.adapter._refill.stop()
            for _ in range(2):
                assert (logits(model, inputs) - logits(reference, inputs)).abs().max() < 1e-2
            report = attached.report()
            assert report.packings[0] == "precomputed"
            assert len(report.packings) == 2
            assert report.tokens == 12

    def test_it_waits_for_the_refill(self, tmp_path: Path, private: Any) -> None:
        reference, inputs, model = adapted("llama", tmp_path, targets=["q_proj"]), prompt(6), base_model()
        with private(model, ahead=7, fallback="wait", constraints=ASSUMED, buckets=None):
            for _ in range(3):
                assert (logits(model, inputs) - logits(reference, inputs)).abs().max() < 1e-2

    def test_a_host_without_such_plans_is_refused(self, tmp_path: Path) -> None:
        adapted("llama", tmp_path, targets=["q_proj"])
        server = helora.Server(helora.compile(tmp_path, backend="rns"))
        with pytest.raises(InvalidInput, match="no plans that run ahead"):
            attach(base_model(), server, ahead=5)
        with pytest.raises(InvalidInput, match="already"):
            attach(base_model(), server, packing="rank_bsgs")
        with pytest.raises(InvalidInput, match="fallback is 'pray'"):
            attach(base_model(), server, fallback="pray")
        ahead = helora.Server(helora.compile(tmp_path, backend="rns", packing="precomputed", constraints=ASSUMED))
        with pytest.raises(InvalidInput, match="run ahead of time"):
            attach(base_model(), ahead)


def test_buckets_are_what_memory_allows(tmp_path: Path) -> None:
    from helora_transformers.buckets import DEFAULT_BUCKETS, compiled_in_buckets, weight_bytes

    adapted("llama", tmp_path, targets=["q_proj"])
    adapter = helora.load_adapter(tmp_path)
    all_of_them = compiled_in_buckets(adapter, backend="rns")
    tokens = {each.plan.tokens_per_run for each in all_of_them.modules}
    assert max(tokens) >= DEFAULT_BUCKETS[-1]
    assert len(all_of_them.key_sets) == 1
    fewer = compiled_in_buckets(adapter, backend="rns", most_bytes=weight_bytes(all_of_them) - 1)
    assert weight_bytes(fewer) < weight_bytes(all_of_them)
    assert np.unique([each.plan.params.ring_degree for each in fewer.modules]).size == 1
