"""``helora chat URL`` through a proxy: the same conversation, without torch."""

from __future__ import annotations

import json
from typing import Any

import click.testing

from helora_core.cli.main import main


def chat(proxy: Any, *arguments: str, lines: tuple[str, ...] = (), code: int = 0) -> Any:
    typed = "".join(f"{line}\n" for line in lines)
    shown = click.testing.CliRunner().invoke(main, ["chat", proxy.url, *arguments], input=typed, catch_exceptions=False)
    assert shown.exit_code == code, shown.output
    return shown


def test_a_conversation_goes_on_until_it_is_reset(proxy: Any, words: Any) -> None:
    lines = ("one two", "", "three", "/report", "/reset", "four", "/what", "/quit", "five")
    shown = [json.loads(line) for line in chat(proxy, "--json", lines=lines).stdout.splitlines()]
    assert [each["event"] for each in shown] == ["answered", "answered", "report", "reset", "answered", "help"]
    assert [each.get("text") for each in shown if each["event"] == "answered"] == ["one two ", "three ", "four "]
    assert shown[2]["report"]["helora"]["mode"] == "client-key"
    assert shown[2]["report"]["usage"]["completion_tokens"] == 1
    assert [[each["content"] for each in asked.messages] for asked in words.asked] == [
        ["one two"], ["one two", "one two ", "three"], ["four"],
    ]  # fmt: skip
    assert {(asked.model, asked.temperature) for asked in words.asked} == {("words:again", 0.0)}


def test_what_is_refused_or_fails_does_not_end_it(proxy: Any, words: Any) -> None:
    lines = ("one FAIL", "x" * (1 << 21), "two")
    shown = [json.loads(line) for line in chat(proxy, "--json", lines=lines, code=1).stdout.splitlines()]
    assert [each["event"] for each in shown] == ["refused", "refused", "answered"]
    assert shown[0]["error"]["code"] == "proxy-refused"
    assert len(words.asked[-1].messages) == 1  # what got no answer is forgotten
    people = chat(proxy, lines=("one two", "FAIL"), code=1)
    assert people.stdout == "one two \n"
    assert "error [proxy-refused]" in people.stderr


def test_what_the_proxy_decides_is_not_decided_here(proxy: Any) -> None:
    for arguments in (("--base", "x"), ("--ahead", "40"), ("--adapter", "tcp://127.0.0.1:1"), ("--adapter-name", "no")):
        error = json.loads(chat(proxy, "--json", *arguments, code=1).stdout)["error"]
        assert error["code"] == "invalid-input"
    proxy.server.should_exit = True
    shown = click.testing.CliRunner().invoke(main, ["chat", "http://127.0.0.1:1/v1", "--json"])
    assert json.loads(shown.stdout)["error"]["code"] == "connection-lost"
