"""Links lead somewhere, lists are complete, and the README's table has the plans' figures."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import helora_core
from helora_core.compiler.request import Constraints
from helora_core.data.bundled import bundled_adapter

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *ROOT.glob("examples/*/*.md"), *ROOT.glob("plugins/*/*.md")])

_FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_OUTSIDE = ("http:", "https:", "mailto:")


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as both GitHub and MkDocs make them of plain words."""
    headings = re.findall(r"^#+ (.+)$", _FENCED.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_links_within_the_repository_lead_somewhere() -> None:
    broken = []
    for page in PAGES:
        for link in _LINK.findall(_FENCED.sub("", page.read_text(encoding="utf-8"))):
            if link.startswith(_OUTSIDE):
                continue
            name, _, anchor = link.partition("#")
            target = (page.parent / name).resolve() if name else page
            if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
                broken.append(f"{page.relative_to(ROOT)}: {link}")
    assert broken == []


def test_every_decision_is_in_the_index_under_its_title() -> None:
    records = sorted(DOCS.glob("adr/0*.md"))
    titles = [record.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ") for record in records]
    numbers = [int(title.partition(".")[0]) for title in titles]
    assert numbers == sorted(set(numbers))
    assert [int(record.name[:4]) for record in records] == numbers
    index = (DOCS / "adr" / "index.md").read_text(encoding="utf-8").splitlines()
    expected = [
        f"{number}. [{title.partition('. ')[2]}]({record.name})"
        for number, title, record in zip(numbers, titles, records, strict=True)
    ]
    assert [line for line in index if re.match(r"\d+\. ", line)] == expected


def test_every_nox_session_is_in_contributing() -> None:
    noxfile = ast.parse((ROOT / "noxfile.py").read_text(encoding="utf-8"))
    sessions = [
        node.name
        for node in noxfile.body
        if isinstance(node, ast.FunctionDef) and any("session" in ast.unparse(each) for each in node.decorator_list)
    ]
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert sessions
    assert [name for name in sessions if f"| `{name}" not in page] == []


def test_the_readmes_table_has_the_plans_figures() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    pytest.importorskip("helora_rns")  # the demo runs on it
    constraints = Constraints(target_bits=14)
    compiled = helora_core.compile(bundled_adapter(), tokens=16, backend="rns", share=False, constraints=constraints)
    rotations = 0.0
    for module in compiled.modules:
        plan = module.plan
        per_token = plan.counts.rotations / plan.tokens_per_run
        rotations += per_token
        if ".layers.0." in module.name:
            of_all = f"30 × {module.name.replace('.0.', '.*.')}"  # as the demo shows it
            fixed = f" | {plan.shape} | {plan.tokens_per_run} | {per_token:.2f} |"
            (line,) = (line for line in readme if line.startswith((f"| {module.name}{fixed}", f"| {of_all}{fixed}")))
            assert line.endswith(f"| {plan.leakage_label} |")
    assert any(line.startswith(f"| all {len(compiled.modules)} | | | {rotations:.0f} |") for line in readme)
