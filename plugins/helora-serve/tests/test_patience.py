"""How long a server is waited for: long if it is silent, and for a restart where connections are refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helora_serve.client.patience import Patience
from helora_serve.client.wire import WireBroken

SECONDS = st.floats(0.1, 100)


def refused() -> WireBroken:
    error = WireBroken("Connection refused")
    error.__cause__ = ConnectionRefusedError()
    return error


class Clock:
    """Seconds that pass when it is told so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def waited(patience: Patience, clock: Clock, errors: list[WireBroken]) -> float:
    """Try until it is over, each error in turn and the last one again and again. Returns the seconds."""
    start, tries = clock.now, 0
    while patience.left:
        pause = patience.failed(errors[min(tries, len(errors) - 1)])
        assert 0 <= pause <= 1
        clock.now += max(pause, 1e-3)
        tries += 1
    return clock.now - start


@given(timeout=SECONDS, restart=SECONDS)
def test_it_ends_in_time(timeout: float, restart: float) -> None:
    clock = Clock()
    least = min(timeout, restart)
    assert waited(Patience(timeout, restart, clock), clock, [refused()]) == pytest.approx(least, abs=0.01)
    assert waited(Patience(timeout, restart, clock), clock, [WireBroken("silent")]) == pytest.approx(timeout, abs=0.01)


@given(number=st.integers(1, 8))
def test_refusals_count_on_end(number: int) -> None:
    clock = Clock()
    patience = Patience(60, 5, clock)
    mixed = [each for _ in range(number) for each in (refused(), WireBroken("silent"))]
    assert waited(patience, clock, [*mixed, refused()]) > 5
    assert "nobody listens" in patience.reason


def test_what_was_met_last_is_told() -> None:
    clock = Clock()
    patience = Patience(3, 60, clock)
    waited(patience, clock, [refused(), WireBroken("the welcome never came")])
    assert patience.reason == "for 3 seconds the welcome never came"
