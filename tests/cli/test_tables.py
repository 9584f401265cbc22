"""Tables: what has no room is left out by name, what is alike is told once, and nothing is lost with ``wide``."""

from __future__ import annotations

import re
import statistics

import hypothesis.strategies as st
import pytest
from hypothesis import given
from rich.cells import cell_len
from rich.console import Console

from helora_core.adapter.names import matches
from helora_core.cli.tables import BEGINNINGS, GAP, MANY_ROWS, Column, Fitted, Table, drawn, fitted, pattern

HEADINGS = ("module", "shape", "ms", "leakage")
ROWS = [("model.layers.0.self_attn.q_proj", "576:576:8", "3.37", "nothing")]
ONE = Table.of_text(HEADINGS, ROWS, numbers=["ms"], total=("all 1", "", "3.37", ""), spare=("shape", "leakage"))

words = st.text("abcdefghijklmnopqrstuvwxyzΔ₂", min_size=1, max_size=12)
names = st.builds(
    lambda layer, part: f"model.layers.{layer}.self_attn.{part}", st.integers(0, 99), st.sampled_from("qkvo")
)


@st.composite
def tables(draw: st.DrawFn) -> Table:
    """Modules with a kind and a time each, and columns of words, some of which may be spared."""
    more = draw(st.lists(words, unique=True, max_size=6).filter(lambda all_: not {"module", "ms"} & set(all_)))
    columns = [Column("module"), Column("ms", "{:.2f}".format, number=True, measured=True), *map(Column, more)]
    row = st.tuples(names, st.floats(0, 1e4), *(st.sampled_from(["one", "another", "a third of them"]) for _ in more))
    rows = draw(st.lists(row, min_size=1, max_size=20))
    total = ["all", *[""] * (len(columns) - 1)]
    return Table(columns, rows, total=total, spare=draw(st.permutations([*more, BEGINNINGS])), names="module")


def lines(table: Fitted, width: int | None) -> list[str]:
    """What is drawn."""
    console = Console(width=width or 10_000, markup=False, highlight=False, color_system=None)
    with console.capture() as capture:
        console.print(drawn(table, width=width, plain=width is None))
    return [line.rstrip() for line in capture.get().splitlines()]


@pytest.mark.parametrize(
    ("width", "shown"),
    [(57, HEADINGS), (56, ("module", "ms", "leakage")), (45, ("module", "ms")), (20, ("module", "ms"))],
)
def test_a_narrow_terminal_is_spared_columns_in_their_order(width: int, shown: tuple[str, ...]) -> None:
    table = fitted(ONE, width)
    assert tuple(column.heading for column in table.columns) == shown
    assert table.left_out == tuple(heading for heading in HEADINGS if heading not in shown)
    assert max(map(cell_len, lines(table, width))) <= width
    assert (ROWS[0][0] in "\n".join(lines(table, width))) == (width >= 45)


@given(table=tables(), width=st.integers(60, 200))
def test_no_line_is_wider_than_the_terminal_and_no_cell_is_cut(table: Table, width: int) -> None:
    shown = fitted(table, width)
    printed = lines(shown, width)
    assert max(map(cell_len, printed)) <= width
    text = "\n".join(printed)
    assert all(cell in text for row in shown.rows for cell in row)
    assert len(printed) == len(shown.rows) + 4, "heading, rule, the rows, a gap and the total: nothing is broken"


@given(table=tables(), width=st.integers(60, 200), more=st.integers(1, 60))
def test_a_wider_terminal_shows_no_less(table: Table, width: int, more: int) -> None:
    narrow, wider = fitted(table, width), fitted(table, width + more)
    assert set(wider.left_out) <= set(narrow.left_out)
    assert list(narrow.left_out) == [column.heading for column in table.columns if column.heading in narrow.left_out]
    columns = [heading for heading in table.spare if heading != BEGINNINGS]
    assert set(narrow.left_out) == set(columns[: len(narrow.left_out)])
    if table.spare.index(BEGINNINGS) > len(narrow.left_out):
        assert narrow.rows[0][0] == fitted(table, None).rows[0][0], "names are whole until it is their turn"


@given(table=tables())
def test_rows_told_as_one_are_alike_and_none_is_lost(table: Table) -> None:
    told = fitted(table, None)
    counts = [int(count) for count, times, _ in (row[0].partition(" × ") for row in told.rows) if times]
    assert sum(counts) + len(told.rows) - len(counts) == len(table.rows)
    assert told.folded == (len(told.rows) < len(table.rows))
    if len(table.rows) <= MANY_ROWS:
        assert not told.folded
    else:
        assert len({row[2:] for row in told.rows}) == len(told.rows)


@given(table=tables(), width=st.none() | st.integers(20, 200))
def test_wide_tells_every_row_and_column(table: Table, width: int | None) -> None:
    whole = fitted(table, width, wide=True)
    assert (len(whole.rows), whole.left_out, whole.folded) == (len(table.rows), (), False)
    assert [column.heading for column in whole.columns] == [column.heading for column in table.columns]
    assert [row[0] for row in whole.rows] == [row[0] for row in table.rows]


@given(times=st.lists(st.floats(0, 99), min_size=MANY_ROWS + 1, max_size=40))
def test_what_was_measured_is_told_by_median_least_and_most(times: list[float]) -> None:
    columns = [Column("module"), Column("ms", "{:.2f} ms".format, number=True, measured=True)]
    (row,) = fitted(Table(columns, [(f"a.{i}", ms) for i, ms in enumerate(times)], names="module"), None).rows
    found = [float(number) for number in re.findall(r"[\d.]+", row[1])]
    expected = [statistics.median(times), min(times), max(times)]
    same = expected[2] - expected[1] <= 0.01 * expected[0]
    assert found == [float(f"{value:.2f}") for value in (expected[:1] if same else expected)]
    assert row[1].count("ms") == (1 if same else 2), "the unit is not said with the least"


@given(modules=st.lists(names | st.sampled_from(["q", "lm_head", "a.b.k"]), min_size=2, max_size=30, unique=True))
def test_the_name_of_several_modules_selects_all_of_them_without_its_beginning_too(modules: list[str]) -> None:
    name = pattern(modules)
    for begun in range(name.count(".") + 1):
        assert all(matches(each, ".".join(name.split(".")[begun:])) for each in modules)


@pytest.mark.parametrize(
    ("modules", "name"),
    [
        (["layers.0.q_proj", "layers.1.q_proj"], "layers.*.q_proj"),
        (["layers.0.k_proj", "layers.0.v_proj", "layers.1.v_proj"], "layers.*.{k_proj,v_proj}"),
        (["a.q", "b.c.q"], "*.q"),
        (["a", "b.c"], "*"),
    ],
)
def test_names_of_several_modules(modules: list[str], name: str) -> None:
    assert pattern(modules) == name


def test_prose_is_broken_between_words_and_numbers_never() -> None:
    prose = "No rotations: the client sums after decryption. Only where the key holder owns the adapter."
    table = Table([Column("name"), Column("ms", number=True), Column("why", prose=True)], [("zero", "1234.5", prose)])
    printed = lines(fitted(table, 60), 60)
    assert max(map(cell_len, printed)) <= 60
    assert " ".join(" ".join(line.split("  ")[-1] for line in printed[2:]).split()) == prose
    assert sum("1234.5" in line for line in printed) == 1
    assert len(printed) > 3
    (row,) = lines(fitted(table, None), None)[1:]
    assert row.endswith(prose), "a pipe has one line for each row"
    assert GAP == 2
