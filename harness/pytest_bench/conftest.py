"""Says at the end if nothing was timed: pytest-benchmark turns itself off under xdist, and only warns at the start."""

from __future__ import annotations

import pytest


def untimed(config: pytest.Config) -> str:
    """Why this run times nothing; empty if it does."""
    if getattr(config.option, "benchmark_disable", False) and not getattr(config.option, "benchmark_enable", False):
        return "benchmarks are off (--benchmark-disable)"
    if getattr(config.option, "numprocesses", None):
        return "tests run in several processes (-n), which would disturb each other's times"
    return ""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """One line, whatever the outcome."""
    reason = untimed(config)
    if reason:
        terminalreporter.write_line(f"nothing was timed: {reason}; results were checked all the same", yellow=True)
