"""Imports go one way, and importing helora loads nothing heavy. Read off the source, then seen in a fresh process."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import requires
from pathlib import Path

import pytest

import helora_core

PACKAGE = Path(helora_core.__file__).parent
REPOSITORY = PACKAGE.parent
FILES = sorted(PACKAGE.rglob("*.py"))
Imports = dict[Path, set[str]]

MAY_IMPORT: dict[str, str] = {
    # The layers, each with all that it may know of, for types or at run time, at the top or in a function.
    "errors": "",
    "files": "errors",
    "installing": "",
    "specs": "",
    "privacy": "errors",
    "params": "errors",
    "adapter": "errors files params",
    "backend": "errors installing files params",
    "packing": "errors params adapter privacy",
    "compiler": "errors params adapter privacy packing backend",
    "execution": "errors params adapter privacy packing backend compiler specs",
    # The plugin host, which names the layers' types only.
    "hookspecs": "specs compiler",
    "host": "errors specs hookspecs packing backend compiler",
    # What stands on all of it.
    "planning": "errors installing files params adapter privacy packing backend compiler execution host",
    "artifact": "errors files params adapter privacy packing backend compiler execution",
    "parties": "errors files params adapter privacy packing backend compiler execution planning host artifact",
    "data": "errors adapter",
    "conformance": "errors installing files specs params adapter privacy packing backend compiler execution parties "
    "host data",
    "cli": "errors installing files specs params adapter privacy packing backend compiler execution planning parties "
    "artifact host data conformance",
    "__init__": "",
    "__main__": "cli",
}
MAY_IMPORT_ONE: dict[str, str] = {
    # How vectors are encoded is said in the words of a backend's capabilities; of backends it may know no more.
    "packing": "helora_core.backend.capabilities",
}
"""Single modules of areas that are otherwise out of reach."""

DEPENDENCIES = {"click", "msgspec", "numpy", "pluggy", "rich", "safetensors", "tomli"}
LIGHT = {"click", "msgspec", "tomli"}
STDLIB = sys.stdlib_module_names | {"tomllib"}  # tomllib is new in Python 3.11; before, tomli stands in for it


def area(module: str) -> str:
    """The part of helora_core that a dotted module name belongs to."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def area_of_file(file: Path) -> str:
    return file.relative_to(PACKAGE).with_suffix("").parts[0]


def imported(node: ast.AST) -> Iterator[str]:
    """Full names of the modules imported anywhere below ``node``."""
    for child in ast.walk(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "relative imports are banned"
            module = child.module or ""
            # ``from helora_core import hookspecs`` imports a module, ``from helora_core import __version__`` does not.
            submodules = [alias.name for alias in child.names if alias.name in MAY_IMPORT and module == "helora_core"]
            yield from (f"{module}.{name}" for name in submodules) if submodules else (module,)


def imported_on_import(file: Path) -> set[str]:
    """Full names of the modules that a file imports when it is itself imported, types aside."""
    names: set[str] = set()
    for statement in ast.parse(file.read_bytes()).body:
        for_types = isinstance(statement, ast.If) and ast.unparse(statement.test) == "TYPE_CHECKING"
        if not for_types:
            names.update(name for part in _run_on_import(statement) for name in imported(part))
    return names


def _run_on_import(statement: ast.stmt) -> Iterator[ast.AST]:
    """The parts of a statement that run when its module is imported: of classes all but their methods' bodies."""
    if isinstance(statement, ast.ClassDef):
        for inner in statement.body:
            yield from _run_on_import(inner)
    elif not isinstance(statement, ast.FunctionDef):
        yield statement


def newly_loaded(*modules: str) -> set[str]:
    """Top-level packages, the standard library aside, that importing ``modules`` loads in a fresh process."""
    code = (
        "import importlib, sys\n"
        "before = set(sys.modules)\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names))\n"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=60
    )
    return set(shown.stdout.split())


@pytest.fixture(scope="module")
def imports() -> Imports:
    """All that each file imports, anywhere in it."""
    return {file: set(imported(ast.parse(file.read_bytes()))) for file in FILES}


def test_the_layers_are_in_order() -> None:
    known: set[str] = set()
    for name, others in MAY_IMPORT.items():
        assert set(others.split()) <= known, f"{name} is allowed to import something that stands above it"
        known.add(name)
        if name in MAY_IMPORT_ONE:
            assert area(MAY_IMPORT_ONE[name]) in known - set(others.split()) - {name}


def test_imports_go_one_way(imports: Imports) -> None:
    unplaced = {area_of_file(file) for file in imports} - MAY_IMPORT.keys()
    assert not unplaced, f"say in MAY_IMPORT where they stand: {unplaced}"
    wrong = [
        f"{file.relative_to(PACKAGE)} must not import {module}"
        for file, modules in imports.items()
        for module in sorted(modules)
        if module.partition(".")[0] == "helora_core"
        and module != MAY_IMPORT_ONE.get(own := area_of_file(file))
        and area(module) not in {own, "__init__", *MAY_IMPORT[own].split()}
    ]
    assert not wrong, "\n".join(wrong)


def test_core_imports_its_dependencies_and_nothing_else(imports: Imports) -> None:
    """No plugin and no library for homomorphic encryption is among them. The conformance kit is a plugin of pytest."""
    wrong = [
        f"{file.relative_to(PACKAGE)} imports {foreign}"
        for file, modules in imports.items()
        if (
            foreign := {module.partition(".")[0] for module in modules}
            - (STDLIB | DEPENDENCIES | {"helora_core"})
            - ({"pytest", "hypothesis"} if area_of_file(file) == "conformance" else set())
        )
    ]
    assert not wrong, "\n".join(wrong)


def test_the_dependencies_are_those_declared() -> None:
    declared = [name for name in requires("helora-core") or [] if "extra ==" not in name]
    assert {re.split(r"[^\w-]", name)[0] for name in declared} == DEPENDENCIES


def test_importing_helora_loads_nothing_else() -> None:
    assert newly_loaded("helora_core") == {"helora_core"}


def test_the_plugin_contract_needs_pluggy_alone() -> None:
    assert newly_loaded("helora_core.hookspecs", "helora_core.specs", "helora_core.host.builtin") == {
        "helora_core",
        "pluggy",
    }


CLI = sorted(f"helora_core.cli.{file.stem}" for file in (PACKAGE / "cli").glob("[!_]*.py"))


def test_the_command_line_starts_with_click_alone() -> None:
    assert newly_loaded("helora_core.cli.main") == {"helora_core", "click"}


def test_the_command_line_imports_nothing_heavy_before_a_command_runs() -> None:
    assert len(CLI) > 1
    assert newly_loaded(*CLI).isdisjoint(DEPENDENCIES - LIGHT)


def test_cli_modules_import_only_light_ones_at_the_top() -> None:
    for module in CLI:
        names = imported_on_import(PACKAGE / "cli" / f"{module.rpartition('.')[2]}.py")
        ours = {name for name in names if name.startswith("helora_core")}
        assert {name.partition(".")[0] for name in names - ours} <= STDLIB | LIGHT, module
        assert {area(name) for name in ours} <= {"cli", "errors", "files", "installing", "__init__"}, module


def test_every_public_name_can_be_used() -> None:
    for name in helora_core.__all__:
        assert getattr(helora_core, name) is not None
    for name, module in helora_core._PUBLIC.items():
        assert getattr(helora_core, name) is getattr(importlib.import_module(module), name)


def test_other_names_are_not_there() -> None:
    with pytest.raises(AttributeError, match="no attribute 'compile_plans'"):
        helora_core.compile_plans  # noqa: B018
