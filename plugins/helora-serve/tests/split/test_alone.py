"""Mode split without another one, and the tokens of its clients, which are counted as queries are."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helora_core.errors import InvalidInput, LimitExceeded
from helora_serve.host import Host
from helora_serve.limits import Limits
from helora_serve.service import Service, State
from helora_serve.split.client import connect_split

PROMPT = [3, 17, 45, 8]


def test_alone_it_offers_what_it_has_and_nothing_else(layers: Any, folder: Path, refused: Callable[..., Any]) -> None:
    with refused(InvalidInput, "nothing to serve"):
        Service(None)
    with Host(Service(None, layers=layers)) as host:

        def asked(path: str, method: str = "GET") -> tuple[int, str, bytes]:
            connection = http.client.HTTPConnection("127.0.0.1", host.port, timeout=20)
            connection.request(method, path)
            response = connection.getresponse()
            found = response.status, str(response.headers["x-helora-mode"]), response.read()
            connection.close()
            return found

        with connect_split(host.url, folder, adapter="legal") as model:
            assert model.generate(PROMPT, 4) == layers.greedy(PROMPT, 4, "legal")
        for path in ("/healthz", "/metrics", "/v1/modes", "/v1/models", "/v1/split/offer"):
            assert asked(path)[:2] == (200, "split")
        assert [each["mode"] for each in json.loads(asked("/v1/modes")[2])["modes"]] == ["split"]
        rows = [(each["id"], each["mode"]) for each in json.loads(asked("/v1/models")[2])["data"]]
        assert rows == [("legal", "split"), ("medical", "split")]
        for path in ("/v1/offer", f"/v1/keys/{'0' * 64}", "/v1/delta", "/v1/chat/completions"):
            assert asked(path)[0] == 404
        assert host.reload() is False


def test_a_client_has_as_many_tokens_of_an_adapter_as_its_owner_allows_through_restarts(
    layers: Any, folder: Path, tmp_path: Path, refused: Callable[..., Any]
) -> None:
    for allowed, had in ((6, 0), (9, 6)):
        service = Service(None, limits=Limits(queries=allowed), state=State(tmp_path), layers=layers)
        with Host(service) as host, connect_split(host.url, folder, adapter="legal") as model:
            before = layers.forwards
            with refused(LimitExceeded, f"had {had} queries", f"may have {allowed}"):
                model.logits(range(allowed - had + 1))
            assert layers.forwards == before  # refused before anything is computed
            model.logits(range(allowed - had))
            with connect_split(host.url, folder, adapter="medical") as other:  # counted by itself
                other.logits(range(1))
            with connect_split(host.url, folder) as base:  # public
                base.logits(range(20))
            count = service.metrics.registry.get_sample_value
            assert count("helora_model_queries_total", {"mode": "split"}) == allowed - had + 1
            assert count("helora_split_requests_total", {"code": "limit-exceeded"}) == 1


def test_clients_with_names_are_counted_each(serving: Any, layers: Any, folder: Path, alice: Any) -> None:
    tokens, token = alice
    served = serving(layers=layers, tokens=tokens, queries=4)
    with connect_split(served.host.url, folder, adapter="legal", token=token) as model:
        model.logits(PROMPT)
    another = connect_split(served.host.url, folder, adapter="legal", token=token)  # the same client
    with another, pytest.raises(LimitExceeded):
        another.logits(PROMPT[:1])
