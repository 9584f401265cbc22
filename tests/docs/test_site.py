"""The site as readers get it: every page in headless Chromium, at two widths, light and dark, without a network.

In the session ``docs``. ``HELORA_SITE`` names a site that is built already, by whatever generator; without it MkDocs
builds one. Pictures of some pages go where ``HELORA_SCREENSHOTS`` says.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.harness.history.chromium import Chromium, find_chromium

ROOT = Path(__file__).parents[2]
LOOK, CONTRAST = ((Path(__file__).parent / "browser" / name).read_text("utf-8") for name in ("look.js", "contrast.js"))
DESKTOP, PHONE = (1400, 900), (390, 844)
PICTURED = ("", "backends/", "packings/", "protocol/", "language-model-figures/")
GROUPS = 2
"""Of pages, for as many workers."""

pytestmark = pytest.mark.thorough  # and in the session ``docs``

if not os.environ.get("HELORA_REQUIRE_BROWSER"):
    if find_chromium() is None:
        pytest.skip("there is no Chromium: install it, or name it in HELORA_CHROMIUM", allow_module_level=True)
    if find_spec("mkdocs") is None and "HELORA_SITE" not in os.environ:
        pytest.skip("mkdocs is not installed (nox -s docs)", allow_module_level=True)
    if sys.platform == "win32":
        pytest.skip("the browser is driven over pipes of POSIX", allow_module_level=True)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *about: object) -> None:
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if built := os.environ.get("HELORA_SITE"):
        return Path(built)
    folder = tmp_path_factory.mktemp("built") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"})
    return folder


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(site))) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}/"
        running.shutdown()
        thread.join()


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Chromium]:
    program = find_chromium()
    assert program is not None, "HELORA_REQUIRE_BROWSER is set, and there is no Chromium"
    with Chromium(program, tmp_path / "profile") as running:
        yield running


def _pages(site: Path) -> list[str]:
    """Addresses of all pages below the site's."""
    folders = (path.parent.relative_to(site).as_posix() for path in site.rglob("index.html"))
    return sorted("" if folder == "." else f"{folder}/" for folder in folders)


def _resize(browser: Chromium, size: tuple[int, int]) -> None:
    width, height = size
    device = {"width": width, "height": height, "screenWidth": width, "screenHeight": height}
    browser.call("Emulation.setDeviceMetricsOverride", **device, deviceScaleFactor=1, mobile=size == PHONE)


def _turn(browser: Chromium) -> None:
    """From light to dark or back, by the button that a reader has."""
    scheme = browser.evaluate("document.body.dataset.mdColorScheme")
    browser.evaluate("document.querySelector('[data-md-component=palette] label:not([hidden])').click()")
    browser.wait(f"document.body.dataset.mdColorScheme !== {scheme!r}")


def _picture(browser: Chromium, page: str, width: int, colours: str) -> None:
    folder = os.environ.get("HELORA_SCREENSHOTS")
    if folder and page in PICTURED:
        Path(folder).mkdir(parents=True, exist_ok=True)
        browser.screenshot(Path(folder) / f"{page.strip('/') or 'index'}-{width}-{colours}.png")


def _stayed_here(browser: Chromium, address: str) -> list[str]:
    return [f"asks for {url[:200]}" for url in browser.requested if not url.startswith((address, "data:", "blob:"))]


@pytest.mark.parametrize("group", range(GROUPS))
def test_every_page_fits_and_is_readable_and_asks_no_other_server(
    site: Path, address: str, browser: Chromium, group: int
) -> None:
    pages = _pages(site)
    assert len(pages) > 80
    complaints = []
    colours = "light"
    for page in pages[group::GROUPS]:
        browser.requested.clear()
        browser.complaints.clear()
        _resize(browser, DESKTOP)
        browser.open(address + page)
        found = []
        for size in (DESKTOP, PHONE):
            _resize(browser, size)
            found += [f"at {size[0]} px {each}" for each in browser.evaluate(LOOK)]
            _picture(browser, page, size[0], colours)
        for _ in range(2):
            found += [f"in {colours} colours {each}" for each in browser.evaluate(CONTRAST)]
            _turn(browser)
            colours = "dark" if colours == "light" else "light"
            _picture(browser, page, PHONE[0], colours)
        found += [f"logs {each}" for each in browser.complaints] + _stayed_here(browser, address)
        complaints += [f"/{page}: {each}" for each in found]
    assert complaints == []


@pytest.mark.parametrize(
    ("query", "page"), [("rank_bsgs", "packings/"), ("helora calibrate", "cli/"), ("attacks", "attacks/")]
)
def test_search_finds_pages_without_a_network(address: str, browser: Chromium, query: str, page: str) -> None:
    _resize(browser, DESKTOP)
    browser.open(address)
    browser.evaluate("document.querySelector('label[for=__search]').click()")
    browser.evaluate("document.querySelector('[data-md-component=search-query]').focus()")
    browser.call("Input.insertText", text=query)
    results = "[...document.querySelectorAll('.md-search-result__item a')].map(link => link.href.split(/[?#]/)[0])"
    browser.wait(f"{results}.length")
    assert address + page in browser.evaluate(results)
    assert browser.complaints == []
    assert _stayed_here(browser, address) == []


_HEAD = "<!doctype html><meta charset=utf-8><meta name=viewport content='width=device-width,initial-scale=1'>"
BROKEN = {
    "a wide table": ("<article><h1>x</h1><table><td><div style='width: 2000px'>x</table></article>", "the page is"),
    "a wide block": ("<article><h1>x</h1><pre>{}</pre></article>".format("x" * 4000), "the page is"),
    "no picture": ("<article><h1>x</h1><img src='none.png' alt='x'></article>", "did not load"),
    "no alternative": ("<article><h1>x</h1><img src='data:,'></article>", "has no text alternative"),
    "no heading": ("<article></article>", "0 headings"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_page_is_noticed(browser: Chromium, tmp_path: Path, case: str) -> None:
    """The test of the test."""
    page, complaint = BROKEN[case]
    (tmp_path / "page.html").write_text(_HEAD + page, encoding="utf-8")
    _resize(browser, PHONE)
    browser.open((tmp_path / "page.html").as_uri())
    assert any(complaint in each for each in browser.evaluate(LOOK))


def test_faint_text_is_noticed(browser: Chromium, tmp_path: Path) -> None:
    styles = {"#777": False, "#767676": True, "rgba(0, 0, 0, 0.5)": False, "rgba(0, 0, 0, 0.6)": True}
    page = "".join(f"<p style='color: {colour}'>{colour}</p>" for colour in styles)
    (tmp_path / "page.html").write_text(f"{_HEAD}<article>{page}</article>", encoding="utf-8")
    browser.open((tmp_path / "page.html").as_uri())
    found = " ".join(browser.evaluate(CONTRAST))
    assert {colour: f'"{colour}"' not in found for colour in styles} == styles
