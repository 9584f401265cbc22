"""Launches of transforms: jobs over rows, in one launch of a block a row, or in two of several blocks a row.

A place is where a launch finds its rows: a table of addresses for each run, or up to three arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from helora_cupy import building
from helora_cupy.device import Array
from helora_cupy.rings import WHOLE_LOG, Ring
from helora_cupy.tables import passes

FEW = 100
"""Rows below which several blocks a row are faster, of N ≥ 4096 (ADR 44)."""

HALVES_FROM = 12
MOST_GONE = 8
PAD = 4


class Place(NamedTuple):
    """Where rows are, and for how many runs.

    Attributes:
        runs: How many times all jobs are done.
        tables: Addresses, (runs, slots), uint64; or None for the arrays.
        slots: Of ``tables``.
        arrays: Up to three, slots 0 to 2.
        strides: Words from run to run of each.
    """

    runs: int
    tables: Array | None = None
    slots: int = 0
    arrays: tuple[Array | None, ...] = ()
    strides: tuple[int, ...] = ()

    @property
    def arguments(self) -> list[Array | None]:
        """As kernels take them."""
        missing = 3 - len(self.arrays)
        strides = [np.uint64(each) for each in (*self.strides, *[0] * missing)]
        return [self.tables, self.slots, *self.arrays, *[None] * missing, *strides]


class Row(NamedTuple):
    """A row of a slot."""

    slot: int
    row: int


class Job(NamedTuple):
    """One row's transform; see ``native/transforms.cu``.

    Attributes:
        read, written: Rows.
        prime: Modulo which.
        copied: Whether the row is copied, not transformed.
        lifted_from: The prime that what is read is a residue of, if another.
        taken_from: What the transform is taken from, if anything; the difference is multiplied.
        constant: By which, of the launch's constants.
    """

    read: Row
    written: Row
    prime: int
    copied: bool = False
    lifted_from: int = -1
    taken_from: Row = Row(-1, 0)
    constant: int = 0


class LiftJob(NamedTuple):
    """A row of what several rows, from ``read`` on, say of least size; see ``lifted_digits`` in ``native/rows.cu``."""

    read: Row
    written: Row
    prime: int
    gone: tuple[int, ...]


def packed_jobs(jobs: Sequence[Job]) -> NDArray[np.int32]:
    """As the kernels read them."""
    rows = [
        (*job.read, *job.written, job.prime, job.copied, job.lifted_from, *job.taken_from, job.constant) for job in jobs
    ]
    return np.array(rows, np.int32).reshape(-1, 10)


def packed_lifts(jobs: Sequence[LiftJob]) -> NDArray[np.int32]:
    """As the kernel reads them."""
    most = [(*j.read, *j.written, j.prime, len(j.gone), *j.gone, *[0] * (MOST_GONE - len(j.gone))) for j in jobs]
    return np.array(most, np.int32).reshape(-1, 6 + MOST_GONE)


class Block(NamedTuple):
    """A kernel's threads, bytes of shared memory, and the logarithm of how many residues a block takes."""

    threads: int
    shared: int
    log_size: int


def _block(log_size: int, log_e: int, stages: int) -> Block:
    pad = max(PAD, passes(stages, log_e)[-1][1])
    return Block((1 << log_size) >> log_e, 8 * ((1 << log_size) + (1 << log_size >> pad)), log_size)


def blocks(log_n: int) -> dict[str, Block]:
    """Of the kernels of ``building.transforms``."""
    half_e, first = 2 if log_n < HALVES_FROM else 3, log_n // 2
    columns, rows = _block(first + 4, half_e, first), _block(log_n - first + 3, half_e, log_n - first)
    found = {f"{way}_{name}": block for way in ("forward", "inverse")
             for name, block in (("columns", columns), ("rows", rows))}  # fmt: skip
    if log_n <= WHOLE_LOG:
        found |= {f"{way}_whole": _block(log_n, 3 if log_n == 10 else 4, log_n) for way in ("forward", "inverse")}
    return found


class Transforms:
    """A ring's transforms."""

    def __init__(self, ring: Ring) -> None:
        self._ring = ring
        self._unit = building.transforms(ring.log_n, wide=ring.wide)
        self._rows = building.rows(wide=ring.wide)
        self._blocks = blocks(ring.log_n)

    def forward(self, place: Place, jobs: Array, constants: Array | None = None) -> None:
        """Coefficients to values."""
        self._launch(place, jobs, constants, ("forward_whole", "forward_columns", "forward_rows"))

    def inverse(self, place: Place, jobs: Array) -> None:
        """Values to coefficients."""
        self._launch(place, jobs, None, ("inverse_whole", "inverse_rows", "inverse_columns"))

    def lift(self, place: Place, jobs: Array) -> None:
        """What several rows say of least size, in others."""
        ring = self._ring
        arguments = [*place.arguments, jobs, ring.mods, ring.inverses, len(ring.primes), ring.log_n]
        ring.device.launch(self._rows, "lifted_digits", (ring.degree // 256, place.runs, len(jobs)), 256, arguments)

    def _launch(self, place: Place, jobs: Array, constants: Array | None, names: tuple[str, str, str]) -> None:
        ring, inverse = self._ring, names[0].startswith("inverse")
        in_halves = ring.log_n > WHOLE_LOG or (ring.log_n >= HALVES_FROM and len(jobs) * place.runs < FEW)
        if in_halves:
            twiddles = ring.inverse_halves if inverse else ring.forward_halves
        else:
            twiddles = ring.inverse_whole if inverse else ring.forward_whole
        arguments = [*place.arguments, jobs, ring.mods, twiddles, ring.lifted, constants, len(ring.primes)]
        for name in names[1:] if in_halves else names[:1]:
            block = self._blocks[name]
            tiles = ring.degree >> block.log_size, place.runs, len(jobs)
            grid = tiles if in_halves else (len(jobs), place.runs)
            ring.device.launch(self._unit, name, grid, block.threads, arguments, block.shared)
