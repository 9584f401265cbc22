"""The page on language models does what it says: on a model of some thousand numbers, and on SmolLM2-135M-Instruct."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from helora_core.data import bundled

PAGE = Path(__file__).parents[2] / "docs" / "language-model.md"
MISSING = [name for name in ("torch", "transformers", "peft") if find_spec(name) is None]
pytestmark = [
    pytest.mark.skipif(
        bool(MISSING) and not os.environ.get("HELORA_REQUIRE_MODELS"),
        reason=f"not installed: {', '.join(MISSING)} (nox -s models)",
    ),
    pytest.mark.filterwarnings("ignore::FutureWarning:transformers"),
]


def test_it_runs_on_a_tiny_model(run_page: Callable[[Path], None], tmp_path: Path) -> None:
    from helora_transformers.tiny import adapted, save_tiny

    save_tiny(tmp_path / "base")
    adapted("llama", tmp_path / "my-lora", targets=["q_proj", "v_proj"])
    run_page(PAGE)


@pytest.mark.thorough  # and in the session ``models``
def test_it_runs_on_smollm2(run_page: Callable[[Path], None], tmp_path: Path) -> None:
    from helora_transformers.models import fetch_smollm2

    (tmp_path / "base").symlink_to(fetch_smollm2())
    (tmp_path / "my-lora").symlink_to(bundled.DIRECTORY / "adapter")
    run_page(PAGE)
