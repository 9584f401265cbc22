"""The kit's pytest plugin: options, the Hypothesis profile, ``xfails.toml``, and the report.

pytest loads it wherever helora-core is installed, so it imports nothing of helora before a law is collected.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from helora_core.conformance.report import KitReport

REPORT: pytest.StashKey[KitReport] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """The kit's options."""
    group = parser.getgroup("helora", "helora's conformance kit")
    group.addoption("--helora-backend", default="", metavar="NAME", help="backend for test classes that name none")
    group.addoption(
        "--helora-thorough", action="store_true", help="run the slow laws too, and search ten times as many examples"
    )
    group.addoption(
        "--helora-require", action="store_true", help="fail, not skip, where a backend's library is missing"
    )
    group.addoption("--helora-json", type=Path, metavar="FILE", help="write the conformance report as JSON")
    group.addoption("--helora-html", type=Path, metavar="FILE", help="write the conformance report as a page")


def pytest_configure(config: pytest.Config) -> None:
    """Tell the laws, before they are imported, how hard to search."""
    if config.getoption("--helora-thorough"):
        from helora_core.conformance.profile import search_thoroughly

        search_thoroughly()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark known failures before anything is deselected, so that an entry that names no law is found in every run.

    Suites become keywords: ``-k rotation`` runs that suite.
    """
    laws = [item for item in items if _is_law(item)]
    for law in laws:
        law.extra_keyword_matches.add(suite_of(law))
    if laws:
        from helora_core.conformance.xfails import mark_known_failures

        mark_known_failures(laws, partial=any("::" in argument for argument in config.args))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Open the report if any of the kit's laws will run."""
    if any(_is_law(item) for item in session.items):
        from helora_core.conformance.report import KitReport

        session.config.stash[REPORT] = KitReport()


def suite_of(item: pytest.Item) -> str:
    """The suite that defines a law, from its file's name."""
    return getattr(getattr(item, "function", None), "__module__", "").rpartition(".")[2]


def _is_law(item: pytest.Item) -> bool:
    return any(base.__name__ == "BackendConformance" for base in getattr(getattr(item, "cls", None), "__mro__", ()))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Record each law's outcome in the report."""
    report = yield
    kit = item.config.stash.get(REPORT, None)
    if kit is not None and _is_law(item):
        kit.enter(item, report)
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print which backends were tested under which conditions, and write the files asked for."""
    kit = config.stash.get(REPORT, None)
    if kit is None:
        return
    for line in (*kit.lines(), *kit.left_out()):
        terminalreporter.write_line(line)
    for option, write in (("--helora-json", kit.write_json), ("--helora-html", kit.write_html)):
        path = config.getoption(option)
        if path is not None:
            write(path)
            terminalreporter.write_line(f"wrote {path}")
