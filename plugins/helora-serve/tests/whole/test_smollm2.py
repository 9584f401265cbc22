"""SmolLM2 in mode split with its adapter: the tokens are those of PEFT, and the server can read all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel

from helora_core.data import bundled
from helora_serve.split.client import connect_split
from helora_serve.split.loading import load_layers
from helora_transformers.models import fetch_smollm2, load_base

MOST = 16


@pytest.mark.thorough
def test_smollm2_answers_the_same_and_is_read_by_the_server(serving: Any) -> None:
    base, adapter = fetch_smollm2(), Path(bundled.DIRECTORY / "adapter")
    model, tokenizer = load_base(str(base))
    asked = [{"role": "user", "content": "What is the capital of France, and which river runs through it?"}]
    text = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    prompt = tokenizer(text, add_special_tokens=False)["input_ids"]
    peft = PeftModel.from_pretrained(model, str(adapter)).eval()
    with torch.no_grad():
        ids = peft.generate(
            input_ids=torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), max_new_tokens=MOST,
            do_sample=False, pad_token_id=0,
        )  # fmt: skip
    right = ids[0, len(prompt) :].tolist()
    del peft, model

    layers = load_layers(base, {"default": adapter})
    received, run = list[Any](), layers.forward

    def watched(rows: Any, *others: Any) -> Any:
        received.append(rows)
        return run(rows, *others)

    layers.forward = watched
    served = serving(layers=layers)
    with connect_split(served.host.url, base, adapter="default", timeout=120) as split:
        ends = {tokenizer.eos_token_id}
        made = split.generate(prompt, MOST, ends=ends)
        assert made == [each for each in right if each not in ends]
        assert split.reconnects == 0
        embedding = split.ends.embedding
    rows = np.concatenate(received)
    squares = (embedding**2).sum(axis=1)
    nearest = [int((squares - 2 * embedding @ each).argmin()) for each in rows]
    assert nearest[: len(prompt)] == prompt
    assert nearest[len(prompt) :] == made[: len(nearest) - len(prompt)]
