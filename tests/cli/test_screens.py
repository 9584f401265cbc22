"""What people see, committed: the screens of the main commands and of wrong ones at 80 and at 120 columns.

``HELORA_UPDATE_SCREENS=1 uv run pytest -n 0 tests/cli/test_screens.py`` writes them anew; the diff is to be read. What
differs from run to run is masked, by the rule of ``screens.masked``. They are those of the environment that the command
makes: where more is installed, what lists installed things is not compared.
"""

from __future__ import annotations

import os
import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from helora_core.adapter.lora import LoRAAdapter, ModuleShape
from helora_core.adapter.npz import save_npz
from helora_core.adapter.synthetic import synthetic_activations, synthetic_module
from tests.cli.screens import masked, screen

FOLDER = Path(__file__).with_name("snapshots")
UPDATE = os.environ.get("HELORA_UPDATE_SCREENS") == "1"
WIDTHS = (80, 120)

SEAL = ("--backend", "tenseal")
RUN = ("run", "--input", "x.npy", "--output", "delta.npy", *SEAL)

SCREENS: dict[str, tuple[object, ...]] = {
    "help": ("--help",),
    "help-demo": ("demo", "--help"),
    "help-bench": ("bench", "--help"),
    "demo": ("demo", "--module", "layers.[0-4].*", "--tokens", 4, *SEAL),
    "demo-emulated": ("demo", "--module", "layers.0.*", "--tokens", 4, "--backend", "numpy", "--no-private-weights"),
    "plan": ("plan", "--shape", "1536:256:16", *SEAL),
    "explain": ("explain", "--shape", "1536:256:16", "--tokens", 8, *SEAL),
    "run": (*RUN, "--adapter", "adapter.npz", "--force"),
    "compile": ("compile", "--adapter", "adapter.npz", "--out", "compiled", "--force", *SEAL),
    "packings": ("packings",),
    "backends": ("backends",),
    "doctor": ("doctor",),
    "wrong-command": ("dmeo",),
    "wrong-bench-command": ("bench", "cuonts"),
    "wrong-option": ("demo", "--modul", "q_proj"),
    "wrong-backend": ("demo", "--backend", "tensael"),
    "wrong-packing": ("plan", "--shape", "8:8:2", "--packing", "rank_bsg"),
    "wrong-module": ("demo", "--module", "layers.*.q_prj"),
    "wrong-model": ("plan", "--model", "qwen2.5-1.b"),
    "wrong-table": ("plan", "--shape", "8:8:2", "--security-table", "guidlines-2024"),
    "wrong-setting": ("packings",),
    "artifact-as-adapter": (*RUN, "--adapter", "served"),
    "adapter-as-artifact": (*RUN, "--artifact", "adapter.npz"),
    "nothing-there": ("plan", "--adapter", "my-lora"),
    "over-budget": ("plan", "--shape", "1536:1536:32", "--max-rotations", 1, "--packing", "rank_bsgs"),
}
"""Command lines by the names of their files."""

INSTALLED = {"help", "backends", "doctor", "wrong-backend"}
"""Screens that list what is installed."""


@pytest.fixture(autouse=True)
def _inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    shape = ModuleShape.parse("48:32:4")
    modules = [synthetic_module(shape, seed=i, name=f"layers.0.{name}_proj") for i, name in enumerate("qv")]
    save_npz(LoRAAdapter.from_modules(modules, source="test"), tmp_path / "adapter.npz")
    np.save(tmp_path / "x.npy", synthetic_activations(shape, 2, seed=1))
    monkeypatch.setenv("HELORA_PROFILES", "profiles")
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    name = request.node.callspec.params.get("name") if hasattr(request.node, "callspec") else None
    if name == "artifact-as-adapter":
        assert screen(["compile", "--adapter", "adapter.npz", "--out", "served", *SEAL], width=80).status == 0
    if name == "wrong-setting":
        (tmp_path / "helora.toml").write_text("securty = '128'\n", encoding="utf-8")


def shown(name: str, width: int, tmp_path: Path) -> str:
    """The screen as it is committed."""
    found = screen(SCREENS[name], width=width)
    text = masked(found.text, TMP=str(tmp_path), HELORA=str(Path(__file__).parents[2]))
    if name == "doctor":  # all but the labels is of this machine
        text = re.sub(r"^(  \S.*?)  \S.*(?:\n {18}\S.*)*$", r"\1  …", text, flags=re.MULTILINE)
    return f"$ helora {' '.join(map(str, SCREENS[name]))}\n{text.rstrip()}\nexit status {found.status}\n"


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", SCREENS)
def test_the_screen_is_as_committed(name: str, width: int, tmp_path: Path) -> None:
    more = [module for module in ("openfhe", "Pyfhel", "cupy", "torch", "transformers", "gguf") if find_spec(module)]
    if name in INSTALLED and more:
        pytest.skip(f"{', '.join(more)} is installed here")
    file, text = FOLDER / f"{name}.{width}.txt", shown(name, width, tmp_path)
    if UPDATE:
        FOLDER.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
    assert text == file.read_text(encoding="utf-8")


def test_no_committed_screen_is_left_over() -> None:
    assert {file.name for file in FOLDER.iterdir()} == {f"{name}.{width}.txt" for name in SCREENS for width in WIDTHS}
