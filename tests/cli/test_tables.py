"""Tables in terminals: what does not fit is left out by name, and nothing is folded that need not be."""

from __future__ import annotations

import re
import sys

import pytest

from helora_core.cli.output import print_table

COLUMNS = ("module", "shape", "ms", "leakage")
ROWS = [("model.layers.0.self_attn.q_proj", "576:576:8", "3.37", "nothing"), ("all 1", "", "3.37", "")]


@pytest.mark.parametrize(
    ("width", "shown"),
    [(80, COLUMNS), (60, ("module", "ms", "leakage")), (45, ("module", "ms")), (20, ("module", "ms"))],
)
def test_a_narrow_terminal_is_spared_columns_in_their_order(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int, shown: tuple[str, ...]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    print_table(COLUMNS, ROWS, numbers=("ms",), footer=True, spare=("shape", "leakage"))
    printed, told = capsys.readouterr()
    out = re.sub(r"\x1b\[[0-9;]*m", "", printed)
    assert max(map(len, out.splitlines())) <= width
    assert next(line for line in out.splitlines() if "module" in line).split() == list(shown)
    assert (ROWS[0][0] in out) == (width >= 45)
    assert all((column in told) == (column not in shown) for column in COLUMNS)


def test_a_pipe_gets_all(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    print_table(COLUMNS, ROWS, spare=COLUMNS)
    out = capsys.readouterr().out
    assert all(cell in out for row in ROWS for cell in row)
