"""The contract: its examples run through the real host, and docs/hooks.md says the same as the code."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pluggy
import pytest
from click.testing import CliRunner

from helora_core import hookspecs
from helora_core.host.manager import PluginManager
from helora_core.host.records import Stage
from helora_core.specs import TelemetryEvent

DOCS = (Path(__file__).parents[1] / "docs" / "hooks.md").read_text(encoding="utf-8")
HOOKS = [name for name in vars(hookspecs) if name.startswith("helora_")]


def example_of(hook: str) -> str:
    """The example in the hook's docstring."""
    docstring = inspect.getdoc(getattr(hookspecs, hook)) or ""
    return textwrap.dedent(docstring.partition("Example::\n\n")[2])


@pytest.fixture
def install_example(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], PluginManager]:
    """Make a plugin of a hook's example and load it beside core."""

    def install(hook: str) -> PluginManager:
        module = f"example_of_{hook}"
        (tmp_path / f"{module}.py").write_text(example_of(hook), encoding="utf-8")
        monkeypatch.syspath_prepend(str(tmp_path))
        return PluginManager.discover([EntryPoint("acme", module, hookspecs.PROJECT)], environ={})

    return install


def check_backends(manager: PluginManager, _: Any) -> None:
    assert manager.backends()["acme"].availability == "the library acmefhe is not installed"


def check_packings(manager: PluginManager, _: Any) -> None:
    assert manager.packings()["acme_diagonal"].plugin == "acme"


def check_cli_commands(manager: PluginManager, _: Any) -> None:
    (command,) = (command for command in manager.cli_commands() if command.name == "acme-devices")
    assert CliRunner().invoke(command).output == "acme0\n"


def check_telemetry_sinks(manager: PluginManager, capsys: pytest.CaptureFixture[str]) -> None:
    for sink in manager.telemetry_sinks():
        sink(TelemetryEvent(name="module.executed", elapsed_ns=1_500_000))
    assert capsys.readouterr().out == "module.executed took 1.5 ms\n"


def check_plan_compiled(manager: PluginManager, capsys: pytest.CaptureFixture[str]) -> None:
    manager.notify_plan_compiled(SimpleNamespace(digest="c0ffee"))
    assert capsys.readouterr().out == "compiled c0ffee\n"


CHECKS = {
    "helora_backends": check_backends,
    "helora_packings": check_packings,
    "helora_cli_commands": check_cli_commands,
    "helora_telemetry_sinks": check_telemetry_sinks,
    "helora_plan_compiled": check_plan_compiled,
}


@pytest.mark.parametrize("hook", HOOKS)
def test_the_example_of_every_hook_is_a_plugin_that_works(
    hook: str, install_example: Callable[[str], PluginManager], capsys: pytest.CaptureFixture[str]
) -> None:
    manager = install_example(hook)
    CHECKS[hook](manager, capsys)
    assert "acme" in {origin.plugin for origin in manager.plugins}
    assert manager.failures == ()


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_is_a_hookspec(hook: str) -> None:
    host = pluggy.PluginManager(hookspecs.PROJECT)
    host.add_hookspecs(hookspecs)
    assert getattr(host.hook, hook).has_spec()


@pytest.mark.parametrize("hook", HOOKS)
def test_the_docs_give_the_exact_signature_of_every_hook(hook: str) -> None:
    signature = str(inspect.signature(getattr(hookspecs, hook))).replace("'", "")
    assert f"### `{hook}{signature}`\n" in DOCS


@pytest.mark.parametrize("hook", HOOKS)
def test_the_docs_give_the_example_of_every_hook(hook: str) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", DOCS, flags=re.MULTILINE | re.DOTALL)
    # Compared as code: the formatter lays out a Markdown block, and leaves a docstring alone.
    assert ast.dump(ast.parse(example_of(hook))) in [ast.dump(ast.parse(block)) for block in blocks]


def test_the_docs_describe_no_hook_that_is_not() -> None:
    assert re.findall(r"^### `(\w+)", DOCS, flags=re.MULTILINE) == HOOKS


def test_the_docs_have_every_stage_at_which_a_plugin_can_fail() -> None:
    assert set(re.findall(r"^\| `(\w+)` \| `plugin-", DOCS, flags=re.MULTILINE)) == set(get_args(Stage))


def test_the_docs_have_every_environment_variable_of_the_host() -> None:
    source = inspect.getsource(inspect.getmodule(PluginManager))
    read = set(re.findall(r'environ\.get\("(\w+)"\)', source))
    assert read == set(re.findall(r"^\| `(HELORA_\w+)`", DOCS, flags=re.MULTILINE)) != set()
