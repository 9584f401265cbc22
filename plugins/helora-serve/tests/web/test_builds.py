"""The committed builds of the engine are what the sources give, and small."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from types import ModuleType

import pytest

from tests.loading import module_at

PLUGINS = Path(__file__).parents[3]
MOST_BYTES = 34 << 10
"""Of each build, uncompressed; a third of it travels."""


@pytest.fixture(scope="module")
def recipe() -> ModuleType:
    """helora-rns's build.py."""
    return module_at(PLUGINS / "helora-rns" / "build.py")


def test_the_list_is_of_these_files_and_sources(web: Path, recipe: ModuleType) -> None:
    listed = json.loads((web / "engine.json").read_text())
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in web.glob("*.wasm")}
    assert listed["files"] == files
    again = "python plugins/helora-rns/build.py --target wasm, with " + listed["compiler"]
    assert listed["sources"] == recipe.client_sources(), f"the sources have changed: run {again}"


def test_each_is_small(web: Path) -> None:
    sizes = {path.name: path.stat().st_size for path in web.glob("*.wasm")}
    assert len(sizes) == 3
    assert max(sizes.values()) <= MOST_BYTES


def test_compiling_again_gives_the_same_bytes(web: Path, recipe: ModuleType, tmp_path: Path) -> None:
    pytest.importorskip("ziglang", reason="uv sync --group wasm")
    for made in recipe.compile_client(tmp_path):
        assert made.read_bytes() == (web / made.name).read_bytes(), made.name
