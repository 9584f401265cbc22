"""Paths: the harness is installed in place, and works on its own checkout."""

from __future__ import annotations

from pathlib import Path

REPO = Path(__file__).parents[3]
DATA = REPO / "harness"
"""Figures that are committed: locks, budgets and result rows."""

HISTORY = DATA / "history"
DOCS = REPO / "docs"
