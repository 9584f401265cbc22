"""The files of the counts gate: the locked counts, ``counts.lock.json``, and the budgets, ``budgets.toml``."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from helora_core.errors import HeloraError
from helora_core.files.atomic import replacing
from helora_core.files.malformed import Malformed
from helora_core.files.strict_toml import read_toml
from helora_harness.places import DATA

LOCK = DATA / "counts.lock.json"
BUDGETS = DATA / "budgets.toml"
SCHEMA = 3

SANITISED = " sanitised"
"""Suffix for the names of cells that are counted with sanitised results."""

Counts = dict[str, int]


class LockRefused(HeloraError):
    """The lock file, or the file of budgets, is not one that this version reads."""

    code: ClassVar[str] = "lock-refused"


class Locked(msgspec.Struct, frozen=True):
    """A cell of the lock file: its counts, and the budgets that it was locked under."""

    counts: Counts
    budget: Counts = {}


class Ceilings(msgspec.Struct, frozen=True):
    """An entry of the file of budgets.

    Attributes:
        cells: A pattern over the names of cells; those that are counted sanitised match by their plain names too.
        limits: The most that each of these counts may be.
    """

    cells: str
    limits: Counts


class _Head(msgspec.Struct):
    schema: int


class Lock(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The lock file: the budgets that were in force, once, and the counts of every cell, those that are 0 left out."""

    schema: int
    budgets: tuple[Ceilings, ...]
    cells: dict[str, Counts]


def budgets(cells: Iterable[str], path: Path = BUDGETS) -> dict[str, Counts]:
    """The ceilings that hold for each cell.

    Raises:
        LockRefused: The file cannot be read, or an entry is no budget.
    """
    return _budgets_of(cells, read_budgets(path))


def read_budgets(path: Path = BUDGETS) -> tuple[Ceilings, ...]:
    """The file of budgets.

    Raises:
        LockRefused: The file cannot be read, or an entry is no budget.
    """
    try:
        entries = read_toml(path)["budget"]
        return tuple(Ceilings(entry.pop("cells"), msgspec.convert(entry, Counts)) for entry in entries)
    except (OSError, Malformed, KeyError, TypeError, ValueError, AttributeError) as error:
        raise LockRefused(
            f"{path} has no budgets that can be read: {error!r}.",
            hint="Each [[budget]] has `cells`, a pattern over 'backend packing shape tokens', and whole numbers.",
        ) from error


def _budgets_of(cells: Iterable[str], entries: Sequence[Ceilings]) -> dict[str, Counts]:
    found: dict[str, Counts] = {}
    for cell in cells:
        ceilings: Counts = {}
        for entry in entries:
            if any(fnmatch.fnmatchcase(name, entry.cells) for name in (cell, cell.removesuffix(SANITISED))):
                ceilings |= {name: min(limit, ceilings.get(name, limit)) for name, limit in entry.limits.items()}
        found[cell] = ceilings
    return found


def read_lock(path: Path = LOCK, *, to_update: bool = False) -> dict[str, Locked]:
    """The cells of a lock file.

    Args:
        path: The file.
        to_update: It will be written again: one that is missing or of an earlier schema has no cells.

    Raises:
        LockRefused: It is missing, damaged, or of another schema.
    """
    try:
        if to_update and not path.exists():
            return {}
        data = path.read_bytes()
        schema = msgspec.json.decode(data, type=_Head).schema
        if to_update and schema < SCHEMA:
            return {}
        if schema != SCHEMA:
            raise ValueError(f"its schema is {schema}, and this version reads {SCHEMA}")
        lock = msgspec.json.decode(data, type=Lock)
    except (OSError, ValueError) as error:
        raise LockRefused(
            f"{path} is not a lock file of counts: {error}.", hint="Take it from git, or write it with --update."
        ) from error
    ceilings = _budgets_of(lock.cells, lock.budgets)
    return {cell: Locked(counts, ceilings[cell]) for cell, counts in lock.cells.items()}


def write_lock(cells: Mapping[str, Counts], path: Path = LOCK, *, budgets_path: Path = BUDGETS) -> None:
    """Write a lock file with the budgets that are in force, a line for each entry and cell: its diff is to be read."""
    entries = (f"  {_json(entry)}" for entry in read_budgets(budgets_path))
    lines = (
        f"  {_json(cell)}: {_json({name: count for name, count in cells[cell].items() if count})}"
        for cell in sorted(cells)
    )
    parts = [f'{{\n "schema": {SCHEMA},\n "budgets": [', ",\n".join(entries), ' ],\n "cells": {', ",\n".join(lines)]
    with replacing(path) as file:
        file.write("\n".join([*parts, " }\n}\n"]).encode())


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
