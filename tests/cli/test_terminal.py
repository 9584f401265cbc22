"""Prose in terminals: lines fit, words stay, and what is said while somebody waits is gone afterwards."""

from __future__ import annotations

import time

import click
import hypothesis.strategies as st
import pytest
from hypothesis import given

from helora_core.cli.output import working
from helora_core.cli.terminal import LONGEST_LINE, wrapped
from tests.cli.screens import screen

words = st.text("abcxyzΔ-/.", min_size=1, max_size=14)
prose = st.lists(st.lists(words, max_size=40).map(" ".join), min_size=1, max_size=4).map("\n".join)


@given(text=prose, indent=st.integers(0, 4), hanging=st.integers(0, 4), columns=st.integers(24, 200))
def test_lines_fit_and_words_stay_whole_and_in_order(text: str, indent: int, hanging: int, columns: int) -> None:
    text = "\n".join(" " * indent + line for line in text.split("\n"))
    shown = wrapped(text, columns, hanging=hanging)
    assert shown.split() == text.split()
    assert max(map(len, shown.split("\n"))) <= min(columns, LONGEST_LINE)
    assert all(line.startswith(" " * indent) for line in shown.split("\n") if line.strip())


@given(text=prose)
def test_where_there_is_no_terminal_nothing_is_broken(text: str) -> None:
    assert wrapped(text, None, hanging=2) == text


@given(text=prose, columns=st.integers(40, 200))
def test_beside_a_label_continuations_stand_below_the_text(text: str, columns: int) -> None:
    line = f"  {'label':<16}" + " ".join(text.split())
    first, *others = wrapped(line, columns, margin=18).split("\n")
    assert first.startswith("  label")
    assert all(other.startswith(" " * 18) and not other[18:19].isspace() for other in others)


@click.command()
@click.argument("seconds", type=float)
def wait(seconds: float) -> None:
    """Somebody waits."""
    with working("counting sheep"):
        time.sleep(seconds)
    click.echo("done")


@pytest.mark.parametrize(("seconds", "said"), [(0.0, False), (1.5, True)])
def test_what_is_being_done_is_said_to_those_who_wait_and_erased_again(seconds: float, said: bool) -> None:
    shown = screen([seconds], width=80, command=wait)
    assert (shown.text, shown.status) == ("done\n", 0)
    assert ("counting sheep" in shown.raw) == said


def test_nobody_is_told_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    wait.main(["1.2"], standalone_mode=False)
    assert capsys.readouterr() == ("done\n", "")
