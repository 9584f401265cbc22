"""``helora chat``: through a pipe, and at a terminal with its Ctrl-C."""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import click.testing
import pytest

import helora_core as helora
from helora_core.errors import LeakageRefused
from helora_core.privacy.leakage import Assumption
from helora_transformers.cli.opening import _accepted
from helora_transformers.cli.options import Asked
from helora_transformers.link.host import Host
from helora_transformers.link.relay import Relay
from helora_transformers.modes import Mode

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


def test_a_host_that_is_gone_ends_it(place: Any) -> None:
    compiled = helora.compile(place.adapter, backend="rns", packing="rank_bsgs")
    host = Host(helora.Server(compiled), "tcp://127.0.0.1:0")
    arguments = ("chat", *place(host.address), "--no-compare", "--json")
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    command = [sys.executable, "-m", "helora_core", *arguments]
    with subprocess.Popen(command, text=True, encoding="utf-8", **pipes) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write("w7\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["event"] == "answered"
        host.stop()
        rest, _ = process.communicate("w8\nw9\n", timeout=30)
    assert json.loads(rest)["error"]["code"] == "connection-lost"
    assert process.returncode == 1


_AT_TERMINAL = (
    "import fcntl, os, signal, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.executable, sys.argv[1:])"
)
"""A process of a session of its own makes standard input its terminal, whose Ctrl-C is its own then. It heeds Ctrl-C,
which what a shell starts in the background inherits to ignore.
"""


@pytest.fixture
def terminal() -> Iterator[Callable[..., Any]]:
    """``helora chat *arguments`` at a terminal of its own."""
    pytest.importorskip("termios", reason="there are no pseudoterminals here")
    started: list[Terminal] = []

    def start(*arguments: object) -> Terminal:
        started.append(Terminal(["-m", "helora_core", "chat", *map(str, arguments)]))
        return started[-1]

    yield start
    for each in started:
        each.end()


class Terminal:
    """A process at a terminal."""

    def __init__(self, arguments: list[str]) -> None:
        self._descriptor, end = os.openpty()
        self._process = subprocess.Popen(
            [sys.executable, "-c", _AT_TERMINAL, sys.executable, *arguments],
            stdin=end, stdout=end, stderr=end, start_new_session=True,
            env={**os.environ, "TERM": "dumb", "COLUMNS": "80"},
        )  # fmt: skip
        os.close(end)
        self._shown = ""

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

    def press(self, key: str, pattern: str) -> None:
        """A key, until the pattern is shown: a signal before the line editor waits is noted with the next key alone."""
        for _ in range(20):
            self.type(key)
            with suppress(AssertionError):
                self.wait_for(pattern, seconds=2)
                return
        pytest.fail(f"pressed, and nothing came of it: {self._shown}")

    def exit_code(self) -> int:
        """Once the process has ended; what it still shows is read."""
        with suppress(OSError):
            while os.read(self._descriptor, 4096):
                pass
        return self._process.wait(20)

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._descriptor)


def test_ctrl_c_cancels_an_answer_and_ctrl_d_ends_it(terminal: Run, place: Any, hosted: str) -> None:
    with Relay(hosted, delay_ms=20) as slow:  # so that a token takes a tenth of a second
        arguments = ("--base", place.base, "--adapter", slow, "--adapter-name", "one", "--no-compare")
        talk = terminal(*arguments, "--max-new-tokens", 110)
        talk.wait_for("Ctrl-C cancels an")
        talk.wait_for("> ")
        talk.press("\x03", "> ")  # at the prompt it does nothing
        talk.type("w7\n")
        talk.wait_for(r"w7\s+w\d+ ")
        talk.type("\x03")
        assert "cancelled" in talk.wait_for("KiB down")
        talk.wait_for("> ")
        talk.type("w8\n")
        talk.wait_for(r"w8\s+w\d+ ")
        talk.type("\x03")
        talk.wait_for("cancelled")
        talk.wait_for("> ")
        talk.type("\x04")
        assert talk.exit_code() == 0


def test_an_assumption_is_accepted_once_and_by_yes_alone() -> None:
    asked: Any = Asked(
        "base", None, None, Mode.CLIENT_KEY, 6, ahead=40, fallback="wait", assume=frozenset(), backend=None,
        packing="auto", allow_emulation=False, compare=True,
    )  # fmt: skip
    runner = click.testing.CliRunner()
    with runner.isolation(input="y\n"):
        accepted = _accepted(asked, confirm=True)
    assert accepted.assume == {Assumption.HONEST_KEYS}
    assert _accepted(accepted, confirm=False) is accepted
    for answer in ("n\n", "\n"):
        with runner.isolation(input=answer), pytest.raises(LeakageRefused):
            _accepted(asked, confirm=True)


def test_what_is_not_accepted_is_refused(terminal: Run, place: Any) -> None:
    talk = terminal("--base", place.base, "--adapter", place.adapter, "--ahead", 100)
    talk.wait_for(r"\[y/N\]")
    talk.type("\n")
    talk.wait_for(r"error \[leakage-refused\]")
    assert talk.exit_code() == 1
