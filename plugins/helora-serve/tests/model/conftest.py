"""What tests of pages share: the tiny model, and a browser."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.harness.history.chromium import Chromium, find_chromium


@pytest.fixture(scope="session")
def tiny() -> ModuleType:
    """The module ``tiny.py``."""
    full = "helora_serve_tests_model_tiny"
    if full not in sys.modules:
        spec = importlib.util.spec_from_file_location(full, Path(__file__).parent / "tiny.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[full] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[full])
    return sys.modules[full]


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Chromium]:
    """A headless Chromium; a test that asks for one is skipped where there is none."""
    program = find_chromium()
    if not os.environ.get("HELORA_REQUIRE_BROWSER") and (program is None or sys.platform == "win32"):
        pytest.skip("there is no Chromium: install it, or name it in HELORA_CHROMIUM")
    assert program is not None, "HELORA_REQUIRE_BROWSER is set, and there is no Chromium"
    with Chromium(program, tmp_path / "profile") as running:
        running.call("Network.disable")  # which would send the megabytes of keys here too
        yield running
