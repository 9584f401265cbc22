"""The report and the site as files: what they show, what they leave out, and that they name nothing outside."""

from __future__ import annotations

import http.client
import importlib.util
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from helora_core.cli.main import main
from helora_harness.export.charts import Spot, frontier
from helora_harness.export.html import to_html
from helora_harness.export.svg import log_ticks, number, quantity, spread, ticks
from helora_harness.history_site import HistoryUnavailable, build_site, server
from helora_harness.places import REPO
from helora_harness.rows import Row, RowsRefused, append_rows, read_rows

MakeRow = Callable[..., Row]
needs_asv = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("asv", "asv_tachyon"))), reason="asv or asv-tachyon is not installed"
)


@pytest.fixture(scope="module")
def page(rows: list[Row]) -> str:
    return to_html(rows)


def _figures(page: str) -> list[str]:
    return re.findall(r"<figure .*?</figure>", page, re.DOTALL)


def test_the_page_names_nothing_outside(page: str) -> None:
    assert not re.findall(r"""(?:https?:)?//[a-z0-9.-]+\.[a-z]+|@import|url\(|<(?:script|img|iframe)[^>]+src""", page)
    assert "default-src 'none'" in page


def test_every_drawing_is_well_formed_and_named(page: str) -> None:
    drawings = re.findall(r'<div class="scroll">(<svg.*?</svg>)</div>', page, re.DOTALL)
    assert len(drawings) > 50
    for drawing in drawings:
        assert ElementTree.fromstring(drawing).get("aria-label")
        assert "nan" not in drawing


def test_only_the_first_figure_of_each_section_is_shown_at_first(page: str) -> None:
    shown = [figure for figure in _figures(page) if " hidden" not in figure.partition(">")[0]]
    assert len(shown) == 2
    assert "Time: tenseal, 576:192:8, 8 tokens" in shown[0]


def test_a_tooltip_says_value_unit_and_provenance(page: str, commits: list[str]) -> None:
    tip = f"rank_bsgs: 61.5 ms/token\ncommit {commits[0][:8]}, 2026-03-02\nSEAL 4.1.1, N=8192, primes 60+40+40+60"
    assert f"<title>{tip}" in page


def test_a_new_library_is_marked_where_it_came(page: str) -> None:
    (figure,) = (figure for figure in _figures(page) if "<figcaption>Time: tenseal, 576:192:8" in figure)
    assert figure.count("not comparable with the value before: library version is 4.1.1") == 3
    assert figure.count(" broken") == figure.count(" hollow") == 3


def test_failures_and_absent_backends_are_told(page: str) -> None:
    assert "3 of 4 backends exercised" in page
    assert "pyfhel was skipped: Pyfhel is not installed" in page
    assert "3 cells of openfhe failed: LevelExhausted" in page
    assert page.count("rank_bsgs failed: LevelExhausted") >= 1
    assert ">skipped</td>" in page


def test_words_of_rows_cannot_become_markup(make_row: MakeRow) -> None:
    nasty = "</script><script>alert(1)</script>"
    rows = [
        make_row(packing=nasty),
        make_row(backend=nasty, cpu_model=f'"{nasty}', outcome="failed", reason=nasty, metrics={}),
        make_row(library=nasty, commit="d" * 40),
    ]
    page = to_html(rows, title=nasty, notes=[nasty])
    assert nasty not in page
    assert page.count("<script>") == 1


def test_rows_with_uncommitted_changes_are_not_shown(make_row: MakeRow, refused: Callable[..., Any]) -> None:
    assert "left out: 1 rows with changes" in to_html([make_row(), make_row(dirty=True)])
    with refused(RowsRefused, "committed"):
        to_html([make_row(dirty=True)])


def test_the_oldest_of_very_many_commits_are_left_out(rows: list[Row], commits: list[str]) -> None:
    page = to_html(rows, most_commits=2)
    assert "left out: 3 older commits" in page
    assert commits[2][:8] not in page
    assert commits[3][:8] in page


def test_only_the_ends_of_a_plateau_are_marked(make_row: MakeRow) -> None:
    later = [
        {"commit": f"{i}" * 40, "commit_date": make_row().provenance.date + timedelta(days=i)} for i in range(1, 5)
    ]
    page = to_html([make_row(), *(make_row(**when) for when in later)])
    figure = _figures(page)[0]
    assert figure.count('class="point"') == 2
    page = to_html(
        [make_row(), *(make_row(library_version="5" if i > 1 else "4.1.1", **when) for i, when in enumerate(later))]
    )
    assert _figures(page)[0].count('class="point"') == 4


@pytest.mark.parametrize("kind", ["counts", "micro"])
def test_rows_of_one_kind_alone_make_a_page(make_row: MakeRow, kind: str) -> None:
    row = make_row(kind=kind, metrics={"rotate_ms@2": 0.0}, packing="", shape="", backend="")
    page = to_html([row])
    assert "rotate, level 2, ms" in page
    assert "No run from end to end was measured." in page


def test_a_row_without_the_usual_metrics_makes_a_page(make_row: MakeRow) -> None:
    assert "Performance report" in to_html([make_row(metrics={"accuracy": 0.5})])
    assert "Nothing has run yet" in to_html([make_row(outcome="failed", reason="it broke", metrics={})])


def test_the_frontier_is_what_nothing_beats_in_both() -> None:
    spots = [Spot(name, bits, ms, 0, 0, "", name != "emulation") for name, bits, ms in (
        ("fast", 10.0, 1.0), ("beaten", 9.0, 2.0), ("precise", 14.0, 3.0), ("emulation", 50.0, 0.1))]  # fmt: skip
    assert [spot.label for spot in frontier(spots)] == ["fast", "precise"]


@pytest.mark.parametrize(
    ("value", "words"), [(41, "41"), (1234567, "1,234,567"), (61.5, "61.5"), (7.849, "7.85"), (0.01234, "0.0123")]
)
def test_numbers_are_short(value: float, words: str) -> None:
    assert number(value) == words


def test_bytes_are_scaled() -> None:
    assert quantity(131072, "bytes/token") == "128 KiB/token"
    assert quantity(5, "bytes") == "5 bytes"


def test_ticks_are_round_and_cover_what_there_is() -> None:
    assert ticks(0, 93) == [0, 20, 40, 60, 80, 100]
    assert ticks(0, 0) == [0, 0.2, 0.4, 0.6, 0.8, 1]
    assert log_ticks(19.2, 193) == [10, 20, 50, 100, 200]
    assert spread([10, 11, 90], 16, 0, 100) == [10, 26, 90]
    assert spread([95, 96], 16, 0, 100) == [84, 100]


@pytest.fixture(scope="module")
def site(rows: list[Row], repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_site(rows, repo, tmp_path_factory.mktemp("out") / "site").index.parent


@needs_asv
def test_a_site_has_report_viewer_and_figures(site: Path, rows: list[Row]) -> None:
    index = (site / "index.html").read_text()
    for link in re.findall(r'href="([^":#]+)[#"]', index):
        assert (site / link).is_file()
    assert len(read_rows(site / "rows.jsonl")) == len(rows)
    assert (site / "viewer" / "index.json").is_file()


@needs_asv
def test_no_page_of_a_site_loads_from_outside(site: Path) -> None:
    for path in site.rglob("*.html"):
        assert not re.findall(r"""(?:src|href)=["']?(?:https?:)?//""", path.read_text()), path


@needs_asv
def test_only_a_site_is_replaced(site: Path, rows: list[Row], repo: Path, refused: Callable[..., Any]) -> None:
    (site / "old").touch()
    build_site(rows, repo, site)
    assert not (site / "old").exists()
    with refused(HistoryUnavailable, "something other"):
        build_site(rows, repo, repo)


@needs_asv
def test_rows_of_other_histories_are_left_out(
    tmp_path: Path, rows: list[Row], repo: Path, make_row: MakeRow, refused: Callable[..., Any]
) -> None:
    other, dirty = make_row(commit="d" * 40), make_row(commit="e" * 40, dirty=True)
    built = build_site([*rows, other, dirty], repo, tmp_path / "site")
    assert built.left_out[:2] == (
        "1 rows with changes that their commit does not have",
        "1 rows of commits that are not in this branch's history",
    )
    assert "left out: 1 rows of commits" in built.index.read_text()
    with refused(HistoryUnavailable, "No row"):
        build_site([other], repo, tmp_path / "none")
    with refused(HistoryUnavailable, "git"):
        build_site(rows, tmp_path, tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.fixture
def served(site: Path) -> Iterator[ThreadingHTTPServer]:
    with server(site) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@needs_asv
def test_a_site_is_served_to_this_machine_only(served: ThreadingHTTPServer) -> None:
    assert served.server_address[0] == "127.0.0.1"
    for host, status in ((f"127.0.0.1:{served.server_port}", 200), ("evil.example:80", 403)):
        connection = http.client.HTTPConnection("127.0.0.1", served.server_port, timeout=30)
        connection.request("GET", "/report.html", headers={"Host": host})
        answer = connection.getresponse()
        assert answer.status == status
        assert "default-src 'self'" in (answer.getheader("Content-Security-Policy") or "")
        connection.close()


@needs_asv
def test_a_port_that_is_taken_is_refused(
    site: Path, served: ThreadingHTTPServer, tmp_path: Path, refused: Callable[..., Any]
) -> None:
    with refused(HistoryUnavailable, str(served.server_port)):
        server(site, served.server_port)
    with refused(HistoryUnavailable, "no history site"):
        server(tmp_path)


def _command(*arguments: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(main, ["bench", *map(str, arguments)])
    return done.exit_code, done.stdout, done.stderr


@needs_asv
def test_the_commands_write_every_form(tmp_path: Path, rows: list[Row], repo: Path) -> None:
    append_rows(tmp_path / "a.jsonl", rows[:60])
    append_rows(tmp_path / "b.jsonl", rows[60:])
    where = ("--rows", tmp_path, "--repo", repo)
    status, out, _ = _command("history", *where, "--out", tmp_path / "site")
    assert (status, out) == (0, f"{tmp_path / 'site' / 'index.html'}\n")
    status, out, err = _command(
        "export", *where, "--asv", tmp_path / "asv", "--html", tmp_path / "x.html", "--csv", "-"
    )
    assert status == 0
    assert out.startswith("kind,backend,")
    assert "left out: metrics that are not better when lower: precision_bits" in err
    assert (tmp_path / "asv" / "results" / "benchmarks.json").is_file()
    assert "Performance report" in (tmp_path / "x.html").read_text()


def test_what_is_there_is_replaced_only_with_force(tmp_path: Path, rows: list[Row], repo: Path) -> None:
    append_rows(tmp_path / "a.jsonl", rows[:60])
    (tmp_path / "site").mkdir()
    for name in ("x.csv", "x.html", "site/index.html"):
        (tmp_path / name).write_text("old", encoding="utf-8")
    where = ("--rows", tmp_path / "a.jsonl", "--repo", repo)
    for option in ("csv", "html"):
        status, _, err = _command("export", *where, f"--{option}", tmp_path / f"x.{option}")
        assert (status, "--force" in err) == (1, True)
        assert (tmp_path / f"x.{option}").read_text() == "old"
        assert _command("export", *where, f"--{option}", tmp_path / f"x.{option}", "--force")[0] == 0
        assert (tmp_path / f"x.{option}").read_text() != "old"
    status, _, err = _command("history", *where, "--out", tmp_path / "site")
    assert (status, "--force" in err) == (1, True)
    # Not even then, since it is none of ours.
    assert _command("history", *where, "--out", tmp_path / "site", "--force")[0] == 1
    assert (tmp_path / "site" / "index.html").read_text() == "old"


def test_commands_refuse_in_words(tmp_path: Path) -> None:
    assert "Give --out DIR" in _command("history", "--rows", tmp_path)[2]
    assert "at least one of" in _command("export", "--rows", tmp_path)[2]
    status, _, err = _command("export", "--rows", tmp_path, "--csv", "-")
    assert status == 1
    assert "error [rows-refused] There are no rows to show.\n  hint:" in err


@pytest.mark.parametrize(
    "off",
    [
        pytest.param(["--benchmark-disable"], id="disabled"),
        pytest.param(["-n", "1"], id="in processes", marks=pytest.mark.thorough),  # in the session ``bench`` too
        pytest.param([], id="on"),
    ],
)
def test_pytest_benchmark_says_whether_anything_was_timed(off: list[str]) -> None:
    pytest.importorskip("pytest_benchmark", reason="pytest-benchmark is not installed")
    of = ["harness/pytest_bench", "-k", "numpy and zero_moai and 1", "-p", "no:cacheprovider"]
    here = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", *of, *off]
    done = subprocess.run(command, cwd=REPO, env=here, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert ("nothing was timed" in done.stdout) == bool(off)
    assert ("benchmark: 1 tests" in done.stdout) != bool(off)
