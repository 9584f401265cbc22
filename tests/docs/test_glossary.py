"""Every term of the glossary is used elsewhere, and every acronym that is used is in it or known to everybody."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
GLOSSARY = ROOT / "docs" / "glossary.md"
PAGES = [page for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))] if page != GLOSSARY]

COMMON = (
    # Programmers know these.
    "AES", "AES-256-GCM", "API", "BPE", "CI", "CPU", "DNS", "ETag", "FSDP", "GCC", "GPU", "HTTP", "IO", "JS", "JSON",
    "LM", "NPY", "NPZ", "OK", "POST", "SHA-256", "SIGHUP", "SIGTERM", "SSH", "TCP", "URL", "UTC", "UTF-16", "UTF-8",
    # Units.
    "GB", "GHz", "KB", "MB", "TB",
    # Makers, models, files, conferences, papers.
    "AMD", "EPYC", "NVIDIA", "RTX", "GPT", "XLabs", "CHANGELOG", "CONTRIBUTING", "LICENSE", "README", "SECURITY",
    "ASIACRYPT", "CCS", "CRYPTO", "EUROCRYPT", "IACR", "ICLR", "SAC", "USENIX", "DELPHI", "GAZELLE", "HElib",
    # Explained where they stand: verdicts of the harness, kinds of adapters that are refused, titles and quotations.
    "BUDGET", "LOST", "REGRESS", "STALE", "BF16", "BOFT", "GLoRA", "OFT", "AB", "ARCHITECTURE",
    "CPMM", "DIR", "BASE", "PERFORMANCE", "PACKING", "QP", "SOTA",
)  # fmt: skip

_ACRONYM = re.compile(r"\b[A-Z][A-Z0-9]*[A-Z][A-Za-z0-9]*(?:-[A-Z0-9]+)*\b")
_NOT_PROSE = re.compile(r"^```.*?^```$|<!--.*?-->|`[^`]*`|(?<=\])\([^)]*\)", re.MULTILINE | re.DOTALL)


def prose(page: Path) -> str:
    """A page without code, comments and addresses."""
    return _NOT_PROSE.sub("", page.read_text(encoding="utf-8"))


def terms() -> dict[str, str]:
    """What each entry says, by term; entries of several terms once for each."""
    entries = re.findall(r"^(\S.*)\n:   (.+)$", GLOSSARY.read_text(encoding="utf-8"), re.MULTILINE)
    return {term: said for names, said in entries for term in names.split(", ")}


def unexplained(text: str, explained: set[str]) -> set[str]:
    """Acronyms in a text that nobody explains; a plural or a compound is explained by its parts."""
    found = set(_ACRONYM.findall(text))
    return {
        word for word in found
        if word not in explained and word.removesuffix("s") not in explained
        and not all(part in explained or not _ACRONYM.fullmatch(part) for part in word.split("-"))
    }  # fmt: skip


def test_every_term_says_what_it_is_and_where_there_is_more() -> None:
    assert len(terms()) > 50
    assert [
        term for term, said in terms().items() if not re.search(r"\. \[[^\]]+\]\([\w-]+\.md(#[\w-]+)?\)$", said)
    ] == []


def test_every_term_is_used_on_another_page() -> None:
    everything = "\n".join(page.read_text(encoding="utf-8") for page in PAGES).lower()
    assert [term for term in terms() if term.lower() not in everything] == []


def test_every_acronym_is_in_the_glossary_or_known_to_everybody() -> None:
    explained = {*terms(), *COMMON}
    assert {page.name: found for page in PAGES if (found := unexplained(prose(page), explained))} == {}


def test_an_acronym_that_nobody_explains_would_be_found() -> None:
    assert unexplained("CKKS and QWXZ on JSON", {*terms(), *COMMON}) == {"QWXZ"}


def test_no_exception_is_kept_for_an_acronym_that_is_not_used() -> None:
    used = set().union(*(_ACRONYM.findall(prose(page)) for page in PAGES))
    assert [word for word in COMMON if word not in used and f"{word}s" not in used] == []
