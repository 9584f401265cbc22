"""CHANGELOG.md as Keep a Changelog has it: what is new becomes a version's, and what a release's must look like."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date

HEADING = re.compile(r"(?m)^## \[([^\]]+)\](?: - (\S+))?$")
KINDS = ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")


def sections(text: str) -> dict[str, tuple[str, str]]:
    """Dates (or nothing) and bodies by version, in the file's order."""
    found = list(HEADING.finditer(text))
    ends = [each.start() for each in found[1:]] + [len(text)]
    return {each[1]: (each[2] or "", text[each.end() : end].strip()) for each, end in zip(found, ends, strict=True)}


def released(text: str, version: str, day: date) -> str:
    """The same, with what was unreleased under a version and a date, and nothing unreleased.

    Raises:
        ValueError: There is nothing to release, or the version is there already.
    """
    have = sections(text)
    if not have.get("Unreleased", ("", ""))[1]:
        raise ValueError("CHANGELOG.md has nothing under ## [Unreleased]")
    if version in have:
        raise ValueError(f"CHANGELOG.md has ## [{version}] already")
    return text.replace("## [Unreleased]", f"## [Unreleased]\n\n## [{version}] - {day.isoformat()}", 1)


def wrong(text: str, version: str) -> Iterator[str]:
    """Why a changelog is not that of a version that is released now."""
    have = sections(text)
    if list(have)[:2] != ["Unreleased", version]:
        yield f"CHANGELOG.md begins with {list(have)[:2]}, and not with Unreleased and {version}"
        return
    if have["Unreleased"][1]:
        yield "CHANGELOG.md still has unreleased changes"
    yield from malformed(text)


def malformed(text: str) -> Iterator[str]:
    """Where it is not in the format, released or not."""
    days = []
    for version, (day, body) in sections(text).items():
        if version != "Unreleased":
            try:
                days.append(date.fromisoformat(day))
            except ValueError:
                yield f"CHANGELOG.md: {version} has no date, as in 2026-01-31"
            if not body:
                yield f"CHANGELOG.md: nothing is said of {version}"
        kinds = re.findall(r"(?m)^### (.+)$", body)
        if set(kinds) - set(KINDS) or len(kinds) != len(set(kinds)) or (body and not kinds):
            yield f"CHANGELOG.md: {version} has the headings {kinds}"
    if days != sorted(days, reverse=True):
        yield "CHANGELOG.md: versions are not in order, the newest first"
