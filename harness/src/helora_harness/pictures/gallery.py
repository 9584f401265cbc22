"""All pictures, and whether the committed files are they."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path

from helora_harness.pictures import terminal
from helora_harness.pictures.drawn import Picture
from helora_harness.places import DOCS

ASSETS = DOCS / "assets"

MODULES = (
    "parties", "straight_line", "slots", "lowered", "coefficients", "key_switch", "planes", "learns", "rooms",
    "threats", "choice",
)  # fmt: skip
"""A module each, with a function ``picture``."""


def pictures() -> Iterator[Picture]:
    """Every picture, drawn."""
    for name in MODULES:
        drawn: Picture = importlib.import_module(f"helora_harness.pictures.{name}").picture()
        yield drawn


def files() -> Iterator[tuple[Path, str]]:
    """Where each picture is committed, and what the file has to hold."""
    for each in pictures():
        yield ASSETS / f"{each.name}.svg", each.svg()
    yield ASSETS / f"{terminal.NAME}.svg", terminal.svg()


def outdated() -> list[str]:
    """Names of committed files that differ from what is drawn, or are missing."""
    return [path.name for path, text in files() if not path.exists() or path.read_text(encoding="utf-8") != text]
