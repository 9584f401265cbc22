"""Something to time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Probe:
    """Something to time.

    Attributes:
        operation: Its name.
        level: Level of its operands.
        call: Runs it once.
        parts: For a fit to all probes of this name and level: the figures to fit, and how often one call does each.
    """

    operation: str
    level: int
    call: Callable[[], object]
    parts: Mapping[str, float] = field(default_factory=dict)
