"""Wrong command lines, of every command: refused in words, with a status that is not 0, and to programs as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from helora_core.cli.numbers import Real, Whole
from helora_core.cli.options import MOST_TOKENS
from tests.cli.commands import commands, groups

JUDGED_LATER = {"--ring", "--seed"}
"""Whole numbers that the core refuses in words of its own, or that may be any."""

_KINDS = (click.types.FloatParamType, click.types.IntParamType)

NUMBERS = [
    (words, option)
    for words, command in commands().items()
    for option in command.params
    if isinstance(option, click.Option) and isinstance(option.type, _KINDS)
]

UNTYPICAL = ["nan", "inf", "-inf", "1e999", "-1", "abc", ""]


@pytest.mark.parametrize(
    ("words", "option"), NUMBERS, ids=[f"{' '.join(words)} {option.opts[0]}" for words, option in NUMBERS]
)
def test_numbers_are_finite_and_bounded(words: tuple[str, ...], option: click.Option) -> None:
    if not JUDGED_LATER & {*option.opts}:
        assert isinstance(option.type, Real | Whole)
    for value in UNTYPICAL:
        if value != "-1" or not JUDGED_LATER & {*option.opts}:
            with pytest.raises(click.BadParameter):
                option.type.convert(value, option, None)


def test_numbers_of_many_commands_are_looked_at() -> None:
    assert len({words for words, _ in NUMBERS}) > 15


@pytest.mark.parametrize("words", [each for each in commands() if each], ids=" ".join)
def test_an_unknown_option_is_refused_and_named(words: tuple[str, ...], helora: Callable[..., Any]) -> None:
    result = helora(*words, "--no-such-option")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--no-such-option" in result.stderr
    assert f"{' '.join(words)} --help" in result.stderr


@pytest.mark.parametrize("command", ["serve", "chat", "proxy"])
def test_a_command_whose_plugin_is_not_here_says_how_to_get_it(
    command: str, in_new_process: Callable[..., Any]
) -> None:
    result = in_new_process("-m", "helora_core", command, HELORA_PLUGINS="numpy")
    assert result.returncode == 2
    assert command in result.stderr
    assert "pip install" in result.stderr
    assert "HELORA_PLUGINS" in result.stderr


@pytest.mark.parametrize("words", groups(), ids=" ".join)
def test_a_group_alone_says_what_it_has(words: tuple[str, ...], helora: Callable[..., Any]) -> None:
    result = helora(*words)
    assert result.exit_code == 2
    assert "Commands:" in result.stderr
    assert "Error" not in result.stderr


@pytest.mark.parametrize(
    "line",
    [
        ("plan", "--shape", "8:8:2", "--tokens", "abc"),
        ("plan", "--shape"),
        ("demo", "--backnd", "numpy"),
        ("explain", "--model", "qwen"),
        ("model", "fetch", "smolm2"),
        ("bench", "e2e", "--max-seconds", "nan"),
    ],
    ids=" ".join,
)
def test_programs_are_told_what_is_wrong_with_their_line(line: tuple[str, ...], helora: Callable[..., Any]) -> None:
    at = len(line) - line[-1].startswith("--")  # not as the value of the option that has none
    told, shown = helora(*line[:at], "--json", *line[at:]), helora(*line)
    assert told.exit_code == shown.exit_code == 2
    error = json.loads(told.stdout)["error"]
    assert list(error) == ["code", "message", "hint"]
    assert error["code"] == "usage-error"
    assert error["message"].split("\n")[0] in " ".join(shown.stderr.split())


@pytest.mark.parametrize("wrong", ["a-folder", "bytes", "missing/file"])
def test_a_file_that_cannot_be_used_is_named(wrong: str, helora: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "a-folder").mkdir()
    (tmp_path / "bytes").write_bytes(bytes(range(256)))
    for line in (("token", "somebody", "--tokens", wrong), ("bench", "ab", "HEAD", "HEAD", "--out", wrong)):
        if line[0] == "bench" and wrong == "bytes":
            continue  # lines may be added to any file
        before = (tmp_path / "bytes").read_bytes()
        result = helora(*line)
        assert result.exit_code in (1, 2)
        assert wrong in result.stderr
        assert "Traceback" not in result.output
        assert (tmp_path / "bytes").read_bytes() == before


@pytest.mark.parametrize(
    ("text", "refused"),
    [("1", ""), (str(MOST_TOKENS + 1), "range"), ("1,", "whole number"), ("one", "whole number")],
)
def test_numbers_of_tokens_are_called_whole_numbers(text: str, refused: str, helora: Callable[..., Any]) -> None:
    result = helora("plan", "--shape", "8:8:2", "--tokens", text, "--backend", "numpy", "--no-private-weights")
    assert (result.exit_code, refused in result.stderr) == (2 if refused else 0, True)
