"""Times every operation of a backend on this machine, by ring, chain and level, and makes a profile of it.

Each round times every operation once, in an order shuffled anew, so that a machine that speeds up or slows down does so
for all of them alike. A sample is the mean of enough calls to last a millisecond.
``helora_core.planning.probes`` says which operations there are.

Costs that operations of a call share are fitted: rotating a ciphertext by k steps takes ``rotate_first`` + (k - 1) ·
``rotate_further``, a sum of k products takes ``dot_first`` + (k - 1) · ``dot_further``. For backends that run whole
programs, ``helora_core.planning.program_probes`` adds figures of operations within them, fitted to whole runs; for
those that plans can run ahead of time on, ``helora_core.planning.correlation_probes`` adds chains of their own.
"""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from helora_core.backend.capabilities import RescaleMode
from helora_core.backend.protocol import Backend, SupportsFinish
from helora_core.compiler.request import BackendTraits
from helora_core.errors import (
    CapabilityMissing,
    HeloraError,
    InsecureParameters,
    InvalidInput,
    InvalidParameters,
)
from helora_core.params.ckks import CKKSParams
from helora_core.params.security import DEFAULT_TABLE
from helora_core.planning.chains import chains_for
from helora_core.planning.correlation_probes import correlation_probes
from helora_core.planning.probe import Probe
from helora_core.planning.probes import probes_for
from helora_core.planning.profile import ChainFigures, Figure, Profile, Provenance, RefusedChain

DEFAULT_ROUNDS = 30

SAMPLE_NS = 1_000_000
"""Least duration of a sample, about a thousand times that of reading the clock."""


def require_calibratable(backend: Backend) -> None:
    """Refuse a backend whose levels the program does not decide, since operations cannot be timed at each.

    Raises:
        CapabilityMissing: The library decides when to rescale.
    """
    if backend.capabilities.rescale is not RescaleMode.EXPLICIT:
        raise CapabilityMissing(
            f"Calibration: {backend.name} rescales by itself, so its operations cannot be timed level by level.",
            hint="Calibrate a backend that rescales explicitly; `helora backends` lists them.",
        )


@dataclass
class _Timed:
    """A probe, how often one sample calls it, and the samples so far, in nanoseconds per call."""

    probe: Probe
    finish: Callable[[], object]
    calls: int = 1
    samples: list[float] = field(default_factory=list)

    @classmethod
    def warmed_up(cls, probe: Probe, finish: Callable[[], object]) -> _Timed:
        timed = cls(probe, finish)
        timed._elapsed_ns()
        timed.calls = max(1, math.ceil(SAMPLE_NS / max(timed._elapsed_ns(), 1)))
        return timed

    def take_sample(self) -> None:
        self.samples.append(max(self._elapsed_ns(), 1) / self.calls)

    def _elapsed_ns(self) -> int:
        """All calls, and what they asked a device for."""
        call = self.probe.call
        start = time.perf_counter_ns()
        for _ in range(self.calls):
            call()
        self.finish()
        return time.perf_counter_ns() - start


def calibrate(
    backend: Backend,
    *,
    chains: Iterable[CKKSParams] | None = None,
    rounds: int = DEFAULT_ROUNDS,
    library: str = "",
    library_version: str | None = None,
    device: str = "",
    on_round: Callable[[], object] = lambda: None,
    table: str = DEFAULT_TABLE,
) -> Profile:
    """Time a backend's operations on this machine.

    Args:
        backend: The backend.
        chains: Parameters to time them for; by default those of ``chains_for`` for this backend. Those that it or the
            security table refuses are noted and skipped.
        rounds: Samples to take of each operation, at least 1.
        library: Name of the library that the backend drives, for the provenance.
        library_version: The library's version.
        device: What the backend computes on, if not the CPU; for the provenance.
        on_round: Called after each round.
        table: Name of the security table.

    Raises:
        CapabilityMissing: The library decides when to rescale.
        InvalidParameters, InsecureParameters: Every chain was refused; this is the refusal of the first.
        InvalidInput: There is no chain or no round.
    """
    require_calibratable(backend)
    if rounds < 1:
        raise InvalidInput(f"Calibration: {rounds} rounds were asked for.", hint="Do at least one.")
    finish = backend.finish if isinstance(backend, SupportsFinish) else lambda: None
    benches: list[tuple[CKKSParams, list[_Timed]]] = []
    refusals: list[tuple[CKKSParams, HeloraError]] = []
    if chains is None:
        traits, correlations = BackendTraits.of([backend.capabilities]), backend.capabilities.correlations
        chains = chains_for(table=table, traits=traits, correlations=correlations)
    for params in chains:
        try:
            probes_of = correlation_probes if params.wrap_bits else probes_for
            resolved, probes = probes_of(backend, params, table=table)
        except (InvalidParameters, InsecureParameters) as error:
            refusals.append((params, error))
        else:
            benches.append((resolved, [_Timed.warmed_up(probe, finish) for probe in probes]))
    if not benches:
        if refusals:
            raise refusals[0][1]
        raise InvalidInput("Calibration: no chain was given.", hint="Use the default chains.")
    _do_rounds([timed for _, bench in benches for timed in bench], rounds, on_round)
    return Profile(
        provenance=Provenance.here(
            backend.name, library=library, library_version=library_version, rounds=rounds, device=device
        ),
        chains=tuple(
            ChainFigures(
                ring_degree=params.ring_degree,
                data_bits=params.data_bits,
                special_bits=params.special_bits,
                wrap_bits=params.wrap_bits,
                figures=tuple(_figures(bench)),
            )
            for params, bench in benches
        ),
        refused=tuple(_refused(params, error) for params, error in refusals),
    )


def _refused(params: CKKSParams, error: HeloraError) -> RefusedChain:
    return RefusedChain(
        ring_degree=params.ring_degree,
        data_bits=params.data_bits,
        special_bits=params.special_bits,
        wrap_bits=params.wrap_bits,
        code=error.code,
        reason=error.message,
    )


def _do_rounds(bench: list[_Timed], rounds: int, on_round: Callable[[], object]) -> None:
    shuffled = random.Random(0)  # the same orders in each calibration
    order = list(bench)
    for _ in range(rounds):
        shuffled.shuffle(order)
        for timed in order:
            timed.take_sample()
        on_round()


def _figures(bench: Iterable[_Timed]) -> Iterator[Figure]:
    """The figures of one chain: those timed directly, then those fitted, and substitutes if nothing is hoisted."""
    families: dict[tuple[str, int], list[_Timed]] = {}
    rotations: list[Figure] = []
    for timed in bench:
        if timed.probe.parts:
            families.setdefault((timed.probe.operation, timed.probe.level), []).append(timed)
            continue
        figure = _figure(
            timed.probe.operation,
            timed.probe.level,
            statistics.median(timed.samples),
            min(timed.samples),
            len(timed.samples),
        )
        yield figure
        if figure.operation == "rotate":
            rotations.append(figure)
    for (_, level), family in families.items():
        yield from _fitted(level, family)
    for figure in rotations:
        if ("rotate", figure.level) not in families:
            for name in ("rotate_first", "rotate_further"):
                yield _figure(name, figure.level, figure.median_ns, figure.minimum_ns, figure.samples)


def _figure(operation: str, level: int, median_ns: float, minimum_ns: float, samples: int) -> Figure:
    return Figure(
        operation=operation,
        level=level,
        median_ns=round(float(median_ns), 1),
        minimum_ns=round(float(minimum_ns), 1),
        samples=samples,
    )


def _fitted(level: int, family: Sequence[_Timed]) -> Iterator[Figure]:
    names = tuple(dict.fromkeys(name for timed in family for name in timed.probe.parts))
    design = np.array([[float(timed.probe.parts.get(name, 0)) for name in names] for timed in family])
    medians = fit_costs(names, design, np.array([statistics.median(timed.samples) for timed in family]))
    minima = fit_costs(names, design, np.array([min(timed.samples) for timed in family]))
    samples = sum(len(timed.samples) for timed in family)
    for name, median_ns, minimum_ns in zip(names, medians, minima, strict=True):
        yield _figure(name, level, median_ns, minimum_ns, samples)


def fit_costs(
    operations: Sequence[str], design: NDArray[np.float64], times: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Cost of each operation, by least squares on relative errors: a long measurement weighs no more than a short one.

    Args:
        operations: Names of the columns.
        design: How often each measurement does each operation, shape (measurements, operations).
        times: What the measurements took, positive, shape (measurements,).

    Returns:
        Costs in the unit of ``times``, shape (operations,); none is negative.

    Raises:
        InvalidInput: The measurements do not tell the operations apart, or the shapes do not match.
    """
    if design.shape != (len(times), len(operations)):
        raise InvalidInput(
            f"Calibration: a design of shape {design.shape} does not go with {len(times)} measurements of "
            f"{len(operations)} operations.",
            hint="Give a row for each measurement and a column for each operation.",
        )
    if int(np.linalg.matrix_rank(design)) < len(operations):
        mixed = _not_told_apart(operations, design)
        raise InvalidInput(
            f"Calibration: these measurements cannot tell {', '.join(mixed)} apart.",
            hint="Measure them in other proportions, or count them as one operation.",
        )
    costs, *_ = np.linalg.lstsq(design / times[:, np.newaxis], np.ones(len(times)), rcond=None)
    return np.asarray(np.maximum(costs, 0.0), dtype=np.float64)


def _not_told_apart(operations: Sequence[str], design: NDArray[np.float64]) -> list[str]:
    """Operations whose costs can change together without any measurement changing: those in the design's null space."""
    _, _, directions = np.linalg.svd(design, full_matrices=True)
    rank = int(np.linalg.matrix_rank(design))
    involved = np.max(np.abs(directions[rank:]), axis=0) > 1e-9
    return [name for name, mixed in zip(operations, involved, strict=True) if mixed]
