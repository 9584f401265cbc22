"""How hard Hypothesis searches: the same examples in every run, so that a red kit is red for everybody."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

_EXAMPLES, _THOROUGH_EXAMPLES = 12, 120


def use_profile(*, thorough: bool) -> None:
    """Make the kit's profile the current one."""
    settings.register_profile(
        "helora-conformance",
        max_examples=_THOROUGH_EXAMPLES if thorough else _EXAMPLES,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    settings.load_profile("helora-conformance")
