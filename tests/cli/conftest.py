"""What the tests of the command line share: ``helora`` itself, away from the user's settings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click.testing
import numpy as np
import pytest

import helora_core
from helora_core.adapter.lora import LoRAModule
from helora_core.cli.main import main
from helora_core.compiler.compile import compile_request
from helora_core.compiler.plan import Plan
from helora_core.compiler.plan_cache import PlanCache
from helora_core.compiler.request import PlanRequest
from helora_core.packing.protocol import Packing
from helora_core.planning import compiling, planner

REPOSITORY = Path(helora_core.__file__).parents[1]


@pytest.fixture(autouse=True)
def _nobodys_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No helora.toml, and no variable of the user's, reaches a command; each starts in an empty directory."""
    for name in list(os.environ):
        if name.startswith("HELORA_"):
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session", autouse=True)
def _compiled_once() -> Iterator[None]:
    """Hundreds of commands plan the same adapters: a packing compiles each of their requests once in this process."""
    caches: dict[Packing, PlanCache] = {}

    def compiled(request: PlanRequest, packing: Packing) -> Plan:
        if packing not in caches:
            caches[packing] = PlanCache(lambda asked: (compile_request(asked, packing),), capacity=10_000)
        (plan,) = caches[packing].plans(request)
        return plan

    with pytest.MonkeyPatch.context() as patch:
        for room in (compiling, planner):
            patch.setattr(room, "compile_request", compiled)
        yield


@pytest.fixture
def helora() -> Callable[..., click.testing.Result]:
    """``helora(*arguments)`` in this process. Anything but an exit of the command is raised."""

    def run(*arguments: object) -> click.testing.Result:
        return click.testing.CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)

    return run


@pytest.fixture
def helora_json(helora: Callable[..., click.testing.Result]) -> Callable[..., Any]:
    """The one JSON document that ``helora(*arguments, "--json")`` prints, which has to succeed."""

    def run(*arguments: object) -> Any:
        result = helora(*arguments, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    return run


@pytest.fixture
def refusal(helora: Callable[..., click.testing.Result]) -> Callable[..., dict[str, str]]:
    """What ``helora(*arguments)`` refuses: said to people and, as the one document there is, to programs."""

    def run(*arguments: object) -> dict[str, str]:
        told, shown = helora(*arguments, "--json"), helora(*arguments)
        assert told.exit_code == shown.exit_code == 1
        document = json.loads(told.stdout)
        assert list(document) == ["error"]
        error: dict[str, str] = document["error"]
        assert list(error) == ["code", "message", "hint"]
        assert all(error.values())
        assert f"error [{error['code']}]" in shown.stderr
        assert "hint: " in shown.stderr
        assert "Traceback" not in shown.output
        return error

    return run


@pytest.fixture
def turned_away() -> Callable[..., LoRAModule]:
    """A module with the same ``up`` whose ``down`` sees next to nothing of these tokens: few bits of Δ are left."""

    def turning(module: LoRAModule, x: Any, *, left: float = 1e-6) -> LoRAModule:
        basis, _ = np.linalg.qr(np.asarray(x, dtype=np.float64).T)
        seen = (module.down @ basis) @ basis.T
        return LoRAModule(module.name, module.down - (1 - left) * seen, module.up, module.scaling)

    return turning


@pytest.fixture
def in_new_process() -> Callable[..., subprocess.CompletedProcess[str]]:
    """``python *arguments`` in a process of its own, with more variables set."""

    def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            env={**os.environ, **environ},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def documented() -> Callable[..., set[str]]:
    """Names in the first column of a table of docs/cli.md: that headed ``column`` in the section of that title."""
    text = (REPOSITORY / "docs" / "cli.md").read_text(encoding="utf-8")

    def names(section: str, column: str = "key") -> set[str]:
        _, _, after = text.partition(f"# {section}\n")
        assert after, f"docs/cli.md has no section {section!r}"
        body = after.partition("\n## ")[0].partition("\n### ")[0]
        _, _, table = body.partition(f"| {column} |")
        assert table, f"section {section!r} has no table headed {column!r}"
        rows = table.partition("\n\n")[0].splitlines()[2:]
        return {name.strip("`") for row in rows for name in row.split("|")[1].strip().split(", ")}

    return names


@pytest.fixture
def on_seal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands compile for SEAL, whose plans are those of a backend that is not known."""
    monkeypatch.setenv("HELORA_BACKEND", "tenseal")
