"""``docs/write-a-packing.md`` makes a packing of a distribution of its own: block by block, without an installer."""

from __future__ import annotations

import os
import re
import runpy
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "write-a-packing.md"
GUIDE = runpy.run_path(str(ROOT / "tests" / "scaffold" / "guide.py"))


@pytest.mark.thorough  # and in the session ``docs``
def test_the_page_makes_a_packing_that_the_planner_chooses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_page: Callable[[Path], None]
) -> None:
    pytest.importorskip("helora_numpy")
    pytest.importorskip("tenseal", reason="its plans are shown for the backend tenseal")
    (project,) = re.findall(
        r"^```toml\n(# pyproject.toml\n.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    installed = tmp_path / "installed"
    installed.mkdir()
    (installed / "pyproject.toml").write_text(project, encoding="utf-8")
    GUIDE["pretend_to_install"](installed, installed)
    for variable in [name for name in os.environ if name.startswith("PYTEST_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, [installed, tmp_path / "src", ROOT])))
    run_page(PAGE)
