"""A client that has both ends of a model, and a server with its layers: together they are the model."""

from __future__ import annotations

import http.client
import json
from typing import Any

import numpy as np
import pytest

from helora_core.errors import CorruptPayload, InvalidInput, VersionMismatch
from helora_serve.split.client import connect_split

PROMPT = [*b"u:Who keeps the light?", 256, *b"a:"]


@pytest.mark.parametrize("adapter", [None, "legal", "medical"])
@pytest.mark.parametrize("transport", ["websocket", "http"])
def test_tokens_are_those_of_the_whole_model(splitting: Any, layers: Any, adapter: str | None, transport: str) -> None:
    _, model = splitting()
    split = model(adapter=adapter, transport=transport)
    assert split.generate(PROMPT, 12) == layers.greedy(PROMPT, 12, adapter)
    assert layers.forwards == 12  # the prompt at once, then one row for each token


def test_adapters_matter(layers: Any) -> None:
    assert len({tuple(layers.greedy(PROMPT, 12, each)) for each in (None, *layers.adapters)}) == 3


def test_float16_halves_the_bytes_and_rounds(splitting: Any, layers: Any) -> None:
    _, model = splitting()
    wide, narrow = model(adapter="legal"), model(adapter="legal", dtype="float16")
    apart = abs(wide.logits(PROMPT) - narrow.logits(PROMPT)).max()
    assert 0 < apart < 0.05
    assert (layers.received[1] == layers.received[0].astype(np.float16)).all()


def test_another_end_of_the_same_conversation_sends_what_differs(splitting: Any, layers: Any) -> None:
    """To regenerate, a client goes back in the context: what is cached from there on is forgotten."""
    _, model = splitting()
    split = model(adapter="legal")
    split.logits([*PROMPT, 1, 2, 3])
    other = split.logits([*PROMPT, 9, 9])
    assert [len(each) for each in layers.received] == [len(PROMPT) + 3, 2]
    assert (other == model(adapter="legal").logits([*PROMPT, 9, 9])).all()
    assert split.position == len(PROMPT) + 2


def test_long_prompts_go_in_pieces(splitting: Any, layers: Any) -> None:
    _, model = splitting(split_tokens=7)
    assert model(adapter="legal").generate(PROMPT, 4) == layers.greedy(PROMPT, 4, "legal")
    assert max(map(len, layers.received)) == 7


def test_every_token_can_be_read_in_what_the_server_receives(splitting: Any, layers: Any) -> None:
    """The attack that mode split is open to: the nearest row of the embedding, which everybody has."""
    _, model = splitting()
    split = model(adapter="legal")
    text = b"The keeper is Odile Marrow. ?"
    made = split.generate([*text], 8)
    embedding = split.ends.embedding
    received = np.concatenate(layers.received)
    apart = ((received[:, None] - embedding[None]) ** 2).sum(axis=2)
    assert apart.argmin(axis=1).tolist() == [*text, *made[:-1]]
    assert len(text) == 29


def test_a_half_of_the_bits_hides_nothing(splitting: Any, layers: Any) -> None:
    _, model = splitting()
    split = model(dtype="float16")
    split.logits(PROMPT)
    apart = ((layers.received[0][:, None] - split.ends.embedding[None]) ** 2).sum(axis=2)
    assert apart.argmin(axis=1).tolist() == PROMPT


def test_each_route_says_what_the_server_sees(splitting: Any) -> None:
    served, model = splitting()
    documents = {}
    for path, mode in (
        ("/v1/offer", "client-key"), ("/v1/modes", "client-key"), ("/v1/split/offer", "split"),
        ("/v1/split/selftest", "split"), ("/v1/split", "split"),
    ):  # fmt: skip
        connection = http.client.HTTPConnection("127.0.0.1", served.host.port, timeout=120)
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read()
        connection.close()
        assert response.headers["x-helora-mode"] == mode, path
        documents[path] = json.loads(body) if response.status == 200 else response.status
    assert documents["/v1/split"] == 405
    modes = {each["mode"]: each for each in documents["/v1/modes"]["modes"]}
    assert set(modes) == {"client-key", "split"}
    assert "not private" in modes["split"]["warning"]
    assert "every token" in modes["split"]["sees"][0]
    assert documents["/v1/split/offer"]["sees"] == modes["split"]["sees"]
    assert documents["/v1/split/offer"]["warning"] == modes["split"]["warning"] == model().welcome.sees
    found = documents["/v1/split/selftest"]
    assert found["tokens_equal"]
    assert found["max_logit_difference"] < 1e-4
    assert found["adapter"] == "legal"


def test_a_server_without_it_has_no_such_route(serving: Any, folder: Any, refused: Any) -> None:
    served = serving()
    with refused(CorruptPayload):
        connect_split(served.host.url, folder)


def test_another_base_model_or_adapter_is_refused(splitting: Any, folder: Any, tmp_path: Any, refused: Any) -> None:
    served, model = splitting()
    with refused(InvalidInput, "no such adapter", "legal, medical"):
        model(adapter="finance")
    other = tmp_path / "other"
    other.mkdir()
    for each in folder.iterdir():
        (other / each.name).write_bytes(each.read_bytes())
    (other / "config.json").write_text((folder / "config.json").read_text() + " ")
    with refused(VersionMismatch, "base model"):
        connect_split(served.host.url, other)
