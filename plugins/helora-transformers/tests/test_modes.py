"""One base model, made to be its variants; and what each mode says that it protects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from helora_core.adapter.load import load_adapter
from helora_core.errors import InvalidInput
from helora_transformers.modes import Mode, PlaintextModel, Variant, Variants, require_runnable
from helora_transformers.tiny import KINDS, adapted, base_model, prompt


def logits(model: Any) -> Any:
    with torch.no_grad():
        return model(**prompt(6)).logits


@pytest.mark.parametrize("kind", KINDS)
def test_plaintext_is_what_peft_computes(kind: str, tmp_path: Path) -> None:
    reference, model = adapted(kind, tmp_path), base_model(kind)
    plain = logits(model)
    made = PlaintextModel(model, load_adapter(tmp_path))
    assert torch.equal(logits(model), plain)
    with made:
        assert (logits(model) - logits(reference)).abs().max() < 1e-4 * (logits(reference) - plain).abs().max()
    made.close()
    assert not [each for each in model.modules() if each._forward_hooks or each._forward_pre_hooks]


def test_a_model_is_one_variant_at_a_time(tmp_path: Path, private: Any) -> None:
    reference, model = logits(adapted("llama", tmp_path, targets=["q_proj"])), base_model()
    plain = logits(model)
    plaintext = PlaintextModel(model, load_adapter(tmp_path))
    with private(model) as attached:
        variants = Variants(attached, plaintext)
        for _ in range(2):
            with variants.only(Variant.BASE):
                assert torch.equal(logits(model), plain)
                assert attached.report().tokens == 0
            with variants.only(Variant.PLAINTEXT):
                assert (logits(model) - reference).abs().max() < 1e-5
                assert attached.report().tokens == 0
        with variants.only(Variant.ENCRYPTED):
            assert (logits(model) - reference).abs().max() < 1e-2
            assert attached.report().tokens == 6


def test_modes_say_what_they_protect_and_only_what_can_be_run_is() -> None:
    here, there = None, "tcp://127.0.0.1:7461"
    assert "nobody is protected" in Mode.CLIENT_KEY.protects(here)
    assert f"{there} computes on ciphertexts" in Mode.CLIENT_KEY.protects(there)
    assert "nothing is encrypted" in Mode.PLAINTEXT.protects(here)
    for host in (here, there):
        require_runnable(Mode.CLIENT_KEY, host)
    require_runnable(Mode.PLAINTEXT, here)
    with pytest.raises(InvalidInput, match="needs the adapter itself"):
        require_runnable(Mode.PLAINTEXT, there)
