"""Tells interested plugins what ran and how long it took: names, counts and times, never values, weights or keys."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

from helora_core.specs import TelemetryEvent, TelemetrySink


class TelemetryWarning(UserWarning):
    """A sink raised an exception and gets no more events."""


class Telemetry:
    """Sends events to sinks. A sink that raises is dropped with a warning; the run goes on."""

    def __init__(self, sinks: Iterable[TelemetrySink] = ()) -> None:
        self._sinks = list(sinks)

    def __bool__(self) -> bool:
        """Whether there is a sink."""
        return bool(self._sinks)

    def emit(self, name: str, elapsed_ns: int, **attributes: str | int | float) -> None:
        """Send one event to every sink."""
        event = TelemetryEvent(name=name, elapsed_ns=elapsed_ns, attributes=attributes)
        for sink in tuple(self._sinks):
            try:
                sink(event)
            except Exception as error:
                self._sinks.remove(sink)
                warnings.warn(
                    f"Telemetry sink {sink!r} raised {error!r} and is dropped.", TelemetryWarning, stacklevel=2
                )
