"""The tutorial and the README do what they say, command by command, in the session ``docs``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("tenseal", reason="the pages run on the backend tenseal")

ROOT = Path(__file__).parents[2]


@pytest.mark.thorough  # and in the session ``docs``
@pytest.mark.parametrize(
    "page", ["README.md", "docs/tutorial.md", "docs/precision.md", "docs/which-packing.md", "docs/rotate.md"]
)
def test_every_command_and_snippet_runs_and_prints_what_is_shown(page: str, run_page: Callable[[Path], None]) -> None:
    run_page(ROOT / page)
