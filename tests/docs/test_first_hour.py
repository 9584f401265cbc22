"""The first hour is typed from its page: other pages explain its commands, and its times were measured."""

from __future__ import annotations

import json

from tests.docs.command_lines import ROOT, blocks, pages, typed
from tests.docs.first_hour import BEGIN, COLUMNS, END, PAGE, RESULTS, steps, table, widest

TEXT = PAGE.read_text(encoding="utf-8")
OWN = ("git clone ", "cd ", "python -m venv ", "deactivate", "helora doctor", "python -c ")
"""What needs no other page: it moves about, or shows what another command has done."""


def _without_runner(line: str) -> str:
    """A command as it is typed in an environment that is active; without its comment."""
    return line.partition("   #")[0].partition("  # ")[0].strip().removeprefix("uv run ")


def test_the_commands_of_the_first_hour_are_those_of_the_pages_that_explain_them() -> None:
    elsewhere = {
        _without_runner(line)
        for page in pages()
        if page != PAGE
        for block in blocks(page)
        for line in (typed(block.language, block.text) or "").splitlines()
    }
    prose = "".join(page.read_text(encoding="utf-8") for page in pages() if page != PAGE)
    commands = [line for _, lines in steps(TEXT) for line in lines]
    unknown = [
        line
        for line in commands
        if _without_runner(line) not in elsewhere and f"`{line}`" not in prose and not line.startswith(OWN)
        and not _without_runner(line).startswith(OWN)
    ]  # fmt: skip
    assert len(commands) > 12
    assert unknown == []


def test_the_table_is_of_the_page_and_of_what_was_measured() -> None:
    measured = json.loads(RESULTS.read_text(encoding="utf-8"))
    typed_then = [(each["title"], [one["command"] for one in each["commands"]]) for each in measured["steps"]]
    assert typed_then == steps(TEXT)
    assert TEXT.partition(BEGIN)[2].partition(END)[0] == table(measured)
    assert str(ROOT) not in RESULTS.read_text(encoding="utf-8")


def test_the_width_of_what_was_shown_is_that_of_its_widest_line() -> None:
    assert widest("\x1b[1mab\x1b[0m\r\nabc\rabcd\n") == 4
    assert widest("x" * (COLUMNS + 1)) == COLUMNS + 1
