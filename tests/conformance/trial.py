"""Runs the conformance kit against doubles, in a pytest of its own inside the one that is running."""

from __future__ import annotations

import contextlib
import io
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from helora_core.backend.protocol import Backend
from helora_core.conformance.base import BackendConformance

ALL = frozenset(name for name in dir(BackendConformance) if name.startswith("test_"))
DOOR = Path(__file__).with_name("door.py")

Make = Callable[[], Backend]


@dataclass(eq=False)
class Trial:
    """How one backend fared.

    Attributes:
        outcomes: By law: how its call ended for each parameter, or "error" if it never got that far.
    """

    outcomes: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def caught(self) -> set[str]:
        """Laws that failed."""
        return {law for law, outcomes in self.outcomes.items() if "failed" in outcomes}


@dataclass(eq=False)
class Trials:
    """The pytest plugin that gives each backend to ``door``, and records the outcome of each of its laws.

    Attributes:
        backends: What makes each, by name.
        laws: Each one's; only these are collected, since collecting all takes longer than most laws.
        briefly: A law that has failed for a backend is not held to its other parameters.
    """

    backends: Mapping[str, Make]
    laws: Mapping[str, Collection[str]]
    briefly: bool = False
    of: dict[str, Trial] = field(default_factory=lambda: defaultdict(Trial))
    _names: dict[str, str] = field(default_factory=dict)

    @pytest.fixture(scope="session")
    def backend_on_trial(self, request: pytest.FixtureRequest) -> Backend:
        """For the door."""
        return self.backends[request.param]()

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        law = metafunc.function.__name__
        metafunc.parametrize(
            "backend_on_trial", [name for name, laws in self.laws.items() if law in laws], indirect=True
        )

    @pytest.hookimpl(tryfirst=True)
    def pytest_pycollect_makeitem(self, name: str) -> list[pytest.Item] | None:
        """Passes over other laws."""
        return [] if name.startswith("test_") and not any(name in laws for laws in self.laws.values()) else None

    def pytest_collection_modifyitems(self, items: list[pytest.Function]) -> None:
        self._names.update((item.nodeid, item.callspec.params["backend_on_trial"]) for item in items)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Function) -> bool | None:
        """Passes over what could only fail once more."""
        caught = self.of[self._names[item.nodeid]].caught()
        return True if self.briefly and item.originalname in caught else None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        outcomes = self.of[self._names[report.nodeid]].outcomes
        law = report.nodeid.partition("[")[0].rpartition("::")[2]
        if report.when == "call" or report.skipped:
            outcomes[law].append(report.outcome)
        elif report.failed:
            outcomes[law].append("error")


def hold_each(
    backends: Mapping[str, Make], laws: Mapping[str, Collection[str]], *, thorough: bool = False, briefly: bool = False
) -> dict[str, Trial]:
    """Hold backends to laws, each to its own, in one run: to start pytest takes longer than most laws. ``briefly``
    until it is caught by each.
    """
    trials = Trials(backends, laws, briefly)
    arguments = [
        str(DOOR), "-c", str(DOOR.with_name("trial.ini")), "--rootdir", str(DOOR.parent), "--noconftest",
        "--import-mode=importlib", "-q", "--tb=no", "-p", "no:cacheprovider", "-p", "no:faulthandler",
        "-p", "no:unraisableexception", "-p", "no:threadexception",  # each collects garbage at the end, at length
        "-W", "ignore::pytest.PytestAssertRewriteWarning",
    ]  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        status = pytest.main([*arguments, *(["--helora-thorough"] if thorough else [])], plugins=[trials])
    assert status in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED), shown.getvalue()
    return trials.of


def hold(make: Make, laws: Iterable[str] = ALL, *, thorough: bool = False) -> Trial:
    """Hold one backend to the laws named, by default to all."""
    return hold_each({"it": make}, {"it": frozenset(laws)}, thorough=thorough)["it"]
