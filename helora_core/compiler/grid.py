"""The grid of a plan that runs ahead of time, and what a batch and an answer show: all of it known from the shape.

Activations and weights are integers x'', D'' and U'': multiples of 2^-bits of each. Δ'' = U''·D''·x'' is found modulo
2^64, exactly or to within 2^(f+1), so that the error of Δ is that of rounding to the grid, and no noise:

=================  ====================================================================================================
input rounding     √d_in·2^-(x_bits+1): rounding ‖x‖₂ ≤ 1 moves it by no more, and Δ by no more than that
weight rounding    ``weight_allowance``, which a module's own weights are held to (``helora_core.compiler.integers``)
dropped bits       2^(f+1) of 2^62, where f low bits of results are left out
float64            the client's scaling of x and Δ
=================  ====================================================================================================

The bits sum to 62. By ``helora_core.compiler.exponents`` Δ is at most one, and the sign takes a bit; what rounding adds
takes part of the one that is left.

How the bits are shared out is searched for: every grid of integers below 2^23 in size, which backends take, and of
those the one with the least bound.
"""

from __future__ import annotations

import functools
import math

import msgspec

from helora_core.adapter.lora import ModuleShape
from helora_core.backend.correlations import Switching
from helora_core.compiler.checks import Scales
from helora_core.compiler.error_flow import FLOAT64_ERROR
from helora_core.compiler.ir import OpKind, Program
from helora_core.compiler.precision import MOST_BITS, PrecisionReport
from helora_core.compiler.signal import expected_delta
from helora_core.errors import InvalidParameters, LeakageRefused, PrecisionLost
from helora_core.packing.protocol import Grid
from helora_core.params.ckks import WRAP_BITS, CKKSParams
from helora_core.params.noise import ERROR_STD

GRID_BITS = 62
"""Bits of the three grids together."""

_MOST_WEIGHT_BITS = 22
"""Integers of weights of at most one, rounded, are then below 2^23 in size."""

ALLOWANCE = 1.25
"""How much more than random remainders of the mean size the rounding of weights may move a row of W."""

_SMALL = 8
"""The allowance is that of so many more terms: few remainders are often far from their mean size."""

_MOST_PRODUCT_BITS = 41
"""Bits of both weights together: the noise of results grows by them, and has to be hidden."""

_DROPPED_SHARE = 1 / 16
"""Share of the bound on the error that dropped bits take, unless it takes more to hide the noise."""

_MOST_DROPPED_BITS = 46
"""The most bits that are dropped to hide noise."""

_MORE_BITS = 3
"""Bits that results keep more than answers: the error of Δ is then nearly that of answers alone."""

_KEY_TAIL = 7.5
"""Standard deviations of what the second polynomial's dropped bits do that stay below an eighth of an answer's unit."""

_NOMINAL_SLACK_BITS = 0.25
"""By how much all data primes together may be shorter than their bit lengths say."""

_SECRET_VARIANCE = 2 / 3


class Correlation(msgspec.Struct, frozen=True):
    """How activations are combined with results made ahead of time.

    Attributes:
        grid: The grid on which activations and weights are integers.
        how: How results leave the server.
        answer_bits: Bits of online answers that are kept, from the top: 64 in exact mode. Results keep a few more,
            since their bytes are not waited for.
        distance_bits: −log2 of the statistical distance, for each value, between what is left of the noise in a result
            and something that does not depend on the weights. Distances add up over values.
    """

    grid: Grid
    how: Switching
    answer_bits: int
    distance_bits: float

    @property
    def dropped_bits(self) -> int:
        """f: low bits of answers that are left out."""
        return WRAP_BITS - self.answer_bits


def worst_rounding(shape: ModuleShape, down_bits: int, up_bits: int) -> float:
    """The most by which the rounding of weights can move a row of W: every remainder one half, of the worst sign."""
    down = math.sqrt(shape.rank * shape.d_in) * 2.0 ** -(down_bits + 1)
    up = math.sqrt(shape.rank) * 2.0 ** -(up_bits + 1)
    return down + up + math.sqrt(shape.rank) * down * up


def weight_allowance(shape: ModuleShape, down_bits: int, up_bits: int) -> float:
    """The most by which rounding may move a row of W, ‖(U·D − U''·D''·2^-(down_bits+up_bits))_o‖₂.

    Remainders are as good as uniform for nearly all weights. Then those of ``down`` move a row by √(d_in/12) units,
    since rows of ``up`` are at most one; those of ``up`` by √(rank/12), since the spectral norm of ``down`` is at most
    one. Whether a module keeps to it is checked with its weights.
    """
    random = math.hypot(
        math.sqrt(shape.d_in + _SMALL) * 2.0**-down_bits, math.sqrt(shape.rank + _SMALL) * 2.0**-up_bits
    )
    return min(worst_rounding(shape, down_bits, up_bits), ALLOWANCE * random / math.sqrt(12))


def _rounding(shape: ModuleShape, grid: Grid) -> dict[str, float]:
    return {
        "input rounding": math.sqrt(shape.d_in) * 2.0 ** -(grid.x_bits + 1),
        "weight rounding": weight_allowance(shape, grid.down_bits, grid.up_bits),
        "float64": FLOAT64_ERROR,
    }


@functools.lru_cache(maxsize=256)
def chosen_grid(shape: ModuleShape) -> Grid:
    """The grid with the least bound on the error; the finest activations of equal ones."""
    grids = [
        Grid(GRID_BITS - down - up, down, up)
        for down in range(1, _MOST_WEIGHT_BITS + 1)
        for up in range(1, min(_MOST_WEIGHT_BITS, _MOST_PRODUCT_BITS - down) + 1)
    ]
    return min(grids, key=lambda grid: (sum(_rounding(shape, grid).values()), -grid.x_bits))


def grid_scales(grid: Grid, params: CKKSParams) -> Scales:
    """The grid as scales: an activation is encrypted times the data primes."""
    return Scales(input_bits=grid.x_bits + sum(params.data_bits), down_bits=grid.down_bits, up_bits=grid.up_bits)


def grid_of(scales: Scales, params: CKKSParams) -> Grid:
    """The grid of a plan's scales.

    Raises:
        InvalidParameters: They are none of a grid: its bits do not sum to 62, or integers would be too large.
    """
    grid = Grid(scales.input_bits - sum(params.data_bits), scales.down_bits, scales.up_bits)
    fits = grid.x_bits >= 1 and all(1 <= bits <= _MOST_WEIGHT_BITS for bits in (grid.down_bits, grid.up_bits))
    if not fits or grid.bits != GRID_BITS:
        raise InvalidParameters(
            f"A grid of {grid.x_bits}, {grid.down_bits} and {grid.up_bits} bits for x, down and up: they have to sum "
            f"to {GRID_BITS}, those of weights being 1 to {_MOST_WEIGHT_BITS}.",
            hint="Leave the choice of scales to the plan.",
        )
    return grid


def switching_bits(shape: ModuleShape, grid: Grid, params: CKKSParams, hidden_bits: int) -> tuple[int, int, int]:
    """The low bits of a result's two polynomials and of answers to leave out: as many as the precision has no use for.

    More are left out where it takes that to hide the noise to ``hidden_bits``; whether that leaves the precision asked
    for is checked with the plan's. Results keep three bits more than answers, if that hides the noise.
    """
    bound = sum(_rounding(shape, grid).values())
    first = math.floor(math.log2(_DROPPED_SHARE * bound)) + GRID_BITS - 1
    while first < _MOST_DROPPED_BITS and not _hides(shape, grid, params, first, hidden_bits):
        first += 1
    hiding = (more for more in range(_MORE_BITS, 0, -1) if _hides(shape, grid, params, first - more, hidden_bits))
    return first - next(hiding, 0), _least_seen(first, params), first


def _hides(shape: ModuleShape, grid: Grid, params: CKKSParams, dropped_bits: int, hidden_bits: int) -> bool:
    return hiding_bits(shape, grid, params, dropped_bits) >= hidden_bits


def _least_seen(dropped_bits: int, params: CKKSParams) -> int:
    """Low bits of the second polynomial that change Δ by less than an eighth of a unit of answers without f bits: its
    uniform remainders are multiplied by a ternary key of N coefficients.
    """
    std = math.sqrt(params.ring_degree * _SECRET_VARIANCE / 12)
    return math.floor(dropped_bits - 3 - math.log2(_KEY_TAIL * std))


def hiding_bits(shape: ModuleShape, grid: Grid, params: CKKSParams, dropped_bits: int) -> float:
    """−log2 of the statistical distance of one value.

    A re-randomised sum has the noise E = W''·e + e_pk·u + e₀ + e₁·s. Of independent errors of ERROR_STD a coefficient
    and ternary u and s, its root mean square, which is no less than the mean of \\|E\\|, is ERROR_STD times the root of

    - ‖W''_o‖₂² ≤ 4^(down_bits+up_bits)·(1 + allowance)², of W''·e;
    - N·2/3 each, of e_pk·u and of e₁·s, and 1, of e₀.

    Adding E to something uniform moves its distribution by \\|E\\| over the width. Without flood c₀ is uniform modulo
    q₁·2^f, as far as it decides what is sent; a flood is uniform over q₁/2.

    Args:
        shape: The module's shape.
        grid: Its grid.
        params: Nominal or resolved parameters.
        dropped_bits: f; 0 for a flood.
    """
    rows = 2.0 ** (grid.down_bits + grid.up_bits) * (1 + weight_allowance(shape, grid.down_bits, grid.up_bits))
    noise = ERROR_STD * math.sqrt(rows**2 + 2 * params.ring_degree * _SECRET_VARIANCE + 1)
    width = dropped_bits if dropped_bits else -1
    return primes_bits(params) + width - math.log2(noise)


def primes_bits(params: CKKSParams) -> float:
    """log2 of the product of the data primes; a little less than nominal lengths say."""
    if params.data_primes:
        return math.log2(math.prod(params.data_primes))
    return sum(params.data_bits) - _NOMINAL_SLACK_BITS


def correlation_of(program: Program, shape: ModuleShape, params: CKKSParams, scales: Scales) -> Correlation | None:
    """A plan's kind of correlations; None if nothing is made ahead of time.

    Raises:
        InvalidParameters: Scales are none of a grid, or more bits are dropped than the bound on the error allows for.
    """
    made = next((program.ops[i] for i in program.results if program.ops[i].kind is OpKind.CORRELATE), None)
    if made is None:
        return None
    grid = grid_of(scales, params)
    first, second, of_answers = made.low_bits or (0, 0, 0)
    if second > max(0, _least_seen(of_answers, params)) or first > of_answers:
        raise InvalidParameters(
            f"Results without {first} and {second} low bits, where {of_answers} of answers are left out: what is "
            "missing would be seen.",
            hint="Leave the choice of the bits to the plan.",
        )
    how = Switching(WRAP_BITS - first, WRAP_BITS - second, exact=not made.low_bits)
    return Correlation(grid, how, WRAP_BITS - of_answers, hiding_bits(shape, grid, params, first))


def require_hidden(packing: str, correlation: Correlation, sanitize_bits: int | None) -> None:
    """Check that results hide their noise as well as is asked for.

    Raises:
        LeakageRefused: They do not.
    """
    if (sanitize_bits or 0) > correlation.distance_bits:
        raise LeakageRefused(
            f"Packing {packing}: the noise of a result is hidden to a statistical distance of "
            f"2^-{correlation.distance_bits:.1f}; 2^-{sanitize_bits} is asked for.",
            hint=f"Ask for --sanitize {int(correlation.distance_bits)}, or take packing precomputed in a ring of 8192.",
        )


def precision_on(shape: ModuleShape, correlation: Correlation) -> PrecisionReport:
    """The bound on the error of a plan that runs ahead of time."""
    amplitudes = _rounding(shape, correlation.grid)
    if not correlation.how.exact:
        amplitudes["dropped bits"] = 2.0 ** (correlation.dropped_bits + 1 - GRID_BITS)
    bound = sum(amplitudes.values())
    return PrecisionReport(
        error_bound=bound,
        bits=min(MOST_BITS, math.log2(expected_delta(shape) / bound)),
        terms={name: amplitude / bound for name, amplitude in amplitudes.items()},
        flood_bits={},
        mask_bits={},
    )


def check_kept(packing: str, shape: ModuleShape, report: PrecisionReport, asked_bits: float) -> None:
    """Refuse a plan that keeps less precision than is asked for.

    Raises:
        PrecisionLost: It says how many bits it keeps.
    """
    if report.bits < asked_bits:
        raise PrecisionLost(
            f"Packing {packing} keeps {max(0.0, report.bits):.1f} bits of Δ for modules {shape}, with the best grid of "
            f"{GRID_BITS} bits; {asked_bits:g} are asked for.",
            hint=f"Ask for {max(0, math.floor(report.bits))} bits (--target-bits, precision_bits), or use an online "
            "packing.",
        )


def bits_per_query(shape: ModuleShape, correlation: Correlation) -> float:
    """Bits of each number of z = D''·y, modulo 2^64, that one query shows to a client who knows U''.

    An answer is U''·z without its f low bits, of d_out equations for rank unknowns. Rows of U'' are at most 2^up_bits
    long, so by least squares z is known to about 2^(f−up_bits)·√(rank/d_out). Where that is less than one, it counts:
    an upload may encrypt fractions of q₁, so that z has bits below the point. The client may choose its numbers so that
    z holds those of several columns of ``down``, one beside the other.
    """
    averaged = math.log2(max(1.0, shape.d_out / shape.rank)) / 2
    return correlation.answer_bits + correlation.grid.up_bits + averaged
