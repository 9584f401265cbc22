"""Models in the shapes that people use: with Δ from the other side, they say what PEFT's model says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from helora_transformers.tiny import KINDS, adapted, base_model, prompt

TOKENS = 6


def generated(model: Any, inputs: Any, **how: Any) -> Any:
    """Greedy continuations; an adapter of random numbers makes every one a different one."""
    return model.generate(**inputs, **{"max_new_tokens": TOKENS, "do_sample": False, **how})


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_and_logits_are_those_of_peft(kind: str, tmp_path: Path, private: Any) -> None:
    reference, inputs = adapted(kind, tmp_path), prompt(7)
    model = base_model(kind)
    with torch.no_grad():
        plain, expected = model(**inputs).logits, reference(**inputs).logits
    with private(model) as attached:
        with torch.no_grad():
            logits = model(**inputs).logits
        difference = (logits - expected).abs().max()
        assert difference < 1e-2 * (expected - plain).abs().max()
        assert torch.equal(generated(model, inputs), generated(reference, inputs))
        report = attached.report()
    assert report.passes == 1 + TOKENS
    assert report.tokens == 7 + 7 + (TOKENS - 1)
    assert report.bits is not None
    assert report.bits > 8
    assert torch.equal(model(**inputs).logits, plain)


@pytest.mark.parametrize(
    "how",
    [{"num_beams": 3}, {"cache_implementation": "static"}, {"prompt_lookup_num_tokens": 3}, {"use_cache": False}],
    ids=["beams", "static cache", "prompt lookup", "no cache"],
)
def test_every_way_of_generating_works(how: dict[str, Any], tmp_path: Path, private: Any) -> None:
    reference, inputs, model = adapted("llama", tmp_path, targets=["q_proj", "v_proj"]), prompt(5), base_model("llama")
    with private(model):
        assert torch.equal(generated(model, inputs, **how), generated(reference, inputs, **how))


def test_padding_is_not_encrypted_and_changes_nothing(tmp_path: Path, private: Any) -> None:
    reference, inputs = adapted("llama", tmp_path, targets=["q_proj", "v_proj"]), prompt(6, 2, 4)
    model = base_model("llama")
    with private(model) as attached:
        assert torch.equal(generated(model, inputs), generated(reference, inputs))
        assert attached.report().tokens == 6 + 2 + 4 + 3 * (TOKENS - 1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_delta_is_added_in_float32_and_rounded_once(dtype: torch.dtype, tmp_path: Path, private: Any) -> None:
    adapted("llama", tmp_path, targets=["v_proj"])
    model = base_model("llama").to(dtype)
    site, seen = model.model.layers[0].self_attn.v_proj, []
    inputs = prompt(3)
    with torch.no_grad():
        site.register_forward_hook(lambda module, args, output: seen.append((args[0], output)))
        model(**inputs)
        with private(model) as attached:
            model(**inputs)
            x = seen[0][0][0].float().numpy()
            name = "model.layers.0.self_attn.v_proj"
            delta = torch.from_numpy(attached._active.adapter.deltas([name], x)[name])
            site.register_forward_hook(lambda module, args, output: seen.append((args[0], output)))
            model(**inputs)
    expected = (seen[0][1][0].float() + delta.float()).to(dtype)
    spacing = torch.finfo(dtype).eps * expected.float().abs().max()
    assert (seen[-1][1][0].float() - expected.float()).abs().max() <= spacing
    assert seen[-1][1].dtype is dtype
