"""How hard Hypothesis searches: with the same examples in every run, so that a failure is a failure for everyone."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from hypothesis import HealthCheck, Phase, settings

Law = TypeVar("Law", bound=Callable[..., object])

_EXAMPLES, _THOROUGH_EXAMPLES = 12, 120
_thorough = False


def search_thoroughly() -> None:
    """Search ten times as many examples in laws imported from now on."""
    global _thorough
    _thorough = True


def searched(law: Law) -> Law:
    """Give a ``@given`` law the kit's own settings, whatever profile the project that runs it has loaded.

    All health checks are off: Hypothesis would complain that laws are methods inherited by several classes, and that
    encryption is slow.
    """
    examples = _THOROUGH_EXAMPLES if _thorough else _EXAMPLES
    return settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),  # an explanation would name lines of NumPy
        suppress_health_check=list(HealthCheck),
    )(law)
