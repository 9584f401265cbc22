"""Every command line of ``helora``'s that a page shows is one that its parser takes; nothing is run."""

from __future__ import annotations

import importlib.util

import click
import pytest

from helora_core.cli.main import main
from tests.docs.command_lines import Line, helora_lines, pages, simple_commands, typed

NEEDED = ("helora_harness", "helora_serve", "helora_transformers")
missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
needs_plugins = pytest.mark.skipif(bool(missing), reason=f"pages have commands of {', '.join(missing)}")
PLACEHOLDER = "COMMAND"
"""In ``helora COMMAND --help``."""


def refusal(line: Line) -> str | None:
    """Why the parser does not take a line, or None. Values of options are read as well, but for files."""
    command: click.Command = main
    context = click.Context(main, info_name="helora")
    words = list(line.words)
    try:
        while isinstance(command, click.Group):
            _, words, _ = command.make_parser(context).parse_args(words)
            if not words or (words[0] == PLACEHOLDER and line.inline):
                return None if line.inline else "no command is named"
            _, found, words = command.resolve_command(context, words)
            assert found is not None
            context, command = click.Context(found, parent=context, info_name=found.name), found
        return _refused_by(command, context, words, line)
    except click.UsageError as error:
        return error.format_message()


def _refused_by(command: click.Command, context: click.Context, words: list[str], line: Line) -> str | None:
    if line.inline and words and words[-1].startswith("-"):
        name = words.pop()  # shown without its value
        if not any(name in each.opts + each.secondary_opts for each in command.get_params(context)):
            return f"no such option: {name}"
    values, left, _ = command.make_parser(context).parse_args(words)
    if left and not context.allow_extra_args:
        return f"unexpected: {' '.join(left)}"
    if line.inline or values.get("help"):
        return None
    for each in command.get_params(context):
        value = values.get(each.name or "")
        if value in (None, ()) or each.value_is_missing(value):
            if each.required:
                return f"missing: {each.name}"
        elif not isinstance(each.type, (click.Path, click.File)) and not str(value).startswith("$"):
            each.type_cast_value(context, value)
    return None


@needs_plugins
def test_every_command_line_of_the_documentation_parses() -> None:
    found = [line for page in pages() for line in helora_lines(page)]
    assert len(found) > 150
    assert {line.words[0] for line in found} >= {"bench", "chat", "compile", "demo", "plan", "proxy", "run", "serve"}
    refused = [f"{line}: {why}" for line in found if (why := refusal(line)) is not None]
    assert refused == []


@needs_plugins
@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("demo --modul q_proj", "No such option"),
        ("dmeo", "No such command"),
        ("plan --shape", "requires an argument"),
        ("plan --tokens x --shape 8:8:2", "x"),
        ("compile --adapter a", "missing: target"),
        ("demo extra", "unexpected"),
        ("bench nothing", "No such command"),
        ("bench", "no command is named"),
    ],
)
def test_a_wrong_command_line_is_noticed(words: str, why: str) -> None:
    assert why.lower() in str(refusal(Line("page.md", 1, tuple(words.split()), inline=False))).lower()


def test_commands_are_found_in_scripts() -> None:
    script = "A=1 helora demo --tokens 8 > a 2>&1 &\nuv run helora plan \\\n --shape 8:8:2 && cat x | helora chat # a"
    assert list(filter(None, simple_commands(script))) == [
        ["A=1", "helora", "demo", "--tokens", "8"],
        ["uv", "run", "helora", "plan", "--shape", "8:8:2"],
        ["cat", "x"],
        ["helora", "chat"],
    ]
    assert typed("console", "$ helora demo\noutput\n$ a \\\n  b\n") == "helora demo\na \\\n  b\n"
    assert typed("sh", "$ helora demo\n{\n") == "helora demo\n"
    assert typed("text", "helora demo\n") is None
