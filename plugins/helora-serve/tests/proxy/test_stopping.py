"""A text is cut before the first stop text, whatever pieces it comes in, and nothing of a stop text is passed on."""

from __future__ import annotations

from typing import Any

import hypothesis
from hypothesis import strategies

from helora_serve.proxy.stopping import Stopping

LETTERS = strategies.text("abc", max_size=30)
STOPS = strategies.lists(strategies.text("abc", min_size=1, max_size=4), max_size=4)


def pieces_of(data: Any, text: str) -> list[str]:
    """The text, cut at drawn places."""
    cuts = sorted(data.draw(strategies.lists(strategies.integers(0, len(text)), max_size=8)))
    return [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]


def passed(pieces: list[str], stops: list[str], **how: Any) -> tuple[list[str], bool]:
    stopping = Stopping(stops)
    return [*(stopping.feed(each) for each in pieces), stopping.rest(**how)], stopping.met


def cut(text: str, stops: list[str]) -> tuple[str, bool]:
    """What is meant: read letter by letter, and when a stop text is complete, drop it."""
    for end in range(len(text) + 1):
        complete = [stop for stop in stops if text[:end].endswith(stop)]
        if complete:
            return text[: end - max(map(len, complete))], True
    return text, False


@hypothesis.given(strategies.data(), LETTERS, STOPS)
def test_what_is_passed_on_does_not_depend_on_the_pieces(data: Any, text: str, stops: list[str]) -> None:
    passed_on, met = passed(pieces_of(data, text), stops)
    assert ("".join(passed_on), met) == cut(text, stops)


@hypothesis.given(strategies.data(), LETTERS, STOPS)
def test_no_more_is_held_back_than_may_become_a_stop_text(data: Any, text: str, stops: list[str]) -> None:
    stopping, fed, given = Stopping(stops), "", ""
    for piece in pieces_of(data, text):
        fed += piece
        given += stopping.feed(piece)
        if not stopping.met:
            held = fed[len(given) :]
            assert not held or any(stop.startswith(held) for stop in stops)


@hypothesis.given(strategies.data(), strategies.text("aé✓\ufffd", max_size=12))
def test_half_a_character_is_passed_on_only_if_more_follows_or_the_text_ends_with_it(data: Any, text: str) -> None:
    pieces = pieces_of(data, text)
    *before, rest = passed(pieces, [])[0]
    assert "".join([*before, rest]) == text
    assert not "".join(before).endswith("\ufffd")
    assert "".join(passed(pieces, [], cut_off=True)[0]) == text.rstrip("\ufffd")
