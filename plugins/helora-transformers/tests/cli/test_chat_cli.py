"""``helora chat``: through a pipe, and at a terminal with its Ctrl-C."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

Run = Callable[..., Any]


def documents(result: Any) -> list[Any]:
    return [json.loads(line) for line in result.stdout.splitlines()]


class TestPipe:
    def test_a_document_a_message(self, run: Run, place: Any) -> None:
        lines = ("w7", "", "w9 w10", "/report", "/reset", "w7", "/what", "/quit", "w11")
        shown = documents(run("chat", *place(), "--json", lines=lines))
        assert [each["event"] for each in shown] == ["answered", "answered", "report", "reset", "answered", "help"]
        first, second, report, _, again, _ = shown
        assert [each["variant"] for each in first["answers"]] == ["base", "encrypted"]
        for one, other in zip(first["answers"], again["answers"], strict=True):
            assert one["tokens"] == other["tokens"]
            assert one["prompt_tokens"] == other["prompt_tokens"] == 4
        assert all(each["prompt_tokens"] > 4 for each in second["answers"])  # it has read the first message too
        asked = first["answers"][1], second["answers"][1]
        assert report["report"]["tokens"] == sum(
            each[part]["tokens"] for each in asked for part in ("prompt", "decode")
        )

    def test_people_read_text_and_a_line_of_figures(self, run: Run, place: Any) -> None:
        shown = run("chat", *place(), "--no-compare", lines=("w7", "/report"))
        lines = shown.stdout.splitlines()
        assert lines[1].startswith("encrypted LoRA: 6 tokens")
        assert "ms/token (base" in lines[1]
        assert any(line.startswith("query budget") for line in lines)
        assert "nobody is protected" in shown.stderr
        assert "nothing is encrypted" in run("chat", *place(), "--mode", "plaintext", lines=("/report",)).stdout

    def test_a_message_that_is_refused_does_not_end_it(self, run: Run, place: Any) -> None:
        lines = ("w7", "w8 " * 130, "w9")
        shown = run("chat", *place(), "--no-compare", "--json", lines=lines, code=1)
        events = documents(shown)
        assert [each["event"] for each in events] == ["answered", "refused", "answered"]
        assert events[1]["error"]["code"] == "invalid-input"
        assert events[2]["answers"][0]["prompt_tokens"] < 130
        assert "error [invalid-input]" in run("chat", *place(), "--no-compare", lines=lines, code=1).stderr

    def test_nobody_is_asked_to_accept_anything(self, refusal: Run, place: Any) -> None:
        assert refusal("chat", *place(), "--ahead", 40, lines=("y", "w7"))["code"] == "leakage-refused"


@pytest.fixture
def terminal() -> Iterator[Callable[..., Any]]:
    """``helora chat *arguments`` at a terminal of its own."""
    pty = pytest.importorskip("pty", reason="there are no pseudoterminals here")
    started: list[Terminal] = []

    def start(*arguments: object) -> Terminal:
        number, descriptor = pty.fork()
        if number == 0:  # pragma: no cover - the child
            os.environ |= {"TERM": "dumb", "COLUMNS": "80", "HELORA_BACKEND": "rns"}
            os.execv(sys.executable, [sys.executable, "-m", "helora_core", "chat", *map(str, arguments)])
        started.append(Terminal(number, descriptor))
        return started[-1]

    yield start
    for each in started:
        each.end()


class Terminal:
    """A process at a terminal."""

    def __init__(self, number: int, descriptor: int) -> None:
        self._number, self._descriptor = number, descriptor
        self._shown, self._code = "", None

    def type(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    def wait_for(self, pattern: str, seconds: float = 60) -> str:
        """What was shown up to the pattern; it is not looked at again."""
        deadline = time.monotonic() + seconds
        while not (found := re.search(pattern, self._shown)):
            assert time.monotonic() < deadline, self._shown
            if select.select([self._descriptor], [], [], 0.5)[0]:
                try:
                    self._shown += os.read(self._descriptor, 4096).decode(errors="replace")
                except OSError:
                    pytest.fail(f"it ended: {self._shown}")
        before, self._shown = self._shown[: found.end()], self._shown[found.end() :]
        return before

    def exit_code(self) -> int:
        while True:
            try:
                if not os.read(self._descriptor, 4096):
                    break
            except OSError:
                break
        _, status = os.waitpid(self._number, 0)
        self._code = os.waitstatus_to_exitcode(status)
        return self._code

    def end(self) -> None:
        if self._code is None:
            os.kill(self._number, signal.SIGKILL)
            os.waitpid(self._number, 0)
        os.close(self._descriptor)


def test_ctrl_c_cancels_an_answer_and_ctrl_d_ends_it(terminal: Run, place: Any) -> None:
    arguments = ("--base", place.base, "--adapter", place.adapter, "--no-compare", "--max-new-tokens", 60)
    talk = terminal(*arguments, "--ahead", 100)
    talk.wait_for(r"Do you accept that of every client\? \[y/N\]")
    talk.type("y\n")
    talk.wait_for("Ctrl-C cancels an answer")
    talk.wait_for("> ")
    talk.type("\x03")  # at the prompt it does nothing
    talk.wait_for("> ")
    talk.type("w7\n")
    talk.wait_for(r"w7\s+w\d+ ")
    talk.type("\x03")
    assert "cancelled" in talk.wait_for("enough for .* tokens left")
    talk.wait_for("> ")
    talk.type("/quit\n")
    assert talk.exit_code() == 0


def test_what_is_not_accepted_is_refused(terminal: Run, place: Any) -> None:
    talk = terminal("--base", place.base, "--adapter", place.adapter, "--ahead", 100)
    talk.wait_for(r"\[y/N\]")
    talk.type("\n")
    talk.wait_for(r"error \[leakage-refused\]")
    assert talk.exit_code() == 1
