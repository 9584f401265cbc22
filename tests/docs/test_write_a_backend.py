"""``docs/write-a-backend.md`` leads to a backend on a real library.

Here its commands and snippets are run in order with the laws thinned out and without an installer; to the letter, with
wheels and outside the checkout, ``tests/scaffold/outside_checkout.py`` runs them.
"""

from __future__ import annotations

import os
import re
import runpy
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from helora_core.backend.capabilities import Capabilities
from helora_core.backend.protocol import Evaluator, SupportsHoisting, SupportsPublicKey
from helora_core.conformance.base import STANDARD_TESTS
from helora_core.host.scaffold import left_to_fill_in, template_folder

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
GUIDE_FILE = ROOT / "tests" / "scaffold" / "guide.py"
GUIDE = SimpleNamespace(**runpy.run_path(str(GUIDE_FILE)))
PAGE = (ROOT / "docs" / "write-a-backend.md").read_text(encoding="utf-8")
A_FEW_LAWS = "slotwise or cyclically or negate or whole_chain or opens_nothing or 37"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """This environment's commands, and a ``pip`` that makes ``desk/helora-acme`` count as installed and no more."""
    scripts, site = tmp_path / "bin", tmp_path / "site"
    scripts.mkdir()
    pip = scripts / "pip"
    command = shlex.join([sys.executable, str(GUIDE_FILE), str(site)])
    pip.write_text(f'#!/bin/sh\nexec {command} "$@"\n', encoding="utf-8")
    pip.chmod(0o755)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "HELORA_"))}
    return {
        **inherited,
        "PATH": os.pathsep.join([str(scripts), str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join([str(site), str(tmp_path / "desk" / "helora-acme" / "src"), str(ROOT)]),
        "PYTEST_ADDOPTS": f"-k '{A_FEW_LAWS}' -p no:cacheprovider",
        "HELORA_CONFIG": os.devnull,
    }


@pytest.mark.thorough  # the session ``stranger`` follows the guide too, from wheels
@pytest.mark.skipif(os.name == "nt", reason="the guide's commands are for a POSIX shell")
def test_the_guide_leads_to_a_backend_on_a_real_library(
    tmp_path: Path, environment: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tenseal", reason="the guide puts SEAL in, by way of TenSEAL")
    desk = tmp_path / "desk"
    desk.mkdir()
    folder = GUIDE.follow(
        desk, environment, timeout=120, passed_over=lambda block: block.text.startswith("helora conform")
    )
    assert folder == desk / "helora-acme"
    assert left_to_fill_in(folder) == ()
    printed = capfd.readouterr().out
    *_, last = re.findall(r"(\d+) passed.*", printed)
    assert int(last) >= 12
    assert "acme: helora-acme 0.1.0, tenseal" in printed
    assert "emulation: nothing was encrypted" not in printed.split("helora demo")[-1]


def test_every_block_is_run_applied_or_checked() -> None:
    blocks = list(GUIDE.blocks())
    assert len(blocks) == PAGE.count("```") / 2
    (example,) = (block for block in blocks if block.language != "sh" and block.file is None)
    for law, table in tomllib.loads(example.text).items():
        assert law in STANDARD_TESTS
        assert set(table) == {"reason"}


def test_the_laws_it_names_are_those_of_the_kit() -> None:
    laws = set(re.findall(r"`(test_\w+)`", PAGE))
    assert len(laws) > 10
    assert laws <= STANDARD_TESTS.keys()


def test_every_capability_is_in_the_table() -> None:
    claims = PAGE.split("| claim | what it takes |")[1].split("\n\n")[0]
    for name in Capabilities.__struct_fields__:
        assert name == "encodings" or f"`{name}=" in claims
    for ability in (SupportsHoisting, SupportsPublicKey):
        methods = {name for name in vars(ability) if not name.startswith("_")} - set(vars(Evaluator))
        assert all(f"`Evaluator.{method}`" in claims for method in methods)


def test_every_file_of_the_template_is_explained() -> None:
    table = PAGE.split("| file | what is in it | what you do |")[1].split("\n\n")[0]
    template = template_folder()
    files = {path.relative_to(template).as_posix() for path in template.rglob("*.py") if path.is_file()}
    assert files <= set(re.findall(r"`([\w./]+)`", table))


MERGES: list[tuple[str, str, str]] = [
    ("import a\n\nx = 1  # old\n", "x = 2\n", "import a\n\nx = 2\n"),
    ("import a\n\ny = 1\n", "import b\n", "import a\nimport b\n\ny = 1\n"),
    ("import a\n", "import a\n", "import a\n"),
    ("# why\nx = 1\n", "x = 2\n", "x = 2\n"),
    ("def f():\n    return 1\n", "def g():\n    return 2\n", "def f():\n    return 1\n\n\ndef g():\n    return 2\n"),
    ("@d\ndef f():\n    return 1\n", "@e\ndef f():\n    return 2\n", "@e\ndef f():\n    return 2\n"),
    (
        "class C:\n    def f(self):\n        return 1\n\n    def g(self):\n        return 1\n",
        "class C:\n    def f(self):\n        return 2\n\n    def h(self):\n        return 3\n",
        "class C:\n    def f(self):\n        return 2\n\n    def g(self):\n        return 1\n"
        "\n    def h(self):\n        return 3\n",
    ),
]


@pytest.mark.parametrize(("source", "snippet", "expected"), MERGES)
def test_a_snippet_replaces_what_has_its_name_and_adds_what_is_new(source: str, snippet: str, expected: str) -> None:
    merged: Callable[..., Any] = GUIDE.merged
    assert merged(source, snippet) == expected
