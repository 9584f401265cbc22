"""What sums up a soak: fairness, percentiles and lag; and the page is what the committed figures give."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helora_serve.metrics import Metrics

COUNTS = st.lists(st.integers(1, 10_000), min_size=1, max_size=40)


@given(counts=COUNTS, factor=st.integers(1, 9))
def test_fairness_is_a_share_of_the_clients(soak: ModuleType, counts: list[int], factor: int) -> None:
    jain = soak.soak_figures.jain
    assert 1 / len(counts) <= jain(counts) * (1 + 1e-12)
    assert jain(counts) <= 1 + 1e-12
    assert jain([factor * each for each in counts]) == pytest.approx(jain(counts))
    assert jain([counts[0]] * len(counts)) == pytest.approx(1)
    assert jain([counts[0], *[0] * (len(counts) - 1)]) == pytest.approx(1 / len(counts))


def test_percentiles_are_of_all_requests_of_all_clients(soak: ModuleType) -> None:
    times = np.random.default_rng(0).permutation(np.arange(1, 1001) / 1000)
    assert soak.soak_figures.percentiles([times[:10], times[10:]], (0.0, 0.5, 1.0)) == (1.0, 500.5, 1000.0)


def test_lag_is_of_what_came_between_and_never_stated_too_low(soak: ModuleType) -> None:
    metrics, of = Metrics(), soak.soak_server
    for _ in range(1000):
        metrics.lag.observe(3.0)
    before = of.parsed(metrics.text())
    for late in [0.0004] * 980 + [0.012] * 20:
        metrics.lag.observe(late)
    after = of.parsed(metrics.text())
    assert [of.lag_ms(after, before, share) for share in (0.5, 0.98, 0.99, 1.0)] == [0.5, 0.5, 15.0, 15.0]
    assert of.lag_ms(after, {}, 0.9) == 5000.0


class TestPage:
    def test_it_is_what_the_committed_figures_give(self, soak: ModuleType) -> None:
        page = soak.soak_page
        assert page.PAGE.read_text(encoding="utf-8") == page.rendered(soak.soak_figures.read())

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"right": False}, "wrong"),
            ({"most_mib": 1e6}, "allowed"),
            ({"lag_ms": (1.0, 1.0, 30.0), "bare_lag_ms": (1.0, 1.0, 20.0)}, "30 ms late"),
        ],
    )
    def test_what_does_not_hold_is_named(self, soak: ModuleType, change: dict[str, Any], words: str) -> None:
        figures = soak.soak_figures.read()
        fine = {"right": True, "most_mib": 1.0, "bound_mib": 2.0, "lag_ms": (1.0, 1.0, 20.0)}
        loads = tuple(msgspec.structs.replace(each, **fine) for each in figures.loads)
        good = msgspec.structs.replace(figures, loads=loads)
        assert not soak.soak_page.problems(good)
        changed = msgspec.structs.replace(loads[0], **change)
        (problem,) = soak.soak_page.problems(msgspec.structs.replace(good, loads=(changed, *loads[1:])))
        assert words in problem
