"""In a real browser without a network: drawings appear, a parameter can be chosen, and no request leaves the machine.

Skipped without Chromium, unless ``HELORA_REQUIRE_BROWSER`` is set. Pictures of what was seen are in the test's
temporary directory, or where ``HELORA_SCREENSHOTS`` says.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from helora_harness.export.html import to_html
from helora_harness.history_site import build_site, server
from helora_harness.rows import Row
from helora_harness.trends.table import lines_of
from tests.harness.history.chromium import Chromium, find_chromium

REQUIRED = bool(os.environ.get("HELORA_REQUIRE_BROWSER"))

if not REQUIRED:
    if find_chromium() is None:
        pytest.skip("there is no Chromium: install it, or name it in HELORA_CHROMIUM", allow_module_level=True)
    if not all(map(importlib.util.find_spec, ("asv", "asv_tachyon"))):
        pytest.skip("asv or asv-tachyon is not installed", allow_module_level=True)
    if sys.platform == "win32":
        pytest.skip("the browser is driven over pipes of POSIX", allow_module_level=True)


pytestmark = pytest.mark.thorough  # and in the session ``bench``


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = os.environ.get("HELORA_SCREENSHOTS")
    if folder is None:
        return tmp_path_factory.mktemp("pictures")
    Path(folder).mkdir(parents=True, exist_ok=True)
    return Path(folder)


@pytest.fixture(scope="module")
def address(rows: list[Row], repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    site = build_site(rows, repo, tmp_path_factory.mktemp("out") / "site").index.parent
    with server(site) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Chromium]:
    program = find_chromium()
    assert program is not None, "HELORA_REQUIRE_BROWSER is set, and there is no Chromium"
    with Chromium(program, tmp_path / "profile") as running:
        yield running


def _stayed_here(browser: Chromium, *beginnings: str) -> None:
    assert browser.requested
    outside = [url[:200] for url in browser.requested if not url.startswith((*beginnings, "data:", "blob:"))]
    assert outside == []


def _choose(browser: Chromium, section: str, name: str, value: str) -> None:
    """As a person would: the value is picked, and the page is told."""
    browser.evaluate(
        f"""(() => {{ const select = document.querySelector('#{section} select[name="{name}"]');
        select.value = {value!r}; select.dispatchEvent(new Event('change', {{bubbles: true}})); }})()"""
    )


def _shown(browser: Chromium, section: str, what: str) -> object:
    return browser.evaluate(f"document.querySelector('#{section} figure:not([hidden])'){what}")


def test_the_browser_reaches_nothing_but_this_machine(browser: Chromium, address: str) -> None:
    """The test of the test: a request to the outside is seen, and fails."""
    browser.open(f"{address}/rows.csv".replace("rows.csv", "index.html"))
    fetched = "fetch('https://example.org/', {mode: 'no-cors'}).then(() => 'reached', () => 'failed')"
    browser.call("Page.setBypassCSP", enabled=True)
    browser.open(f"{address}/report.html")
    assert browser.evaluate(fetched) == "failed"
    assert "https://example.org/" in browser.requested


def _cells_shown(browser: Chromium) -> list[str]:
    rows = "[...document.querySelectorAll('#cells tbody tr')].filter((row) => row.offsetParent)"
    found: list[str] = browser.evaluate(f"{rows}.map((row) => row.innerText)")
    return found


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_trends_can_be_chosen_drawn_and_sent(
    browser: Chromium, address: str, rows: list[Row], pictures: Path, dark: bool
) -> None:
    browser.dark(dark)
    browser.open(f"{address}/index.html")
    assert "5 commits, 2026-03-02 to 2026-03-14" in browser.evaluate("document.body.innerText")
    first = lines_of(rows)[0]  # of whole runs: what is shown at first
    assert len(_cells_shown(browser)) == len([line for line in lines_of(rows)
                                              if (line.kind, line.machine) == (first.kind, first.machine)])  # fmt: skip
    lines = "document.querySelectorAll('#chart svg path.line').length"
    assert browser.evaluate(lines) == 8
    browser.screenshot(pictures / f"trends-{'dark' if dark else 'light'}.png")

    _choose(browser, "choices", "backend", "tenseal")
    _choose(browser, "choices", "shape", "1536:1536:16")
    assert [row.split("\t")[:3] for row in _cells_shown(browser)] == [
        ["tenseal", packing, "1536:1536:16"] for packing in ("rank_bsgs", "zero_moai", "halevi_shoup")
    ]
    assert browser.evaluate(lines) == 3
    browser.evaluate("document.querySelector('#cells tbody tr:not([hidden])').click()")  # one less
    assert browser.evaluate(lines) == 2
    _choose(browser, "choices", "measured", "plans, at every commit")
    assert "machine is now any machine" in browser.evaluate("document.querySelector('[role=status]').innerText")
    assert all("1536:1536:16" in row for row in _cells_shown(browser))
    _choose(browser, "choices", "metric", "keyswitches_per_token")
    chosen = browser.evaluate("location.href")
    browser.open("about:blank")
    browser.open(chosen)
    assert browser.evaluate("document.getElementById('metric').value") == "keyswitches_per_token"
    assert all("1536:1536:16" in row for row in _cells_shown(browser))
    assert browser.complaints == []
    _stayed_here(browser, address, "about:")


def test_the_index_leads_to_report_and_viewer(browser: Chromium, address: str) -> None:
    for name in ("report", "viewer/index"):
        browser.open(f"{address}/index.html")
        browser.click(f"a[href^='{name}.html']")
        browser.wait(f"location.pathname === '/{name}.html'")
    _stayed_here(browser, address)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_report_draws_and_a_parameter_can_be_chosen(
    browser: Chromium, address: str, pictures: Path, dark: bool
) -> None:
    browser.dark(dark)
    browser.open(f"{address}/report.html")
    assert "Time: tenseal, 576:192:8" in str(_shown(browser, "history", ".innerText"))
    assert _shown(browser, "history", ".querySelectorAll('svg path.line').length") == 3 * 3
    assert float(str(_shown(browser, "history", ".querySelector('svg').getBoundingClientRect().height"))) > 200
    browser.screenshot(pictures / f"report-{'dark' if dark else 'light'}.png")

    _choose(browser, "history", "metric", "counts.rotations_per_token")
    assert "Rotations: 576:192:8, 8 tokens" in str(_shown(browser, "history", ".innerText"))
    assert "backend is now any" in browser.evaluate("document.querySelector('#history [role=status]').innerText")
    _choose(browser, "history", "shape", "1536:1536:16")
    assert "Rotations: 1536:1536:16" in str(_shown(browser, "history", ".innerText"))
    assert "41" in str(_shown(browser, "history", ".querySelector('svg').textContent"))
    _choose(browser, "newest", "shape", "1536:1536:16")
    assert "tenseal halevi_shoup" in str(_shown(browser, "newest", ".querySelector('svg').textContent"))
    assert browser.evaluate("document.querySelectorAll('figure:not([hidden])').length") == 2
    browser.screenshot(pictures / f"report-chosen-{'dark' if dark else 'light'}.png")

    chosen = browser.evaluate("location.href")
    browser.open("about:blank")
    browser.open(chosen)  # a choice can be sent to someone
    assert "Rotations: 1536:1536:16" in str(_shown(browser, "history", ".innerText"))
    assert browser.complaints == []
    _stayed_here(browser, address, "about:")


def test_the_report_works_from_a_file_alone(browser: Chromium, rows: list[Row], tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(to_html(rows), encoding="utf-8")
    browser.open(path.as_uri())
    _choose(browser, "history", "backend", "openfhe")
    assert "Time: openfhe" in str(_shown(browser, "history", ".innerText"))
    assert browser.complaints == []
    _stayed_here(browser, path.as_uri())
    assert len(browser.requested) == 1


def test_a_narrow_window_scrolls_drawings_and_not_the_page(browser: Chromium, address: str, pictures: Path) -> None:
    browser.call("Emulation.setDeviceMetricsOverride", width=390, height=800, deviceScaleFactor=1, mobile=True)
    for page in ("report", "index"):
        browser.open(f"{address}/{page}.html")
        browser.screenshot(pictures / f"{page}-narrow.png")
        assert browser.evaluate("document.documentElement.scrollWidth") <= 390


_PAINTED = """(() => {
  const canvas = document.querySelector('canvas');
  if (!canvas || !canvas.width) return 0;
  const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  let painted = 0;
  for (let i = 3; i < data.length; i += 4) painted += data[i] > 0;
  return painted;
})()"""


def test_asv_results_are_drawn_cell_by_cell(browser: Chromium, address: str, pictures: Path) -> None:
    cell = "e2e.tenseal.rank_bsgs.576x192r8.t8.ms_per_token"
    browser.open(f"{address}/viewer/index.html#view=explore&bench={cell}")
    browser.wait(f"{_PAINTED} > 1000")
    assert "48" in browser.evaluate("document.body.innerText")
    browser.screenshot(pictures / "viewer-explore.png")
    browser.open(f"{address}/viewer/index.html#view=overview")
    browser.wait("document.body.innerText.includes('counts.rank_bsgs.576x192r8.t8.rotations_per_token')")
    browser.screenshot(pictures / "viewer-overview.png")
    # It asks for samples of a benchmark, which there need not be.
    assert [words for words in browser.complaints if "/viewer/samples/" not in words] == []
    _stayed_here(browser, address)
