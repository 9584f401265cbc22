from __future__ import annotations

import pytest

from helora_core.execution.telemetry import Telemetry, TelemetryWarning
from helora_core.specs import TelemetryEvent


def test_every_sink_gets_every_event() -> None:
    first: list[TelemetryEvent] = []
    second: list[TelemetryEvent] = []
    telemetry = Telemetry([first.append, second.append])
    telemetry.emit("a.b", 7, tokens=3, backend="numpy")
    telemetry.emit("c.d", 8)
    assert first == second
    assert first == [
        TelemetryEvent(name="a.b", elapsed_ns=7, attributes={"tokens": 3, "backend": "numpy"}),
        TelemetryEvent(name="c.d", elapsed_ns=8),
    ]


def test_without_sinks_nothing_happens() -> None:
    Telemetry().emit("a.b", 7)


def test_a_sink_that_raises_is_dropped_and_the_others_go_on() -> None:
    calls: list[str] = []
    events: list[TelemetryEvent] = []

    def broken(event: TelemetryEvent) -> None:
        calls.append(event.name)
        raise RuntimeError

    telemetry = Telemetry([events.append, broken, events.append])
    with pytest.warns(TelemetryWarning, match="broken") as caught:
        telemetry.emit("first", 1)
    assert caught[0].filename == __file__
    telemetry.emit("second", 1)
    assert calls == ["first"]
    assert [event.name for event in events] == ["first", "first", "second", "second"]


def test_what_a_sink_returns_is_ignored() -> None:
    Telemetry([lambda event: False]).emit("a.b", 1)
