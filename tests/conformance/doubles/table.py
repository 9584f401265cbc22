"""The table of doubles in docs/conformance.md: ``python tests/conformance/doubles/table.py`` rewrites it."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from doubles import DOUBLES
from helora_core.conformance.base import STANDARD_TESTS
from helora_core.conformance.suites import SUITES

DOCS = Path(__file__).parents[3] / "docs" / "conformance.md"
_BEGIN, _END = "<!-- doubles: begin -->\n", "<!-- doubles: end -->\n"


def table() -> str:
    """All doubles, by the suite of the law that catches them."""
    lines = ["| double | its fault | caught by |", "|---|---|---|"]
    suites = [suite.__module__ for suite in SUITES]
    for double in sorted(DOUBLES.values(), key=lambda double: suites.index(STANDARD_TESTS[double.law].__module__)):
        fault = double.fault.replace("|", "\\|")
        lines.append(f"| {double.name} | {fault} | `{double.law}` |")
    return "\n".join(lines) + "\n"


def written() -> str:
    """The page with the table as it should be."""
    before, _, rest = DOCS.read_text(encoding="utf-8").partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return f"{before}{_BEGIN}\n{table()}\n{_END}{after}"


if __name__ == "__main__":
    DOCS.write_text(written(), encoding="utf-8")
