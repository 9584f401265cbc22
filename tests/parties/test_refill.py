"""Pools that are filled in the background, while they are used."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from helora_core.errors import InvalidInput, LimitExceeded, PoolEmpty
from helora_core.parties.limits import ServerLimits
from helora_core.parties.refill import Refill
from tests.parties.ahead import integer_delta
from tests.parties.pair import MODULES, Pair, client_of, server_of, x_of


def pair_of(low_water: int, **options: Any) -> Pair:
    server = server_of(**options)
    client = client_of(server, low_water=low_water)
    return Pair(server, client, server.open(client.evaluation_keys()))


def wait_until(condition: Any) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.01)


def test_requests_go_on_while_the_pool_is_filled_again() -> None:
    """Every Δ is right, and no correlation is used twice: the server would refuse it."""
    pair = pair_of(low_water=40)
    pair.prepare(["q", "v"], 50)
    second = pair.server.open(pair.client.evaluation_keys())
    with Refill(pair.client, second, ["q", "v"], 100) as refill:
        for seed in range(60):
            x = x_of(5, seed)
            wait_until(lambda: pair.client.left(["q", "v"]) >= 5 or refill.error)
            assert refill.error is None
            np.testing.assert_array_equal(pair.delta("q", x), integer_delta(MODULES["q"], x))
        wait_until(lambda: pair.client.left(["q", "v"]) >= 40)
    assert pair.client.left(["q", "v"]) <= 100
    level = pair.client.pools["q", "v"]
    assert not level.low


def test_a_request_may_wait_for_more_than_the_low_water_mark(refused: Any) -> None:
    pair = pair_of(low_water=2)
    inputs = (["q", "v"], ["trimmed"])
    for modules in inputs:
        pair.prepare(modules, 5)
    with Refill(pair.client, pair.server.open(pair.client.evaluation_keys()), inputs, 20) as refill:
        for modules in inputs:
            refill.ask(9)
            wait_until(lambda modules=modules: pair.client.left(modules) >= 9)
        with refused(PoolEmpty, "21 correlations"):
            refill.ask(21)


def test_what_ends_it_is_told() -> None:
    pair = pair_of(low_water=40, limits=ServerLimits(correlations=30))
    with Refill(pair.client, pair.server.open(pair.client.evaluation_keys()), "q", 100) as refill:
        wait_until(lambda: refill.error)
        assert "1 to 30" in str(refill.error)
        with pytest.raises(LimitExceeded, match="1 to 30"):
            refill.ask(1)


def test_a_pool_that_is_never_low_is_refused(refused: Any) -> None:
    for low_water, correlations in ((0, 100), (100, 100)):
        with refused(InvalidInput, "filled", hint="low_water"):
            Refill(pair_of(low_water).client, pytest.fail, "q", correlations)  # type: ignore[arg-type]
