"""A model whose adapter is behind a link: the same tokens, and no token without Δ when the link or the host fails."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch

import helora_core as helora
from helora_core.artifact.plan_file import Demands
from helora_core.errors import ConnectionLost, LeakageRefused
from helora_transformers import attach, connect
from helora_transformers.link.host import Host
from helora_transformers.link.relay import Relay
from helora_transformers.tiny import adapted, base_model, prompt

ACCEPTED = frozenset({helora.Assumption.HONEST_KEYS})


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Host]]:
    """PEFT's model, and a host of its adapter that has it by plans of both kinds."""
    folder = tmp_path_factory.mktemp("adapter")
    reference = adapted("llama", folder, targets=["q_proj", "v_proj"])
    helora.compile(folder, backend="rns", packing="rank_bsgs", tokens=(1, 16)).save(folder / "online")
    constraints = helora.Constraints(assume=ACCEPTED)
    helora.compile(folder, backend="rns", packing="precomputed", constraints=constraints).save(folder / "ahead")
    artifacts = {"legal": folder / "online", "legal.ahead": folder / "ahead"}
    with pytest.raises(LeakageRefused):
        helora.Server.load(artifacts)
    with Host(helora.Server.load(artifacts, demands=Demands(assume=ACCEPTED)), "tcp://127.0.0.1:0") as host:
        yield reference, host


@pytest.mark.parametrize("how", [{}, {"ahead": 12, "fallback": "online"}], ids=["online", "ahead, then online"])
def test_tokens_are_those_of_peft(world: tuple[Any, Host], how: dict[str, Any]) -> None:
    reference, host = world
    model, inputs = base_model(), prompt(6)
    with attach(model, connect(host.address), **how) as private:
        assert private.adapters == ("legal",)
        assert host.address in str(private.report())
        for _ in range(2):
            found = model.generate(**inputs, max_new_tokens=6, do_sample=False)
            assert torch.equal(found, reference.generate(**inputs, max_new_tokens=6, do_sample=False))
        report = private.report()
    assert report.link_ms > 0
    assert report.tokens == 2 * (6 + 5)


def test_a_link_that_breaks_ends_the_generation(world: tuple[Any, Host]) -> None:
    _, host = world
    model, inputs = base_model(), prompt(4)
    with Relay(host.address, delay_ms=1) as address, attach(model, connect(address)) as private:
        model.generate(**inputs, max_new_tokens=2, do_sample=False)
        remote = private._host
        threading.Timer(0.3, lambda: remote._sock.shutdown(2)).start()
        with pytest.raises(ConnectionLost):
            model.generate(**inputs, max_new_tokens=100, do_sample=False)
        with pytest.raises(ConnectionLost):
            model.generate(**inputs, max_new_tokens=1, do_sample=False)


def test_the_link_is_closed_with_the_model(world: tuple[Any, Host]) -> None:
    _, host = world
    remote = connect(host.address)
    with attach(base_model(), remote):
        pass
    with pytest.raises(ConnectionLost):
        remote.offer()
