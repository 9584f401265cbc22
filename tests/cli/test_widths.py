"""No line is wider than the terminal, of all commands that print tables; the command line itself names them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.cells import cell_len

from helora_core.adapter.lora import LoRAAdapter, ModuleShape
from helora_core.adapter.npz import save_npz
from helora_core.adapter.synthetic import synthetic_activations, synthetic_module
from helora_core.cli import output
from helora_core.cli.main import main
from helora_core.cli.tables import Table, fitted
from tests.cli.commands import commands, groups, options
from tests.cli.screens import screen
from tests.cli.test_tables import lines

WIDTHS = (80, 100, 120, 160)
SHAPE = ModuleShape.parse("48:32:4")
ADAPTER = ("--adapter", "adapter.npz")
NUMPY = ("--backend", "numpy")
PLAIN = (*NUMPY, "--packing", "rank_bsgs", "--no-private-weights")

EXAMPLES: dict[tuple[str, ...], tuple[object, ...]] = {
    ("backends",): (),
    ("bench", "ab"): ("--backends", "numpy", "numpy", "--cells", "numpy rank_bsgs 64:64:4 1", "--blocks", 1),
    ("bench", "compile"): ("--shape", "8:8:2", "--packing", "rank_bsgs", "--tokens", 1),
    ("bench", "counts"): (),
    ("bench", "e2e"): ("--hidden-sizes", 64, "--ranks", 4, "--batch-sizes", "1,2", "--num-tokens", 1, *NUMPY),
    ("bench", "micro"): ("--backend", "numpy", "--backend", "tenseal", "--ring", 4096, "--rounds", 1),
    ("bench", "mutation"): ("--list", "--limit", 30),
    ("bench", "overhead"): ("--rounds", 1),
    ("bench", "sessions"): ("--modules", "*.layers.0.self_attn.q_proj", "--sessions", 1, *NUMPY),
    ("calibrate",): ("--ring", 4096, "--rounds", 1, "--output", "profile.json", "--force", *NUMPY),
    ("compile",): (*ADAPTER, "--out", "compiled", "--force", *PLAIN),
    ("demo",): ("--module", "layers.[0-4].*", "--tokens", 1, *PLAIN),
    ("doctor",): (),
    ("explain",): ("--shape", "1536:256:16", "--tokens", 8, *NUMPY),
    ("link",): ("served", "--listen", "tcp://127.0.0.1:0", *NUMPY),
    ("packings",): (),
    ("plan",): ("--adapter", "adapter.npz", *PLAIN),
    ("predict",): ("--shape", "48:32:4", *PLAIN),
    ("run",): (*ADAPTER, "--input", "x.npy", "--output", "delta.npy", "--force", *PLAIN),
}
"""A command line for each command that takes ``--wide``, which all have to that print tables."""

SLOW = {("bench", "ab"), ("bench", "mutation"), ("bench", "counts"), ("bench", "overhead")}
"""Run in a thorough run only."""

MORE: tuple[tuple[tuple[str, ...], tuple[object, ...]], ...] = (
    (("plan",), ("--shape", "64:64:4", "--rings", "--backend", "numpy", "--no-private-weights")),
    (("plan",), ("--model", "qwen2.5-1.5b", "--share", "--tokens", "1,8", *PLAIN)),
    (("explain",), ("--adapter", "adapter.npz", "--module", "layers.0.q_proj", "--ahead", 1000, *NUMPY)),
    (("run",), ("--artifact", "served", "--input", "x.npy", "--output", "delta.npy", "--force", *NUMPY)),
)
"""Further tables of theirs."""

CASES = [
    pytest.param(words, line, id=" ".join(words), marks=[pytest.mark.thorough] * (words in SLOW))
    for words, line in [*EXAMPLES.items(), *MORE]
]


@pytest.fixture(autouse=True)
def _inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modules = [
        synthetic_module(SHAPE, seed=i, name=f"a.model.of.some.depth.layers.{i // 2}.{'qv'[i % 2]}_proj")
        for i in range(12)
    ]
    save_npz(LoRAAdapter.from_modules(modules, source="test"), tmp_path / "adapter.npz")
    np.save(tmp_path / "x.npy", synthetic_activations(SHAPE, 2, seed=1))
    monkeypatch.setenv("HELORA_PROFILES", str(tmp_path))


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> list[Table]:
    """Every table that a command prints, which it prints as well."""
    printed: list[Table] = []
    really = output.print_table

    def told(table: Table) -> None:
        printed.append(table)
        really(table)

    monkeypatch.setattr(output, "print_table", told)
    return printed


def prepared(words: tuple[str, ...], line: tuple[object, ...]) -> dict[str, Any]:
    """What has to be there before a command runs; more arguments of ``screen``."""
    if words == ("predict",):
        assert screen(["calibrate", "--ring", 8192, "--rounds", 1, *NUMPY], width=80).status == 0
    if "served" in line:
        assert screen(["compile", *ADAPTER, "--out", "served", *NUMPY], width=80).status == 0
    return {"until": "Ctrl-C ends it"} if words == ("link",) else {}


def test_every_command_that_prints_tables_has_an_example() -> None:
    assert {words for words, command in commands().items() if "--wide" in options(command)} == set(EXAMPLES)


@pytest.mark.parametrize(("words", "line"), CASES)
def test_no_line_is_wider_than_the_terminal(
    words: tuple[str, ...], line: tuple[object, ...], tables: list[Table], tmp_path: Path
) -> None:
    shown = screen([*words, *line], width=80, **prepared(words, line))
    assert shown.status == 0, shown.text
    assert "─" in shown.text or words == ("predict",)
    paths = shown.text.replace(str(tmp_path), "~")  # which nothing can break
    assert [each for each in paths.splitlines() if cell_len(each) > 80] == []
    for table in tables:
        for width in WIDTHS:
            told = fitted(table, width)
            drawn = lines(told, width)
            assert max(map(cell_len, drawn)) <= width
            whole = [
                cell for row in told.rows for cell, column in zip(row, told.columns, strict=True) if not column.prose
            ]
            assert [cell for cell in whole if not any(cell in line for line in drawn)] == [], "cells are cut"


@pytest.mark.parametrize("words", [*groups(), *commands()], ids=" ".join)
def test_help_fits(words: tuple[str, ...]) -> None:
    for width in WIDTHS:
        shown = screen([*words, "--help"], width=width)
        assert (shown.status, shown.widest <= width) == (0, True)


def test_a_command_that_prints_a_table_and_takes_no_wide_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    (wide,) = [each for each in commands()[("packings",)].params if "--wide" in each.opts]
    monkeypatch.setattr(commands()[("packings",)], "params", [])
    with pytest.raises((LookupError, TypeError)):
        main(["packings"], standalone_mode=False)
    assert wide.expose_value is False
