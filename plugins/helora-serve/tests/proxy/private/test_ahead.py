"""What is prepared ahead of time serves the proxy too, and an empty pool is an error, not another model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import openai
import pytest

import helora_core as helora
from helora_serve.proxy.attachment import Attachment
from helora_serve.proxy.private_models import PrivateModels


def test_an_empty_pool_is_an_error_and_fills_again(place: Any, serving: Callable[..., Any], until: Any) -> None:
    model, tokenizer = place.loaded()
    accepted = helora.Constraints(assume=frozenset({helora.Assumption.HONEST_KEYS}))
    options = {"ahead": 24, "backend": "rns", "constraints": accepted}
    attachment = Attachment(model, str(place.adapter), where=None, options=options)
    models = PrivateModels("base", model, tokenizer, attachment)
    proxy = serving(models)
    fields: dict[str, Any] = {"model": "base:default", "messages": [{"role": "user", "content": "w7 w8"}]}
    try:
        with openai.OpenAI(base_url=proxy.url, api_key="none", max_retries=0) as client:
            answer = client.chat.completions.create(**fields, max_tokens=6)
            assert "honest keys" in answer.helora["leakage"]
            with pytest.raises(openai.APIError) as empty:
                list(client.chat.completions.create(**fields, max_tokens=100, stream=True))
            assert empty.value.code == "pool-empty"
            until(lambda: attachment.private.report().correlations_left >= 12)
            again = client.chat.completions.create(**fields, max_tokens=6)
            assert again.choices[0].message.content == answer.choices[0].message.content
    finally:
        attachment.close()
