"""Between the private page and its server, without TLS, nothing private passes in clear; what does, the search finds.

The conversation is held by the page's own modules in Chromium, over a relay that keeps every byte in both directions.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helora_core.adapter.lora import LoRAAdapter, LoRAModule
from helora_core.compiler.request import Constraints
from helora_core.parties.compile import compile
from helora_core.privacy.leakage import Assumption
from helora_serve.capture import (
    found,
    messages,
    number_needles,
    raw_needles,
    ternary_needles,
    text_needles,
    token_needles,
)
from helora_transformers.link.relay import Relay
from tests.harness.history.chromium import Chromium

SAID = ["where is the lighthouse?", "and who keeps it burning at night?"]
PROBE = Path(__file__).with_name("probe.mjs")
MOST, AHEAD = 8, 64


def _bytes(text: str) -> bytes:
    return base64.b64decode(text)


def _doubles(text: str) -> Any:
    return np.frombuffer(_bytes(text))


def _slices(values: Any, size: int, most: int = 8) -> Iterator[Any]:
    """Some runs of numbers that are not all zero."""
    starts = range(0, len(values) - size + 1, max(size, len(values) // most))
    yield from (run for start in starts if np.count_nonzero(run := values[start : start + size]) == size)


def needles(private: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
    """All that is private, in all encodings."""
    texts = [turn["content"] for turn in private["turns"]]
    yield from chain.from_iterable(map(text_needles, texts))
    yield from chain.from_iterable(map(token_needles, [private["prompt"][2:], *private["ids"]]))
    for name, kind in (("activations", "x"), ("Δ", "deltas")):
        for row in private[kind][:20]:
            for run in _slices(_doubles(row), 4, 4):
                yield from number_needles(name, run)
    for key in private["ternary"]:
        yield from chain.from_iterable(map(ternary_needles, _doubles(key)[:256].reshape(-1, 64)))
    for name, kind in (("seed", "seeds"), ("values", "values"), ("packed", "packed"), ("pads", "pads"),
                       ("correlations", "masked")):  # fmt: skip
        for data in private[kind][:8]:
            yield from raw_needles(name, _bytes(data)[:32])


@pytest.fixture(params=["online", "ahead"])
def conversation(
    request: pytest.FixtureRequest, browser: Chromium, served: Any, modules: dict[str, LoRAModule], base: Path
) -> Iterator[tuple[dict[str, Any], Relay, Chromium]]:
    """What was private, what passed, and the page that still has the session."""
    few = LoRAAdapter({name: module for name, module in modules.items() if ".0.self_attn." in name}, "test")
    if request.param == "online":
        compiled, ahead = compile(few, backend="rns", packing="rank_bsgs", tokens=(1, 16)), 0
    else:
        constraints = Constraints(assume=frozenset({Assumption.HONEST_KEYS}), target_bits=10)
        compiled, ahead = compile(few, backend="rns", packing="precomputed", constraints=constraints), AHEAD
    with served({"default.ahead" if ahead else "default": compiled}, base) as host:
        relay = Relay(host.url.replace("http:", "tcp:"), record=True)
        with relay as address:
            browser.open(f"{address.replace('tcp:', 'http:')}/")
            browser.wait("document.getElementById('size').textContent !== ''")
            browser.evaluate(PROBE.read_text("utf-8") + "; null")
            yield browser.evaluate(f"converse({SAID}, {MOST}, {ahead})"), relay, browser


def _kinds(private: dict[str, Any]) -> set[str]:
    shared = {
        "utf-8",
        "JSON",
        "tokens as <i4",
        "activations as <f4",
        "Δ as <f8",
        "seed",
        "key as <i1",
        "values",
        "packed",
    }
    return shared | ({"pads", "correlations"} if private["pads"] else set())


def test_a_conversation_of_the_page_passes_in_ciphertexts_and_what_is_sent_in_clear_is_found(conversation: Any) -> None:
    private, relay, browser = conversation
    wanted = list(needles(private))
    assert _kinds(private) <= dict(wanted).keys()
    held = b"\0".join(chain.from_iterable(map(messages, map(bytes, relay.recorded))))
    assert b"model.layers.0.self_attn.q_proj" in held  # inside a client's masked frame, which was undone
    assert b"GET /web/chat/private.js" in held  # HTTP too, and both directions
    assert b"class Private extends" in held
    assert found(wanted, held) == set()
    # The control: the same things, each in an encoding of the browser's making, over the same session.
    kinds = browser.evaluate("betray()")
    sent = [each for stream in relay.recorded for each in messages(bytes(stream))]
    asked = [each for each in sent if b"\xa3ask" in each[:40]][-len(kinds) :]
    assert len(kinds) > 40
    missed = [
        kind for kind, message in zip(kinds, asked, strict=True)
        if kind.partition("@")[0].partition("#")[0] not in found(wanted, message)
    ]  # fmt: skip
    assert missed == []
