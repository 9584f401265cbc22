"""Runs the conformance kit against a double, in a pytest of its own inside the one that is running."""

from __future__ import annotations

import contextlib
import io
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from helora_core.backend.protocol import Backend
from helora_core.conformance.base import BackendConformance

ALL = frozenset(name for name in dir(BackendConformance) if name.startswith("test_"))
DOOR = Path(__file__).with_name("door.py")


@dataclass(eq=False)
class Trial:
    """The pytest plugin that gives the backend to ``door``, and records the outcome of each law.

    Attributes:
        backend: The backend on trial.
        laws: The laws to run; only these are collected, since collecting all takes longer than most laws.
        outcomes: By law: how its call ended for each parameter, or "error" if it never got that far.
    """

    backend: Backend
    laws: frozenset[str]
    outcomes: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    @pytest.fixture(scope="session")
    def backend_on_trial(self) -> Backend:
        """For the door."""
        return self.backend

    @pytest.hookimpl(tryfirst=True)
    def pytest_pycollect_makeitem(self, name: str) -> list[pytest.Item] | None:
        """Passes over other laws."""
        return [] if name.startswith("test_") and name not in self.laws else None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        law = report.nodeid.rpartition("::")[2].partition("[")[0]
        if report.when == "call" or report.skipped:
            self.outcomes[law].append(report.outcome)
        elif report.failed:
            self.outcomes[law].append("error")

    def caught(self) -> set[str]:
        """Laws that failed."""
        return {law for law, outcomes in self.outcomes.items() if "failed" in outcomes}


def hold(backend: Backend, laws: Iterable[str] = ALL, *, thorough: bool = False) -> Trial:
    """Hold a backend to the laws named, by default to all."""
    trial = Trial(backend, frozenset(laws))
    arguments = [
        str(DOOR), "-c", str(DOOR.with_name("trial.ini")), "--rootdir", str(DOOR.parent), "--noconftest",
        "--import-mode=importlib", "-q", "--tb=no", "-p", "no:cacheprovider", "-p", "no:faulthandler",
        "-p", "no:unraisableexception", "-p", "no:threadexception",  # each collects garbage at the end, at length
        "-W", "ignore::pytest.PytestAssertRewriteWarning",
    ]  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        status = pytest.main([*arguments, *(["--helora-thorough"] if thorough else [])], plugins=[trial])
    assert status in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED), shown.getvalue()
    return trial
