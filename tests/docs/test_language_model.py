"""The page on language models does what it says: on a model of some thousand numbers, and on SmolLM2-135M-Instruct."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from helora_core.data import bundled

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "language-model.md"
MISSING = [name for name in ("torch", "transformers", "peft") if find_spec(name) is None]
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:transformers")
needs_models = pytest.mark.skipif(
    bool(MISSING) and not os.environ.get("HELORA_REQUIRE_MODELS"),
    reason=f"not installed: {', '.join(MISSING)} (nox -s models)",
)


@needs_models
def test_it_runs_on_a_tiny_model(run_page: Callable[[Path], None], tmp_path: Path) -> None:
    from helora_transformers.tiny import adapted, save_tiny

    save_tiny(tmp_path / "base")
    adapted("llama", tmp_path / "my-lora", targets=["q_proj", "v_proj"])
    run_page(PAGE)


@needs_models
@pytest.mark.thorough  # and in the session ``models``
def test_it_runs_on_smollm2(run_page: Callable[[Path], None], tmp_path: Path) -> None:
    from helora_transformers.models import fetch_smollm2

    (tmp_path / "base").symlink_to(fetch_smollm2())
    (tmp_path / "my-lora").symlink_to(bundled.DIRECTORY / "adapter")
    run_page(PAGE)


def test_figures_of_the_last_hidden_state_are_those_that_were_measured() -> None:
    results = json.loads((ROOT / "examples" / "last_hidden_state" / "results.json").read_text(encoding="utf-8"))
    expected = []
    for name, ways in results["totals"].items():
        count = len(results["answers"][name])
        expected.append(f"| {count} {name} | PEFT | {results['peft_correct'][name]} | | | |")
        for way, each in ways.items():
            first = "–" if each["median_first_difference"] is None else each["median_first_difference"]
            kl = f"{each['mean_kl_bits']:.2f}"
            expected.append(f"| | `{way}` | {each['correct']} | {each['identical']} | {first} | {kl} |")
    page = (ROOT / "docs" / "last-hidden-state.md").read_text(encoding="utf-8")
    shown = page.partition("<!-- results -->")[2].partition("<!-- end of results -->")[0].strip().splitlines()
    assert shown[2:] == expected
