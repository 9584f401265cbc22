"""A bound on the error of a plan's result, and the sizes of its floods, before anything runs.

``analyse`` follows errors through the program (``helora_core.compiler.error_flow``) up to Δ. The bound is absolute, in
the units of ``helora_core.compiler.exponents`` (where max|Δ| ≤ 1), holds for all weights and activations, and fails
with a probability of at most 2^-40 over the randomness of keys, encryption and flood, for all values of a run
together:

    error ≤ rounding of weights + t·σ(noise) + t'·σ(flood, and bits dropped of c₀).

t' is for normal noise. In slots, noise is rounding or error times a secret, or digits times a key's errors: two complex
normal values multiplied, whose real part has Laplace's distribution, with a longer tail. Sums of several such have a
shorter one. How many bits of Δ the bound leaves depends on the actual Δ; ``PrecisionReport.bits`` are for the expected
one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from helora_core.adapter.lora import ModuleShape
from helora_core.backend.capabilities import Encoding
from helora_core.compiler.checks import Scales, ValueInfo
from helora_core.compiler.error_flow import FLOAT64_ERROR, ErrorFlow, merges
from helora_core.compiler.exponents import MOST_CANCELLED_BITS
from helora_core.compiler.ir import Program
from helora_core.compiler.noisy import NORMAL, Noisy, Source
from helora_core.compiler.signal import expected_delta
from helora_core.errors import PrecisionLost
from helora_core.params.ckks import CKKSParams
from helora_core.params.noise import USUAL_NOISE, NoiseModel

MOST_BITS = 53.0
"""The most bits that a result in float64 can have."""

FAILURE_BITS = 40
"""The bound fails with a probability of at most 2^-40."""


class PrecisionReport(msgspec.Struct, frozen=True, kw_only=True):
    """A plan's precision, before anything runs.

    Attributes:
        error_bound: Bound on the error of every value of Δ, for ‖x‖₂ ≤ 1 and normalised weights; times the powers
            of two of token and module it is the bound for the Δ that is returned.
        bits: −log2(error_bound / max|Δ|) for the smallest expected max|Δ|.
        terms: Share of each source in the bound; they add up to 1.
        flood_bits: For each ``SANITIZE``, by value number: log2 of the standard deviation of the flood of a
            coefficient, in integer units.
        mask_bits: Likewise of the mask that drowns unread slots; absent for coefficients.
    """

    error_bound: float
    bits: float
    terms: dict[str, float]
    flood_bits: dict[int, int]
    mask_bits: dict[int, int]


def analyse(
    program: Program,
    values: Sequence[ValueInfo],
    params: CKKSParams,
    scales: Scales,
    *,
    shape: ModuleShape,
    client_finishes: bool = False,
    noise_model: NoiseModel = USUAL_NOISE,
    nominal_scales: bool = False,
) -> PrecisionReport:
    """Bound the error of a plan's result.

    Args:
        program: The program, after all passes.
        values: Level and scale of its values, from ``annotate``.
        params: Nominal or resolved parameters.
        scales: The plan's scales.
        shape: The module's shape.
        client_finishes: Whether the client applies ``up`` in the clear, as ``Packing.client_finishes`` says.
        noise_model: The model of the backend's noise.
        nominal_scales: Whether the library treats a scale as 2^bits regardless of the primes that it divides by.
    """
    flow = ErrorFlow(
        program=program,
        values=values,
        params=params,
        scales=scales,
        shape=shape,
        merged=not client_finishes and merges(program),
        noise_model=noise_model,
        nominal_scales=nominal_scales,
    )
    results = flow.results()
    if not results:
        return PrecisionReport(error_bound=0.0, bits=MOST_BITS, terms={}, flood_bits={}, mask_bits={})
    if client_finishes:
        results = [_finished(z, shape) for z in results]
    places = len(results) * params.ring_degree
    amplitudes = max(
        (_amplitudes(each, places, program.encoding) | {"float64": _float64_error(shape, merged=flow.merged)}
         for each in results),
        key=lambda each: sum(each.values()),
    )  # fmt: skip
    bound = sum(amplitudes.values())
    return PrecisionReport(
        error_bound=bound,
        bits=min(MOST_BITS, math.log2(expected_delta(shape) / bound)),
        terms={name: amplitude / bound for name, amplitude in amplitudes.items() if amplitude},
        flood_bits=flow.flood_bits,
        mask_bits=flow.mask_bits,
    )


def _finished(z: Noisy, shape: ModuleShape) -> Noisy:
    """The client's result: z, summed over the slots that its row is spread over, times a row of ``up``."""
    spread = max(1.0, shape.d_in / z.terms)
    whole = z.flattened()
    return Noisy(
        stage=z.stage,
        terms=z.terms * spread,
        variances=whole.variances * spread,
        down_rounding=z.down_rounding * spread * shape.rank,
        drift=z.drift,
    )


def normal_tail(places: int) -> float:
    """Number of standard deviations that, except with probability 2^-40, none of so many normal values exceeds."""
    return math.sqrt(2 * (math.log(2 * places) + FAILURE_BITS * math.log(2)))


def _laplace_tail(places: int) -> float:
    return (math.log(places) + FAILURE_BITS * math.log(2)) / math.sqrt(2)


def _amplitudes(result: Noisy, places: int, encoding: Encoding) -> dict[str, float]:
    """The share of each source in the bound."""
    whole = result.flattened().variances
    normal = {source: float(whole[source.value]) for source in NORMAL}
    even = sum(normal.values())
    noise = float(whole.sum()) - even
    tail = normal_tail(places) if encoding is Encoding.COEFFICIENTS else _laplace_tail(places)
    amplitudes = {
        source.label: float(whole[source.value]) * tail / math.sqrt(noise)
        for source in Source
        if source not in normal and noise
    }
    amplitudes |= {
        source.label: variance * normal_tail(places) / math.sqrt(even) for source, variance in normal.items() if even
    }
    return amplitudes | {
        "weight rounding": math.sqrt(result.down_rounding) + math.sqrt(result.up_rounding),
        "scale drift": result.drift,
    }


def _float64_error(shape: ModuleShape, *, merged: bool) -> float:
    """Error of transforms; and of up·down, whose ``rank`` terms may cancel to a 2^-MOST_CANCELLED_BITS: each entry is
    off by rank·2^-53 of ‖up_o‖₂·‖down_·i‖₂, and a row by √rank as much, since ‖down‖ is one.
    """
    return FLOAT64_ERROR + (shape.rank**1.5 * 2.0 ** (MOST_CANCELLED_BITS - MOST_BITS) if merged else 0.0)


def check_precision(report: PrecisionReport, asked_bits: float) -> None:
    """Refuse a plan that is expected to leave less precision than is asked for.

    Raises:
        PrecisionLost: Names the expected bits, the largest source of error, and a remedy.
    """
    if report.bits >= asked_bits:
        return
    source = max(report.terms, key=lambda name: report.terms[name])
    raise PrecisionLost(
        f"The plan is expected to keep {max(0.0, report.bits):.1f} bits of Δ; {asked_bits:g} were asked for. "
        f"{report.terms[source]:.0%} of the bound on the error is {source}.",
        hint=f"{_REMEDIES[source]}, or ask for less precision.",
    )


_REMEDIES = {
    "encryption": "Raise the scale of the input",
    "input rounding": "Raise the scale of the input",
    "weight rounding": "Raise the scales of the plaintexts",
    "key switching": "Raise the scale of the input, or give the special primes more bits",
    "rescaling": "Raise the scale of the input",
    "scale drift": "Use a backend that tracks exact scales",
    "flooding": "Use a larger ring, or sanitise to fewer bits",
    "dropped bits": "Drop fewer low bits of results",
    "dropped bits times secret": "Drop fewer low bits of results",
    "first round": "Give the base primes more bits",
    "float64": "Ask for no more than double precision holds",
}
