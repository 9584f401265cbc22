"""``docs/write-a-packing.md`` makes a packing of a distribution of its own: block by block, without an installer."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

tomllib = pytest.importorskip("tomllib", reason="Python 3.11 brings it; the session `docs` runs there")

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "write-a-packing.md"


def pretend_to_install(project: str, site: Path) -> None:
    """Give ``site`` the metadata of a project as an editable installation would, without an installer."""
    table = tomllib.loads(project)["project"]
    info = site / f"{table['name'].replace('-', '_')}-{table['version']}.dist-info"
    info.mkdir(parents=True)
    metadata = f"Metadata-Version: 2.4\nName: {table['name']}\nVersion: {table['version']}\n"
    (info / "METADATA").write_text(metadata, encoding="utf-8")
    plugins = "".join(f"{name} = {module}\n" for name, module in table["entry-points"]["helora"].items())
    (info / "entry_points.txt").write_text(f"[helora]\n{plugins}", encoding="utf-8")


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
    pretend_to_install(project, installed)
    for variable in [name for name in os.environ if name.startswith("PYTEST_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, [installed, tmp_path / "src", ROOT])))
    run_page(PAGE)
