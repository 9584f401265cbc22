"""Every page is run as a reader would run it, or ``pages.toml`` says why not.

What is listed is tested always. Pages are run where ``HELORA_RUN_PAGES`` names a group: the sessions ``docs`` and
``docs_commands``.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.docs.command_lines import ROOT, blocks, pages, typed
from tests.docs.run_pages import GROUPS, PageFailed, Reader, listed, run

fcntl = pytest.importorskip("fcntl", reason="pages are run on POSIX")

LISTED = listed()
ASKED = {"": (), "fast": ("fast",), "slow": GROUPS[:-1]}[os.environ.get("HELORA_RUN_PAGES", "")]
# Why a page or a block is not run, and what has to be in it for that to be true.
KINDS = {
    "another machine": r"https://|ssh |tcp://|unix://|relay",
    "docker": r"\bdocker\b",
    "GPU": r"\bcupy\b|\bcuda",
    "hours": r"bench|train\.py|compare\.py",
    "no command": r"",
    "release": r"git push",
    "session": r"",
}


def test_every_page_with_blocks_is_listed_and_no_other() -> None:
    assert sorted(LISTED) == sorted(page.relative_to(ROOT).as_posix() for page in pages() if blocks(page))
    assert {page.group for page in LISTED.values()} <= set(GROUPS)


@pytest.mark.parametrize("name", LISTED)
def test_what_is_not_run_has_a_reason_and_is_there(name: str) -> None:
    page, found = LISTED[name], blocks(ROOT / name)
    content = (ROOT / name).read_text(encoding="utf-8")
    assert (page.group == "elsewhere") == bool(page.reason)
    for first in (*page.not_run, *page.serves):
        assert sum(block.first.startswith(first) for block in found) == 1, f"{name} has no block {first!r}"
    assert [text for text in page.instead if text not in content] == []
    assert sum(page.text.values()) == sum(block.language == "text" and not block.is_output for block in found)
    runs = [block for block in found if page.why_not(block) is None]
    if page.group != "elsewhere":
        assert runs
    elif page.reason.startswith("no command: "):
        assert [block.first for block in runs if block.language == "python" or typed(block.language, block.text)] == []
    else:
        assert unfounded(page.reason, "\n".join(block.text for block in runs)) is None
    for first, reason in page.not_run.items():
        (block,) = (block for block in found if block.first.startswith(first))
        assert unfounded(reason, block.text) is None


def unfounded(reason: str, text: str) -> str | None:
    """What is wrong with a reason not to run some commands, or None if nothing is."""
    kind = next((kind for kind in KINDS if reason.startswith((f"{kind}: ", f"{kind} "))), None)
    if kind is None:
        return f"{reason!r} is none of {', '.join(KINDS)}"
    if not text.strip():
        return f"{reason!r} is of no command"
    if not re.search(KINDS[kind], text):
        return f"{reason!r}: nothing in it asks for that:\n{text}"
    if kind == "session":
        name = reason.split()[1].rstrip(":")
        named = re.findall(r"[\w-]+(?:/[\w.-]+)+", reason)
        if f"def {name}(session" not in (ROOT / "noxfile.py").read_text(encoding="utf-8") or not named:
            return f"{reason!r} names no session, or nothing that it runs"
        if missing := [path for path in named if not (ROOT / path).exists()]:
            return f"{reason!r}: there is no {missing}"
    return None


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        ("it is slow: really", "helora demo"),
        ("docker: an image", "helora demo"),
        ("GPU: a card", "helora demo --backend tenseal"),
        ("hours: much", ""),
        ("session nothing: tests/docs", "helora demo"),
        ("session docs: somewhere", "helora demo"),
        ("session docs: tests/nothing", "helora demo"),
    ],
)
def test_an_unfounded_reason_is_noticed(reason: str, text: str) -> None:
    assert unfounded(reason, text) is not None


def test_every_group_that_is_run_has_pages() -> None:
    assert {page.group for page in LISTED.values()} >= {"fast", "slow"}


@pytest.mark.parametrize("name", [name for name, page in LISTED.items() if page.group in ASKED])
def test_the_page_runs(name: str, tmp_path: Path) -> None:
    with _no_other_page():
        assert run(name, LISTED[name], tmp_path) > 0


@contextmanager
def _no_other_page() -> Iterator[None]:
    """Servers of several pages have the same port."""
    with (Path(tempfile.gettempdir()) / "helora-pages.lock").open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    if not ASKED:
        pytest.skip("makes an environment: the sessions docs and docs_commands")
    with Reader(tmp_path) as running:
        yield running


def test_a_failing_command_is_noticed(reader: Reader) -> None:
    for script in ("false", "exit 3", "false; true", "helora demo"):
        with pytest.raises(PageFailed):
            reader.shell(script)
    with pytest.raises(PageFailed, match="ZeroDivisionError"):
        reader.python("1 / 0")
    with pytest.raises(PageFailed, match="does not serve"):
        reader.shell("exit 0", serves="false")


def test_directories_and_names_outlast_their_block(reader: Reader) -> None:
    reader.shell("mkdir a\ncd a")
    reader.shell("test $(basename $PWD) = a && touch b")
    reader.python("import pathlib")
    reader.python("assert pathlib.Path('b').exists()")
