"""Hints name commands and options that there are: every one that the sources can give is read."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import helora_core
from tests.cli.commands import commands, groups, options

ROOT = Path(helora_core.__file__).parents[1]
SOURCES = sorted([*ROOT.glob("helora_core/**/*.py"), *ROOT.glob("plugins/helora-*/src/**/*.py"),
                  *ROOT.glob("harness/src/**/*.py")])  # fmt: skip

ELSEWHERE = {
    "--outtype": "llama.cpp's converter",
    "--force-reinstall": "pip",
    "--no-cache-dir": "pip",
    "--no-deps": "pip",
    "--benchmark-json": "pytest",
    "--group": "uv",
}
"""Options of other programs that hints name."""

_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
_COMMAND = re.compile(r"(?:`|\b[Rr]un |: |\b[Uu]se |\bor |\bwith )helora ((?:[a-z][a-z-]* ?){1,2})([^`.;)]*)")
_LOOSE = re.compile(r"\bhelora ([a-z][a-z-]*)")
_PROSE = {"on", "there", "that", "artifact", "payload", "hook", "which", "or", "reads", "made", "is"}
"""Words that follow helora where it is no command."""


def texts(tree: ast.Module, node: ast.AST, depth: int = 0) -> Iterator[str]:
    """The texts that an expression can be, by names and functions of the module too; ``…`` for what is filled in."""
    if isinstance(node, ast.Constant):
        if isinstance(node.value, str):
            yield node.value
    elif isinstance(node, ast.JoinedStr):
        parts = (each.value if isinstance(each, ast.Constant) else "…" for each in node.values)
        yield "".join(map(str, parts))
        for each in node.values:
            if isinstance(each, ast.FormattedValue):
                yield from texts(tree, each.value, depth)
    elif isinstance(node, ast.BinOp):
        for left in list(texts(tree, node.left, depth)) or [""]:
            for right in list(texts(tree, node.right, depth)) or [""]:
                yield left + right
    elif isinstance(node, ast.IfExp):
        yield from (*texts(tree, node.body, depth), *texts(tree, node.orelse, depth))
    elif depth < 3 and isinstance(node, ast.Name):
        for each in ast.walk(tree):
            named = each.targets if isinstance(each, ast.Assign) else []
            if isinstance(each, ast.Assign) and any(isinstance(to, ast.Name) and to.id == node.id for to in named):
                yield from texts(tree, each.value, depth + 1)
    elif depth < 3 and isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        for each in ast.walk(tree):
            if isinstance(each, ast.FunctionDef) and each.name == node.func.id:
                for inner in ast.walk(each):
                    if isinstance(inner, ast.Return) and inner.value is not None:
                        yield from texts(tree, inner.value, depth + 1)


def hints() -> Iterator[tuple[str, str]]:
    """Each hint, and each message of a wrong command line, with the file and line that it stands in."""
    for path in SOURCES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            given = [keyword.value for keyword in node.keywords if keyword.arg in ("hint", "next_step")]
            if isinstance(node.func, ast.Attribute) and node.func.attr in ("UsageError", "BadParameter"):
                given += node.args[:1]
            for each in given:
                yield from ((f"{path.relative_to(ROOT)}:{each.lineno}", text) for text in texts(tree, each))


COMMANDS = commands()
EVERY_OPTION = {option for command in COMMANDS.values() for option in options(command)}
FOUND = list(hints())


def wrong(text: str) -> Iterator[str]:
    """What a hint names that there is not."""
    for option in _OPTION.findall(text):
        if option not in EVERY_OPTION and option not in ELSEWHERE:
            yield f"no command has {option}"
    for words, rest in _COMMAND.findall(text):
        named = tuple(words.split())
        command = COMMANDS.get(named) or COMMANDS.get(named[:1])
        if command is None and named[:1] not in groups():
            yield f"there is no helora {words.strip()}"
        elif command is not None:
            for option in _OPTION.findall(rest):
                if option not in options(command) and option not in ELSEWHERE:
                    yield f"helora {words.strip()} has no {option}"
    for word in _LOOSE.findall(text):
        if (word,) not in COMMANDS and (word,) not in groups() and word not in _PROSE:
            yield f"there is no helora {word}"


_QUOTED = re.compile(r"`helora ([^`]+)`|: helora ([^`;.]+)$")


def unparsed(text: str) -> Iterator[str]:
    """What is wrong with the command lines that a hint gives whole: in backticks, or after a colon to its end."""
    for quoted, at_end in _QUOTED.findall(text):
        words = shlex.split(quoted or at_end)
        named = next((tuple(words[:n]) for n in (3, 2, 1) if tuple(words[:n]) in COMMANDS), None)
        if named is None:
            if (words[0],) not in groups():
                yield f"helora {' '.join(words)}: no such command"
            continue
        command, rest = COMMANDS[named], words[len(named) :]
        context = click.Context(command, info_name=named[-1])
        try:
            _, left, _ = command.make_parser(context).parse_args(rest)
        except click.UsageError as error:
            yield f"helora {' '.join(words)}: {error.format_message()}"
        else:
            if left:
                yield f"helora {' '.join(words)}: {left} is too much"


def test_command_lines_in_hints_can_be_parsed() -> None:
    faults = {f"{where}: {fault}" for where, text in FOUND for fault in unparsed(text)}
    assert sorted(faults) == []
    assert sum(bool(_QUOTED.search(text)) for _, text in FOUND) >= 25


@pytest.mark.parametrize(
    "text", ["`helora doctor now`", "Make it: helora compile --out", "`helora calibrate --rounds`"]
)
def test_a_command_line_that_cannot_be_parsed_is_found(text: str) -> None:
    assert list(unparsed(text))


def test_hints_name_commands_and_options_that_there_are() -> None:
    assert len(FOUND) > 500
    assert sorted({f"{where}: {fault}" for where, text in FOUND for fault in wrong(text)}) == []


@pytest.mark.parametrize(
    "text",
    ["Pass --no-privat-weights.", "Run helora calibrat --force.", "`helora calibrate --tokens 3`", "Use helora dmeo."],
)
def test_a_hint_that_names_what_there_is_not_is_found(text: str) -> None:
    assert list(wrong(text))


def test_options_of_other_programs_are_still_named() -> None:
    assert {option for _, text in FOUND for option in _OPTION.findall(text)} >= set(ELSEWHERE)
