"""Where a program's own buffers lie in one block of memory: those that are never in use together share it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from helora_rns.programs.steps import Lowered, Step


class Arena(NamedTuple):
    """A place for each buffer, in rows.

    Attributes:
        starts: The first row of each.
        rows: All rows.
    """

    starts: tuple[int, ...]
    rows: int


def planned(lowered: Lowered, groups: Iterable[Sequence[Step]] | None = None) -> Arena:
    """Places for the scratch buffers: first fit, in the order of their first use.

    Args:
        lowered: The program.
        groups: Its steps in order, those together that may run at the same time; by default as the CPU groups them.
    """
    sizes = lowered.slots.scratch
    first = lowered.slots.total - len(sizes)
    used: dict[int, tuple[int, int]] = {}
    for number, group in enumerate(lowered.groups() if groups is None else groups):
        for slot in {ref.slot - first for step in group for ref in step.refs if ref.slot >= first}:
            used[slot] = used.get(slot, (number, number))[0], number
    starts: list[int] = [0] * len(sizes)
    placed: list[int] = []
    for slot in sorted(used, key=lambda each: (used[each][0], each)):
        begin, end = used[slot]
        beside = [each for each in placed if used[each][0] <= end and begin <= used[each][1]]
        starts[slot] = _gap(sizes[slot], ((starts[each], sizes[each]) for each in beside))
        placed.append(slot)
    return Arena(tuple(starts), max((starts[each] + sizes[each] for each in placed), default=0))


class LocalRows(NamedTuple):
    """Where buffers of single rows lie that each thread has for itself.

    Attributes:
        starts: The first row of each, by the number of the scratch buffer.
        rows: All rows.
    """

    starts: Mapping[int, int]
    rows: int


def local_rows(lowered: Lowered, arena: Arena) -> LocalRows:
    """The arena without what is not local, its order kept: buffers that share rows there share them here."""
    sizes = lowered.slots.scratch
    first = lowered.slots.total - len(sizes)
    local = sorted({ref.slot - first for step in lowered.steps for ref in step.refs if ref.local})
    rows = sorted({row for slot in local for row in range(arena.starts[slot], arena.starts[slot] + sizes[slot])})
    places = {row: place for place, row in enumerate(rows)}
    return LocalRows({slot: places[arena.starts[slot]] for slot in local}, len(rows))


def _gap(size: int, taken: Iterable[tuple[int, int]]) -> int:
    """The first row from which ``size`` rows are free."""
    at = 0
    for start, length in sorted(taken):
        if start - at >= size:
            break
        at = max(at, start + length)
    return at


def placed(starts: Sequence[int], base: int, row_bytes: int) -> list[int]:
    """Addresses of the buffers in a block at ``base``, which has a row more than the arena."""
    return [base + start * row_bytes for start in starts]
