"""How precise a plan's result will be, and how large its floods must be, before anything runs.

``analyse`` follows messages and errors through the program (``helora_core.compiler.error_flow``) up to Δ, and compares
the largest error with the largest Δ, as ``helora_core.runtime.reference.precision_bits`` does with measured ones. Both
are random; the bound is

    bits = log2(median max|Δ| / median max|error|) − √(a² + b²),

a and b being the bits by which an unlucky Δ is smaller and an unlucky error is larger than its median. The two are
independent, so that both at once would be too pessimistic by bits for a small rank and a single token.

A client that finishes adds up as many slots as the results' messages lack of z's, and multiplies by ``up``; no packing
has to say how many.

How far the bound is from measurements is in docs/adr/0022-precision-bound.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np

from helora_core.adapter.lora import ModuleShape
from helora_core.compiler.checks import Scales, ValueInfo
from helora_core.compiler.error_flow import ErrorFlow, Noisy, Source, merges
from helora_core.compiler.ir import Program
from helora_core.compiler.magnitudes import Magnitudes, largest_delta, largest_error, largest_spike
from helora_core.errors import PrecisionLost
from helora_core.params.ckks import CKKSParams

MOST_BITS = 53.0
"""What a result in float64 can have."""

UNLUCKY = 0.005
"""Share of the cases in which error, or signal, may lie beyond its quantile."""


class PrecisionReport(msgspec.Struct, frozen=True, kw_only=True):
    """What can be said of a plan's precision before anything runs.

    Attributes:
        bits: Bits of max|Δ| that survive, at least.
        error_rms: Root mean square of the error of Δ.
        error_max: Bound on the largest error of Δ.
        terms: Share of each source in the error's variance; they add up to 1, unless there is no error at all.
        flood_bits: For each ``SANITIZE``, by value number: log2 of the standard deviation of the flood of a
            coefficient, in integer units.
    """

    bits: float
    error_rms: float
    error_max: float
    terms: dict[str, float]
    flood_bits: dict[int, int]


def analyse(
    program: Program,
    values: Sequence[ValueInfo],
    params: CKKSParams,
    scales: Scales,
    magnitudes: Magnitudes | None = None,
    *,
    shape: ModuleShape,
    client_finishes: bool = False,
    tokens: int = 1,
    runs: int | None = None,
    public_encryption: bool = False,
    nominal_scales: bool = False,
) -> PrecisionReport:
    """Bound the error of a plan's result.

    Args:
        program: The program, after all passes.
        values: Level and scale of its values, as ``annotate`` gives them.
        params: Nominal or resolved parameters.
        scales: The plan's scales.
        magnitudes: Sizes of activations and weights; those of synthetic ones of this shape if None.
        shape: The module's shape.
        client_finishes: Whether the client applies ``up`` in the clear, as ``Packing.client_finishes`` says.
        tokens: Tokens whose largest Δ and largest error are compared.
        runs: Executions that they take; one each if None.
        public_encryption: Whether the client encrypts with a public key, which is noisier.
        nominal_scales: Whether the library calls a scale 2^bits whatever the primes that it divides by.
    """
    magnitudes = Magnitudes.of_shape(shape) if magnitudes is None else magnitudes
    flow = ErrorFlow(
        program=program,
        values=values,
        params=params,
        scales=scales,
        magnitudes=magnitudes,
        shape=shape,
        merged=not client_finishes and merges(program),
        public_encryption=public_encryption,
        nominal_scales=nominal_scales,
    )
    results = flow.results()
    if not results:
        return PrecisionReport(bits=MOST_BITS, error_rms=0.0, error_max=0.0, terms={}, flood_bits={})
    worst = max(results, key=lambda result: result.variance + result.spike)
    if client_finishes:
        worst = _finished(worst, magnitudes, shape)
    return _report(flow, worst, tokens, tokens if runs is None else runs)


def _finished(z: Noisy, magnitudes: Magnitudes, shape: ModuleShape) -> Noisy:
    """What the client makes of it: z, summed from as many places as its message lacks of z's, times ``up``."""
    summed = max(1.0, (magnitudes.z_rms(shape) / z.message) ** 2) if z.message else float(shape.d_in)
    gain = summed * shape.rank * magnitudes.up_rms**2
    spikes = None if z.spikes is None else np.array([gain / summed * z.spikes.sum()])
    return Noisy(z.message * math.sqrt(gain), z.variances * gain, spikes)


def _report(flow: ErrorFlow, worst: Noisy, tokens: int, runs: int) -> PrecisionReport:
    spikes = np.zeros(0) if worst.spikes is None else worst.spikes[worst.spikes > 0]
    # Every result of every run has these spikes, though not all of its slots are part of some token's Δ.
    times = min(runs * len(flow.program.results), tokens * flow.shape.d_out / max(1, spikes.size))

    def error(probability: float) -> float:
        even = largest_error(flow.shape, tokens, probability) * math.sqrt(worst.variance)
        return max(even, largest_spike(worst.variance + spikes, times, probability) if spikes.size else 0.0)

    def delta(probability: float) -> float:
        # Where Δ is zero, precision is that of the absolute error.
        return flow.magnitudes.delta_rms(flow.shape) * largest_delta(flow.shape, tokens, probability) or 1.0

    bits, error_max = MOST_BITS, error(1 - UNLUCKY)
    if error_max:
        unlucky = math.hypot(math.log2(error_max / error(0.5)), math.log2(delta(0.5) / delta(UNLUCKY)))
        bits = min(MOST_BITS, math.log2(delta(0.5) / error(0.5)) - unlucky)
    return PrecisionReport(
        bits=bits,
        error_rms=math.sqrt(worst.variance),
        error_max=error_max,
        terms=_shares(worst),
        flood_bits=flow.flood_bits,
    )


def _shares(result: Noisy) -> dict[str, float]:
    """What part of the worst slot's variance each source has."""
    shares = result.variances.copy()
    shares[Source.KEY_SWITCHING.value] += result.spike
    total = float(shares.sum())
    return {source.label: float(shares[source.value] / total) for source in Source if shares[source.value]}


def check_precision(report: PrecisionReport, asked_bits: float) -> None:
    """Refuse a plan that may leave less precision than is asked for.

    Raises:
        PrecisionLost: Names the bound, what dominates the error, and what would help.
    """
    if report.bits >= asked_bits:
        return
    source = max(report.terms, key=lambda name: report.terms[name])
    raise PrecisionLost(
        f"The plan keeps {max(0.0, report.bits):.1f} bits of the largest result at least; {asked_bits:g} were asked "
        "for. "
        f"{report.terms[source]:.0%} of the error's variance is {source}.",
        hint=f"{_REMEDIES[source]}, or ask for less precision.",
    )


_REMEDIES = {
    "encryption": "Raise the scale of the input",
    "input rounding": "Raise the scale of the input",
    "weight rounding": "Raise the scales of the plaintexts",
    "key switching": "Raise the scale of the input, or give the special primes more bits",
    "rescaling": "Raise the scale of the input",
    "scale drift": "Use a backend that tracks exact scales",
    "flooding": "Raise the scale of the input, or sanitise to fewer bits",
    "first round": "Give the base prime more bits",
    "float64": "Ask for what double precision holds",
}
