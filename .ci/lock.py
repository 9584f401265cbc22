"""The versions that the gate runs with: ``constraints.txt``, each with the hashes of its files and no index's address.

``apply`` makes the checkout's ``uv.lock`` (which git ignores) from it, so that ``uv run`` takes those versions;
``UV_CONSTRAINT=constraints.txt`` is for ``uv pip install``. ``update`` writes the file anew with the newest versions,
``add`` with those of what it lacks alone. See docs/adr/0038-constraints.md.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = ROOT / "constraints.txt"
HEADER = (
    "# The versions that .ci/run takes, written by `python .ci/lock.py update`; see docs/adr/0038-constraints.md.\n"
)
BUILT_HERE = "pyfhel"
"""Published as source only: the wheel is one that somebody built, and has no published hash."""

EXPORT = ("uv", "export", "--quiet", "--all-packages", "--all-extras", "--all-groups",
          "--no-emit-workspace", "--no-annotate", "--no-header")  # fmt: skip


def pins(text: str) -> dict[str, set[str]]:
    """Hashes by requirement, marker included, of a requirements file."""
    found: dict[str, set[str]] = {}
    for line in text.replace("\\\n", " ").splitlines():
        if line.strip() and not line.startswith("#"):
            requirement, *hashes = re.split(r"\s+--hash=", line.strip())
            found[requirement.strip()] = set(hashes)
    return found


def without_hashes(exported: str) -> str:
    """The export, without the hashes of what is built here."""
    return re.sub(rf"(?m)^({BUILT_HERE}==\S+) (?:\\\n *--hash=\S+ ?)+", r"\1", exported)


def locked(constraints: list[str]) -> tuple[str, str]:
    """``uv.lock`` of the workspace under constraints, and what it exports; made in a copy of the project files."""
    files = subprocess.run(
        ["git", "ls-files", "pyproject.toml", "harness/pyproject.toml", "plugins/helora-*/pyproject.toml"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name)
        for file in files:
            (copy / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / file, copy / file)
        project = copy / "pyproject.toml"
        text = project.read_text(encoding="utf-8")
        project.write_text(text.replace("[tool.uv]\n", f"[tool.uv]\nconstraint-dependencies = {constraints}\n", 1))
        subprocess.run(["uv", "lock", "--quiet"], cwd=copy, check=True)
        exported = subprocess.run(EXPORT, cwd=copy, capture_output=True, text=True, check=True).stdout
        return (copy / "uv.lock").read_text(encoding="utf-8"), exported


def main(command: str) -> int | str:
    """Exit status, or what is wrong."""
    if command in ("add", "update"):
        kept = pins(CONSTRAINTS.read_text(encoding="utf-8")) if command == "add" else {}
        _, exported = locked(list(kept))
        if re.search(r"https?:|--index|--find-links| @ ", exported):
            return "an address got into the export"
        CONSTRAINTS.write_text(HEADER + without_hashes(exported), encoding="utf-8")
        return 0
    if command != "apply":
        return "python .ci/lock.py apply|add|update"
    wanted = pins(CONSTRAINTS.read_text(encoding="utf-8"))
    lock, exported = locked(list(wanted))
    # An index may have got further files of a version; it must not have others.
    wrong = [name for name, hashes in pins(exported).items() if not wanted.get(name, set()) <= hashes]
    missing = sorted(pins(exported).keys() - wanted.keys())
    if wrong or missing:
        return f"other files than constraints.txt has: {wrong}; not in it: {missing}; python .ci/lock.py add|update"
    (ROOT / "uv.lock").write_text(lock, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) == 2 else ""))
