"""Module names: the order in which they are listed, and the patterns by which users may select them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from fnmatch import fnmatchcase
from itertools import product

_DIGITS = re.compile(r"([0-9]+)")


def natural_key(name: str) -> tuple[tuple[tuple[int, str], ...], str]:
    """Sort key that puts ``layers.2`` before ``layers.10``; names that differ only in leading zeros keep an order too.

    Digits are compared by length and then as text, never as ``int``: names come from files, and Python refuses to
    convert numbers of thousands of digits.
    """
    parts = _DIGITS.split(name)
    runs = (part.lstrip("0") for part in parts[1::2])
    key: list[tuple[int, str]] = [(0, parts[0])]
    for digits, text in zip(runs, parts[2::2], strict=True):
        key += [(len(digits), digits), (0, text)]
    return tuple(key), name


_BRACES = re.compile(r"\{([^{}]*)\}")


def matches(name: str, pattern: str) -> bool:
    """Whether ``pattern``, with ``*``, ``?``, ``[…]`` and ``{a,b}``, is ``name`` or the end of it after a dot."""
    return any(fnmatchcase(name, each) or fnmatchcase(name, f"*.{each}") for each in _alternatives(pattern))


def _alternatives(pattern: str) -> Iterator[str]:
    """The patterns without braces that one with braces, which are not nested, stands for."""
    parts = _BRACES.split(pattern)
    choices = (part.split(",") if i % 2 else [part] for i, part in enumerate(parts))
    return map("".join, product(*choices))


def close_names(wanted: str, names: Iterable[str], *, limit: int = 4) -> list[str]:
    """Up to ``limit`` names, or endings of names, that ``wanted`` may be a misspelling of, closest first.

    Endings of as many components as ``wanted`` has are compared, so that ``q_prj`` finds ``q_proj`` and not forty
    full names that contain it; if none is close, those of one more, and of two. For a pattern with ``*``, patterns are.
    """
    if wanted.startswith("*."):
        return [f"*.{name}" for name in close_names(wanted[2:], names, limit=limit)]
    components = wanted.count(".") + 1
    if "*" in wanted:  # a pattern is close to patterns
        names = (".".join("*" if part.isdecimal() else part for part in name.split(".")) for name in names)
    names = list(names)
    for more in range(3):  # components that were left out
        endings = dict.fromkeys(".".join(name.split(".")[-components - more :]) for name in names)
        close = get_close_matches(wanted, endings, n=limit, cutoff=0.6)
        if close:
            return close
    return []
