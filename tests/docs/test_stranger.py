"""A stranger's five questions: README and home page answer each of them, each alone, with figures that were measured.

Each answer is a pattern that the page has to hold. Without the paragraphs that hold it the question must be open:
otherwise the pattern is too weak.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("helora_harness")

from helora_core.data.bundled import bundled_adapter
from helora_core.params.security import DEFAULT_SECURITY_BITS
from helora_core.privacy.policy import DEFAULT_SANITIZE_BITS
from helora_harness.pictures import terminal

ROOT = Path(__file__).parents[2]
README, HOME = ROOT / "README.md", ROOT / "docs" / "index.md"
SETUP = "pip install uv && uv run helora demo"

SUPERSCRIPT = str(DEFAULT_SANITIZE_BITS).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))

ANSWERS = {
    # question: for each page, what has to be found
    "what is it": {
        README: [r"runs LoRA adapters over CKKS-encrypted activations", r"only the client can decrypt Δ"],
        HOME: [r"runs LoRA adapters over CKKS-encrypted activations", r"only the client can decrypt Δ"],
    },
    "for whom": {
        README: [r"You have a LoRA that you do not want to hand out", r"\[write a packing\]", r"\[write a backend\]"],
        HOME: [r"You have a LoRA that you do not want to hand out", r"\[Write a packing\]", r"\[Write a backend\]"],
    },
    "how private": {
        README: [rf"2⁻{SUPERSCRIPT}", r"\*\*not audited\*\*|not audited", r"d_in independent queries"],
        HOME: [rf"2⁻{SUPERSCRIPT}", r"\*\*not audited\*\*", r"d_in independent queries"],
    },
    "how fast": {
        README: [r"ms\W+per token|ms/tok", r"one thread", r"AMD EPYC"],
        HOME: [r"[\d.]+ ms a token", r"one thread", r"AMD EPYC"],
    },
    "how to install": {
        README: [re.escape(SETUP), r"Python 3\.10 to 3\.13", r"pip install -e"],
        HOME: [re.escape(SETUP), r"Python 3\.10 to 3\.13", r"pip install -e"],
    },
}
CASES = [(question, page) for question, pages in ANSWERS.items() for page in pages]


def missing(text: str, patterns: list[str]) -> list[str]:
    """The patterns that a page does not hold."""
    flat = " ".join(text.split())
    return [pattern for pattern in patterns if not re.search(pattern, flat)]


def demo_sentences() -> str:
    """What the home page says of the recorded demo."""
    recorded = terminal.load()
    agreeing, modules, bits, ms = recorded.verdict
    kind, _, cores = recorded.machine.partition("-")
    lines = (
        f"{agreeing} of {modules} modules agree to {bits:g} bits or more; all of them take {ms:g} ms a token,",
        "encryption and decryption included and network not. "
        f"Recorded on {recorded.date}, {kind} with {cores.removesuffix('c')} cores ({recorded.cpu_model})",
        f"shared with other work, one thread: the fastest of {len(recorded.ms_per_token)} runs, of which the",
        f"least precise kept {min(recorded.bits):g} bits.",
    )
    return "\n".join(lines)


@pytest.mark.parametrize(("question", "page"), CASES, ids=lambda each: each.stem if isinstance(each, Path) else each)
def test_a_page_answers_the_question(question: str, page: Path) -> None:
    assert missing(page.read_text(encoding="utf-8"), ANSWERS[question][page]) == []


@pytest.mark.parametrize(("question", "page"), CASES, ids=lambda each: each.stem if isinstance(each, Path) else each)
def test_without_its_answer_the_question_is_open(question: str, page: Path) -> None:
    paragraphs = page.read_text(encoding="utf-8").split("\n\n")
    for pattern in ANSWERS[question][page]:
        rest = [each for each in paragraphs if not re.search(pattern, " ".join(each.split()))]
        assert len(rest) < len(paragraphs)
        assert missing("\n\n".join(rest), [pattern]) == [pattern]


def test_the_home_page_has_the_figures_of_the_recorded_demo() -> None:
    recorded = terminal.load()
    text = HOME.read_text(encoding="utf-8")
    assert text.partition("<!-- begin: the demo -->\n")[2].partition("\n<!-- end")[0] == demo_sentences()
    agreeing, modules, _, ms = recorded.verdict
    assert agreeing == modules == len(bundled_adapter().modules)
    assert ms == min(recorded.ms_per_token)


def test_the_readmes_totals_are_sums_of_its_own_columns_and_its_security_is_the_tables() -> None:
    text = README.read_text(encoding="utf-8")
    (total,) = re.findall(r"^\| all 60 \|(.+)\|$", text, re.MULTILINE)
    cells = [cell.strip() for cell in total.split("|")]
    stages = [float(cell) for cell in cells[3:6]]
    assert abs(sum(stages) - float(cells[6])) < 0.15
    assert f"{DEFAULT_SECURITY_BITS}-bit security" in text


def test_both_set_up_commands_stand_word_for_word() -> None:
    assert f"```sh\n{SETUP}\nuv run pytest -n auto\n```" in README.read_text(encoding="utf-8")
