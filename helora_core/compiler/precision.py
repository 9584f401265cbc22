"""How precise a plan's result will be, and how large a flood must be, from the program alone.

``analyse`` follows, for each value of a program, the root mean square of its message and the variance of its error, by
source. The sizes are those of ``helora_core.params.noise``; the rules are
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cached_property

import msgspec
import numpy as np
from numpy.typing import NDArray

from helora_core.adapter.lora import ModuleShape
from helora_core.backend.capabilities import Encoding
from helora_core.compiler.checks import ANSWER_SPARE_BITS, Scales, ValueInfo
from helora_core.compiler.ir import Op, OpKind, Program
from helora_core.compiler.magnitudes import Magnitudes, largest_delta, largest_error, largest_spike
from helora_core.errors import PrecisionLost
from helora_core.packing.protocol import ScaleRole
from helora_core.params import noise
from helora_core.params.ckks import CKKSParams

MOST_BITS = 53.0
UNLUCKY = 0.01
"""Share of the cases in which error, or signal, may lie beyond its quantile."""

_FLOAT_ERROR = 2.0**-50
_PRODUCTS = (OpKind.MULTIPLY_PLAIN, OpKind.DOT_PLAIN, OpKind.DOT_SCALARS)


class Source(Enum):
    """Where error comes from; the value is its row in a table of variances."""

    ENCRYPTION = 0
    INPUT_ROUNDING = 1
    WEIGHT_ROUNDING = 2
    KEY_SWITCHING = 3
    RESCALING = 4
    SCALE_DRIFT = 5
    FLOODING = 6
    FLOAT64 = 7
    FIRST_ROUND = 8


class PrecisionReport(msgspec.Struct, frozen=True, kw_only=True):
    """What can be said of a plan's precision before anything runs.

    Attributes:
        bits: Bits of max|Δ| that survive, at least: −log2(error_max / max|Δ|), as ``precision_bits`` measures.
        error_rms: Root mean square of the error of Δ.
        error_max: Bound on the largest error of Δ.
        terms: Share of each source in the error's variance; they add up to 1, unless there is no error at all.
        flood_bits: For each ``SANITIZE``, by value number: log2 of the standard deviation, or of the largest absolute
            value, of the flood of a coefficient, in integer units.
    """

    bits: float
    error_rms: float
    error_max: float
    terms: dict[str, float]
    flood_bits: dict[int, int]


@dataclass(frozen=True, eq=False)
class Noisy:
    """What is known of one value, in its own units (integers divided by the scale).

    Attributes:
        message: Root mean square of a slot, or of a coefficient.
        variances: Of the error, by source, averaged over slots or coefficients.
        spikes: Variance on top of that in each slot, from key switches; None where there was none.
    """

    message: float
    variances: NDArray[np.float64]
    spikes: NDArray[np.float64] | None = None

    @property
    def variance(self) -> float:
        """Of the error, averaged."""
        return float(self.variances.sum())

    @property
    def spike(self) -> float:
        """The largest spike."""
        return 0.0 if self.spikes is None else float(self.spikes.max())

    def plus(self, source: Source, variance: float) -> Noisy:
        """The same with independent error on top."""
        more = self.variances.copy()
        more[source.value] += variance
        return replace(self, variances=more)


@dataclass(frozen=True, eq=False)
class _Analysis:
    """What all rules need to know."""

    program: Program
    values: Sequence[ValueInfo]
    params: CKKSParams
    scales: Scales
    magnitudes: Magnitudes
    shape: ModuleShape
    merged: bool
    public_encryption: bool
    nominal_scales: bool
    flood_bits: dict[int, int] = field(default_factory=dict)

    @property
    def coefficients(self) -> bool:
        return self.program.encoding is Encoding.COEFFICIENTS

    def unit(self, value: int, std: float) -> float:
        """The variance of a slot's (or a coefficient's) error of ``std`` a real slot, in units of the value."""
        places = self.params.ring_degree / 2 if self.coefficients else 1.0
        return std**2 / places / 4.0 ** self.values[value].scale_bits

    def results(self) -> list[Noisy]:
        """What is known of the program's results."""
        live: dict[int, Noisy] = {}
        for i, (op, freed) in enumerate(zip(self.program.ops, self.program.last_reads(), strict=True)):
            live[i] = self._apply(i, op, [live[arg] for arg in op.args])
            for value in freed:
                del live[value]
        return [live[output] for output in self.program.results]

    def _apply(self, i: int, op: Op, operands: list[Noisy]) -> Noisy:
        if op.kind is OpKind.INPUT:
            return self._input
        if op.kind is OpKind.ROTATE:
            return self._rotated(i, op, operands[0])
        if op.kind in _PRODUCTS:
            return self._product(op, operands)
        if op.kind is OpKind.ADD:
            return _doubled(operands[0]) if op.args[0] == op.args[1] else _sum(operands)
        if op.kind is OpKind.RESCALE:
            return self._rescaled(i, operands[0])
        if op.kind is OpKind.SANITIZE:
            return self._sanitized(i, op, operands[0])
        if op.kind is OpKind.MASK:
            return self._randomized(i, operands[0])
        if op.kind is OpKind.ASK_CLIENT:
            return self._answered(i, op, operands)
        return operands[0]

    @cached_property
    def _input(self) -> Noisy:
        n, message, i = self.params.ring_degree, self.magnitudes.x_rms, self.program.inputs[0]
        return (
            Noisy(message, np.zeros(len(Source)))
            .plus(Source.INPUT_ROUNDING, self.unit(i, noise.encoding_std(n)))
            .plus(Source.ENCRYPTION, self.unit(i, self._encryption_std()))
            .plus(Source.FLOAT64, (message * _FLOAT_ERROR) ** 2)
        )

    def _encryption_std(self) -> float:
        n = self.params.ring_degree
        return noise.public_encryption_std(n) if self.public_encryption else noise.encryption_std(n)

    def _rotated(self, i: int, op: Op, operand: Noisy) -> Noisy:
        n = self.params.ring_degree
        data = self.params.data_bits[: self.values[i].level + 1]
        special = sum(self.params.special_bits) or max(data)
        even = self.unit(i, noise.keyswitch_std(n, data, special))
        worst = self.unit(i, noise.keyswitch_worst_std(n, data, special))
        spikes = np.zeros(self.program.slots) if operand.spikes is None else np.roll(operand.spikes, -op.steps)
        spikes[0] += worst - even
        return replace(operand, spikes=spikes).plus(Source.KEY_SWITCHING, even)

    def _product(self, op: Op, operands: list[Noisy]) -> Noisy:
        gain, message_gain, rounding = self._gains(op)
        total = _sum(operands)
        product = Noisy(
            total.message * math.sqrt(message_gain),
            total.variances * gain,
            None if total.spikes is None else total.spikes * gain,
        )
        return product.plus(Source.WEIGHT_ROUNDING, total.message**2 * rounding)

    def _gains(self, op: Op) -> tuple[float, float, float]:
        """What a product makes of the variance of noise, of the square of messages, and of that by its own rounding."""
        n, weight = self.params.ring_degree, self._weight_rms(op) ** 2
        # What a mask is taken off of is rounded to a grid that is coarser than its scale.
        coarser = ANSWER_SPARE_BITS if op.role is ScaleRole.UP and self._asks else 0
        rounding = 4.0 ** (coarser - self.scales.of(op.role))
        if op.kind is OpKind.DOT_SCALARS:
            return weight, weight, rounding / 12
        if not self.coefficients:
            return weight, weight, rounding * noise.encoding_std(n) ** 2
        # Blocks of the matrix's columns are an operand each.
        rows, columns = self._matrix(op)
        width = min(n, -(-columns // len(op.args)))
        return weight * min(n, rows * width), weight * width, rounding / 12 * width

    @cached_property
    def _asks(self) -> bool:
        return any(op.kind is OpKind.ASK_CLIENT for op in self.program.ops)

    def _weight_rms(self, op: Op) -> float:
        if self.merged:
            return self.magnitudes.merged_rms(self.shape)
        return self.magnitudes.up_rms if op.role is ScaleRole.UP else self.magnitudes.down_rms

    def _matrix(self, op: Op) -> tuple[int, int]:
        """Rows and columns of the matrix that an operation's weights are of."""
        if self.merged:
            return self.shape.d_out, self.shape.d_in
        if op.role is ScaleRole.UP:
            return self.shape.d_out, self.shape.rank
        return self.shape.rank, self.shape.d_in

    def _rescaled(self, i: int, operand: Noisy) -> Noisy:
        level = self.values[i].level + 1
        rescaled = operand.plus(Source.RESCALING, self.unit(i, noise.rescale_std(self.params.ring_degree)))
        if not self.nominal_scales:
            return rescaled
        bits = self.params.data_bits[level]
        if self.params.data_primes:
            drift = abs(2.0**bits / self.params.data_primes[level] - 1)
        else:
            # Primes that are 1 mod 2N lie 2N·ln(2^bits) apart on average; the chain's own are the nearest few.
            drift = 2 * self.params.ring_degree * bits * math.log(2) * len(self.params.data_bits) / 2.0**bits
        return rescaled.plus(Source.SCALE_DRIFT, (operand.message * drift) ** 2)

    def _randomized(self, i: int, operand: Noisy) -> Noisy:
        """With a fresh encryption of zero added, by the public key; divided by a prime, only the rounding is left."""
        n, fresh = self.params.ring_degree, self.values[i].level == self.params.max_level
        return operand.plus(
            Source.ENCRYPTION, self.unit(i, noise.public_encryption_std(n) if fresh else noise.rescale_std(n))
        )

    def _sanitized(self, i: int, op: Op, operand: Noisy) -> Noisy:
        n = self.params.ring_degree
        # From slots to integers in the coefficients: a slot's real part has N/2 times a coefficient's variance.
        places = 1.0 if self.coefficients else n / 2
        units = 4.0 ** self.values[i].scale_bits / places
        sigmas = math.sqrt(2 * math.log(2) * (math.log2(2 * n) + op.bits))
        bound = max(1.0, sigmas * math.sqrt(_ciphertext_noise(operand) * units))
        bits = math.ceil(op.bits + math.log2(bound))
        self.flood_bits[i] = bits
        return self._randomized(i, operand).plus(Source.FLOODING, 4.0**bits / units)

    def _answered(self, i: int, op: Op, operands: list[Noisy]) -> Noisy:
        """The client encrypts what she decrypted, errors included, as integers modulo the base prime.

        Those errors stand in as many coefficients as the numbers of z, and not in all that the next product adds up.
        They are part of what she asks for, and no noise of a ciphertext that a flood has to hide.
        """
        worst = max(operands, key=lambda operand: operand.variance)
        n, rank = self.params.ring_degree, self.shape.rank
        share = rank / min(n, self.shape.d_out * rank)
        worst = Noisy(worst.message, np.zeros(len(Source))).plus(Source.FIRST_ROUND, worst.variance * share)
        largest = 2.0 ** (self.params.data_bits[0] - self.values[op.args[0]].scale_bits)
        return (
            worst.plus(Source.INPUT_ROUNDING, self.unit(i, noise.encoding_std(n)))
            .plus(Source.ENCRYPTION, self.unit(i, self._encryption_std()))
            .plus(Source.FLOAT64, largest**2 / 12 * _FLOAT_ERROR**2)
        )


_NOISE = [Source.ENCRYPTION.value, Source.KEY_SWITCHING.value, Source.RESCALING.value]


def _ciphertext_noise(value: Noisy) -> float:
    """The variance of what a flood must drown: noise that was multiplied by weights.

    The rounding of weights is no noise: the client gets the result of the weights as they are encoded, exactly, since
    the rounded polynomials are the ones that she would be given by a server that computed in the clear.
    """
    spiked = 0.0 if value.spikes is None else float(value.spikes.mean())
    return float(value.variances[_NOISE].sum()) + spiked


def _sum(operands: Sequence[Noisy]) -> Noisy:
    """The sum of independent values. Inputs are all one object, so that long sums of them are quick."""
    message = 0.0
    variances = np.zeros(len(Source))
    spikes: NDArray[np.float64] | None = None
    for operand, count in Counter(operands).items():
        message += count * operand.message**2
        variances += count * operand.variances
        if operand.spikes is not None:
            spikes = count * operand.spikes if spikes is None else spikes + count * operand.spikes
    return Noisy(math.sqrt(message), variances, spikes)


def _doubled(operand: Noisy) -> Noisy:
    """A value added to itself."""
    return Noisy(2 * operand.message, 4 * operand.variances, None if operand.spikes is None else 4 * operand.spikes)


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
        public_encryption: Whether the client encrypts with a public key, which is noisier.
        nominal_scales: Whether the library calls a scale 2^bits whatever the primes that it divides by.
    """
    magnitudes = Magnitudes.of_shape(shape) if magnitudes is None else magnitudes
    merged = not client_finishes and max(_products_before(program), default=0) == 1
    analysis = _Analysis(program, values, params, scales, magnitudes, shape, merged, public_encryption, nominal_scales)
    results = analysis.results()
    if not results:
        return PrecisionReport(bits=MOST_BITS, error_rms=0.0, error_max=0.0, terms={}, flood_bits={})
    worst = max(results, key=lambda result: result.variance + result.spike)
    if client_finishes:
        worst = _finished(worst, magnitudes, shape)
    return _report(worst, magnitudes, shape, tokens, analysis.flood_bits)


def _products_before(program: Program) -> list[int]:
    """For each result, how many products lie between it and the inputs."""
    depths: list[int] = []
    for op in program.ops:
        depths.append(max((depths[arg] for arg in op.args), default=0) + (op.kind in _PRODUCTS))
    return [depths[output] for output in program.results]


def _finished(z: Noisy, magnitudes: Magnitudes, shape: ModuleShape) -> Noisy:
    """What the client makes of it: z, summed from as many places as its message lacks of z's, times ``up``."""
    summed = max(1.0, (magnitudes.z_rms(shape) / z.message) ** 2) if z.message else float(shape.d_in)
    gain = summed * shape.rank * magnitudes.up_rms**2
    spikes = None if z.spikes is None else np.array([gain / summed * z.spikes.sum()])
    return Noisy(z.message * math.sqrt(gain), z.variances * gain, spikes)


def _report(
    result: Noisy, magnitudes: Magnitudes, shape: ModuleShape, tokens: int, flood_bits: dict[int, int]
) -> PrecisionReport:
    spiked = 0 if result.spikes is None else int(np.count_nonzero(result.spikes > result.spike / 4))

    def error(probability: float) -> float:
        return math.hypot(
            largest_error(shape, tokens, probability) * math.sqrt(result.variance),
            largest_spike(shape, spiked, tokens, probability) * math.sqrt(result.spike),
        )

    def delta(probability: float) -> float:
        return magnitudes.delta_rms(shape) * largest_delta(shape, tokens, probability)

    error_max, bits = error(1 - UNLUCKY), MOST_BITS
    if error_max:
        bits = -math.log2(error(0.5) / (delta(0.5) or 1.0))
        # Signal and error are unlucky independently of each other.
        unlucky = math.hypot(
            math.log2(error_max / error(0.5)), math.log2(delta(0.5) / delta(UNLUCKY)) if delta(0.5) else 0.0
        )
        bits = min(MOST_BITS, bits - unlucky)
    shares = result.variances.copy()
    shares[Source.KEY_SWITCHING.value] += result.spike
    total = float(shares.sum())
    return PrecisionReport(
        bits=bits,
        error_rms=math.sqrt(result.variance),
        error_max=error_max,
        terms={s.name.lower().replace("_", " "): float(shares[s.value] / total) for s in Source if shares[s.value]},
        flood_bits=flood_bits,
    )


def check_precision(report: PrecisionReport, asked_bits: float) -> None:
    """Refuse a plan that may leave less precision than is asked for.

    Raises:
        PrecisionLost: Names the bound, what dominates the error, and what would help.
    """
    if report.bits >= asked_bits:
        return
    source = max(report.terms, key=lambda name: report.terms[name])
    raise PrecisionLost(
        f"The plan keeps {report.bits:.1f} bits of the largest result at least; {asked_bits:g} were asked for. "
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
