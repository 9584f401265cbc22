"""``docs/write-a-backend.md`` names what there is; ``tests/scaffold/outside_checkout.py`` does what it says."""

from __future__ import annotations

import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from helora_core.backend.capabilities import Capabilities
from helora_core.backend.protocol import Evaluator, SupportsHoisting, SupportsPublicKey
from helora_core.conformance.base import STANDARD_TESTS
from helora_core.host.scaffold import template_folder

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
GUIDE = SimpleNamespace(**runpy.run_path(str(ROOT / "tests" / "scaffold" / "guide.py")))
PAGE = (ROOT / "docs" / "write-a-backend.md").read_text(encoding="utf-8")


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
