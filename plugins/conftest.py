"""A plugin whose library is missing is skipped once, with its reason, and not once for each of its tests."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@cache
def missing(distribution: str) -> str | None:
    """Why a plugin of this folder cannot run here, if it says so."""
    plugin = importlib.import_module(distribution.replace("-", "_"))
    reason: str | None = getattr(plugin, "availability", lambda: None)()
    return reason


def _reason(path: Path, config: pytest.Config) -> str | None:
    """Why the tests of the plugin that a file belongs to cannot run; required ones fail by themselves."""
    distribution = path.relative_to(HERE).parts[0]
    if config.getoption("--helora-require") or not distribution.startswith("helora-"):
        return None
    return missing(distribution)


class Skipped(pytest.Module):
    """Stands for all tests of a plugin."""

    def collect(self) -> Iterable[pytest.Item | pytest.Collector]:
        """Nothing but the reason."""
        pytest.skip(_reason(self.path, self.config) or "", allow_module_level=True)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """All files of such a plugin but the one that shows the reason."""
    if collection_path.name.startswith("test_") and collection_path.name != "test_conformance.py":
        return True if _reason(collection_path, config) else None
    return None


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """The reason in place of the file's tests."""
    reason = _reason(module_path, parent.config)
    return Skipped.from_parent(parent, path=module_path) if reason else None
