"""A lowered program as launches, each for all runs at once. Nothing here waits for the device or allocates on it, so
that ``Launches.enqueue`` can be captured as a graph.

A step's rows are all worked on at once, so what a CPU keeps in one row for each prime in turn is whole here
(``widened``). Steps that work row by row become tasks, which follow each other at every place; tasks that do not read
what another makes share a launch. Transforms of a group share one or two.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from helora_cupy.device import Array, Device
from helora_cupy.kernels import DeviceKernels
from helora_cupy.transforms import Job, LiftJob, Place, Row, packed_jobs, packed_lifts
from helora_rns.programs.buffers import planned
from helora_rns.programs.steps import Kind, Lowered, Ref, Step

Key = tuple[int, int]
"""Slot and row of what a step makes."""


def widened(lowered: Lowered, specials: int) -> Lowered:
    """The same program, in which every prime has its own row of every buffer."""
    first = lowered.slots.total - len(lowered.slots.scratch)
    widths: dict[int, int] = {}
    for step in lowered.steps:
        for ref in step.refs:
            if ref.local:
                widths[ref.slot] = max(widths.get(ref.slot, 0), ref.rows, step.limbs + specials)

    def own(ref: Ref) -> Ref:
        return ref._replace(row=ref.row * widths[ref.slot], local=False) if ref.local else ref

    steps = tuple(step._replace(refs=tuple(map(own, step.refs))) for step in lowered.steps)
    scratch = tuple(size * widths.get(first + i, 1) for i, size in enumerate(lowered.slots.scratch))
    return replace(lowered, steps=steps, slots=lowered.slots._replace(scratch=scratch))


def groups(steps: Sequence[Step]) -> Iterator[list[Step]]:
    """Neighbours that run together: row by row on as many limbs, or of one kind, none reading what another makes."""
    held: list[Step] = []
    made: set[Key] = set()
    for step in steps:
        alike = bool(held) and held[0].limbs == step.limbs and _sort(held[0]) == _sort(step)
        if not alike or (not step.kind.by_row and not made.isdisjoint(_key(ref) for ref in step.refs[1:])):
            if held:
                yield held
            held, made = [], set()
        held.append(step)
        made.add(_key(step.refs[0]))
    if held:
        yield held


def _sort(step: Step) -> Kind:
    return Kind.ROTATE if step.kind.by_row else step.kind


def _key(ref: Ref) -> Key:
    return ref.slot, ref.row


def _outputs(step: Step) -> tuple[Ref, ...]:
    return step.refs[: 2 if step.kind in (Kind.ROTATE, Kind.DOT) else 1]


def levels(group: Sequence[Step]) -> list[list[list[Step]]]:
    """Steps that work row by row: for each launch its tasks, each of the steps that make the same buffers, in order."""
    task_of: dict[Key, list[Step]] = {}
    for step in group:
        keys = [_key(ref) for ref in _outputs(step)]
        tasks = list({id(t): t for t in (task_of.get(key) for key in keys) if t is not None}.values())
        task = tasks[0] if tasks else []
        for other in tasks[1:]:
            task += other
        task.append(step)
        task_of |= {_key(ref): task for each in task for ref in _outputs(each)}
    level: dict[int, int] = {}

    def level_of(task: list[Step]) -> int:
        if id(task) not in level:
            read = (task_of.get(_key(ref)) for step in task for ref in step.refs[len(_outputs(step)) :])
            level[id(task)] = 1 + max(
                (level_of(each) for each in read if each is not None and each is not task), default=-1
            )
        return level[id(task)]

    found: list[list[list[Step]]] = []
    for task in {id(task): task for task in task_of.values()}.values():
        at = level_of(task)
        found += [[] for _ in range(at + 1 - len(found))]
        found[at].append(task)
    return found


@dataclass(frozen=True)
class _Transformed:
    """A group of divisions, rescales or decompositions."""

    back: Array
    lifts: Array | None
    there: Array
    constants: Array | None


@dataclass(frozen=True)
class _ByRow:
    """A launch of tasks."""

    program: Array
    tasks: int
    rows: int


class Buffers(NamedTuple):
    """Where a program's own buffers lie in one block of a run.

    Attributes:
        starts: The first row of each, the launches' own last.
        rows: All rows.
    """

    starts: tuple[int, ...]
    rows: int


class Launches:
    """A lowered program on a device, for any number of runs.

    Attributes:
        slots: Entries of a run's table: the program's, then the launches' own.
        fixed: How many of them are the caller's: inputs, outputs, plaintexts, keys and indices, as ``Slots`` has them.
        buffers: Of the rest.
    """

    def __init__(self, kernels: DeviceKernels, lowered: Lowered, data: int, specials: int) -> None:
        wide = widened(lowered, specials)
        self._kernels, self._data, self._specials = kernels, data, specials
        self._device: Device = kernels.device
        arena, self._own = planned(wide, groups(wide.steps)), wide.slots.total
        self.slots, self.fixed = wide.slots.total + 1, wide.slots.total - len(wide.slots.scratch)
        whole = [_scratch_rows(group, specials) for group in groups(wide.steps)]
        self.buffers = Buffers((*arena.starts, arena.rows), arena.rows + max(whole, default=0))
        self._made = [part for group in groups(wide.steps) for part in self._prepared(group)]

    def tables(self, fixed: NDArray[np.uint64], memory: int) -> NDArray[np.uint64]:
        """Tables of addresses, (runs, slots), for ``enqueue``; on the host, to be put on the device.

        Args:
            fixed: The caller's addresses, (runs, fixed).
            memory: Where buffers of all runs begin: (runs, ``buffers.rows``, N) words.
        """
        run_bytes, row_bytes = 8 * self.buffers.rows * self._kernels.ring_degree, 8 * self._kernels.ring_degree
        bases = np.uint64(memory) + np.arange(len(fixed), dtype=np.uint64)[:, np.newaxis] * np.uint64(run_bytes)
        starts = np.array(self.buffers.starts, np.uint64) * np.uint64(row_bytes)
        return np.concatenate([fixed, bases + starts], axis=1)

    def enqueue(self, tables: Array) -> None:
        """Launch everything, for all runs of a table on the device."""
        ring, kernels, runs = self._kernels.ring, self._kernels, len(tables)
        place = Place(runs, tables, self.slots)
        for each in self._made:
            if isinstance(each, _Transformed):
                kernels.transforms.inverse(place, each.back)
                if each.lifts is not None:
                    kernels.transforms.lift(place, each.lifts)
                kernels.transforms.forward(place, each.there, each.constants)
            else:
                kernels.by_row(
                    (ring.degree // 256, runs, each.tasks * each.rows),
                    [tables, self.slots, each.program, each.tasks, self._data, self._specials, ring.log_n, ring.mods],
                )

    # Preparation.

    def _prime(self, limbs: int, row: int) -> int:
        return row if row < limbs else self._data + row - limbs

    def _prepared(self, group: Sequence[Step]) -> Iterator[_Transformed | _ByRow]:
        if group[0].kind.by_row:
            yield from (self._tasks(tasks) for tasks in levels(group))
        elif group[0].kind is Kind.DECOMPOSE:
            yield self._decomposed(group)
        else:
            yield self._divided(group)

    def _tasks(self, tasks: Sequence[Sequence[Step]]) -> _ByRow:
        code: list[int] = [0] * (2 * len(tasks))
        for i, task in enumerate(tasks):
            code[2 * i] = len(code)
            for step in task:
                code += [step.kind, step.limbs, step.rows, step.terms, step.accumulate]
                code += [number for ref in step.refs for number in (ref.slot, ref.row, ref.rows)]
            code[2 * i + 1] = len(code)
        rows = max(step.rows for task in tasks for step in task)
        return _ByRow(self._device.put(np.array(code, np.int32)), len(tasks), rows)

    def _decomposed(self, group: Sequence[Step]) -> _Transformed:
        back, there, at = [], [], 0
        for step in group:
            out, read = step.refs
            limbs, width = step.limbs, step.limbs + self._specials
            basis = [self._prime(limbs, row) for row in range(width)]
            for i in range(limbs):
                own = Row(self._own, at + i)
                back.append(Job(Row(read.slot, read.row + i), own, basis[i]))
                for j in range(width):
                    source = Row(read.slot, read.row + i) if i == j else own
                    written = Row(out.slot, out.row + i * width + j)
                    there.append(Job(source, written, basis[j], i == j, -1 if i == j else basis[i]))
            at += limbs
        put = self._device.put
        return _Transformed(put(packed_jobs(back)), None, put(packed_jobs(there)), None)

    def _divided(self, group: Sequence[Step]) -> _Transformed:
        """By the special primes, or rescaled by the last data prime."""
        back, lifts, there, at = [], [], [], 0
        kept, gone = self._kept_and_gone(group[0])
        for step in group:
            out, read = step.refs
            for k, prime in enumerate(gone):
                back.append(Job(Row(read.slot, read.row + len(kept) + k), Row(self._own, at + k), prime))
            for j, prime in enumerate(kept):
                written, one = Row(out.slot, out.row + j), len(gone) == 1
                source = Row(self._own, at) if one else written
                lifted_from = gone[0] if one else -1
                there.append(Job(source, written, prime, False, lifted_from, Row(read.slot, read.row + j), j))
                lifts.append(LiftJob(Row(self._own, at), written, prime, gone))
            at += len(gone)
        kernels, put = self._kernels, self._device.put
        product = kernels.product(gone)
        constants = kernels.ring.constants([pow(product, -1, kernels.primes[j]) for j in kept], kept)
        lifted = put(packed_lifts(lifts)) if len(gone) > 1 else None
        return _Transformed(put(packed_jobs(back)), lifted, put(packed_jobs(there)), constants)

    def _kept_and_gone(self, step: Step) -> tuple[tuple[int, ...], tuple[int, ...]]:
        limbs = step.limbs
        if step.kind is Kind.RESCALE:
            return tuple(range(limbs - 1)), (limbs - 1,)
        return tuple(range(limbs)), tuple(self._data + k for k in range(self._specials))


def _scratch_rows(group: Sequence[Step], specials: int) -> int:
    """Rows of coefficients between the launches of a group."""
    if group[0].kind.by_row:
        return 0
    each = {Kind.DECOMPOSE: group[0].limbs, Kind.DIVIDE: specials, Kind.RESCALE: 1}[group[0].kind]
    return each * len(group)
