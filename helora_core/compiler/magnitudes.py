"""How large values are, as far as precision depends on it: root mean squares, and the extremes of many values.

Weights and activations are taken as independent and random of the sizes stated, so that a sum of n products has √n
times the size of one.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import msgspec
import numpy as np
from numpy.typing import NDArray

from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.adapter.synthetic import OUTLIER_FACTOR, OUTLIER_SHARE, UP_STD

_SYNTHETIC_SCALING = 2.0


class Magnitudes(msgspec.Struct, frozen=True, kw_only=True):
    """Root mean squares of what a plan is run on.

    Attributes:
        x_rms: Of the activations.
        down_rms: Of the entries of ``down``.
        up_rms: Of the entries of the scaled ``up``.
    """

    x_rms: float
    down_rms: float
    up_rms: float

    @classmethod
    def of_shape(cls, shape: ModuleShape) -> Magnitudes:
        """Those of ``synthetic_module`` and ``synthetic_activations`` for this shape."""
        outliers = max(1, round(shape.d_in * OUTLIER_SHARE))
        return cls(
            x_rms=math.sqrt(1 + (OUTLIER_FACTOR**2 - 1) * outliers / shape.d_in),
            down_rms=1 / math.sqrt(3 * shape.d_in),
            up_rms=_SYNTHETIC_SCALING * UP_STD,
        )

    @classmethod
    def of(cls, module: LoRAModule, x_rms: float = 1.0) -> Magnitudes:
        """Those of a module. For a plan that several share, the caller combines them: the smallest Δ decides."""
        return cls(x_rms=x_rms, down_rms=_rms(module.down), up_rms=_rms(module.scaled_up))

    def z_rms(self, shape: ModuleShape) -> float:
        """Of z = down·x."""
        return self.x_rms * self.down_rms * math.sqrt(shape.d_in)

    def merged_rms(self, shape: ModuleShape) -> float:
        """Of the entries of up·down."""
        return self.down_rms * self.up_rms * math.sqrt(shape.rank)

    def delta_rms(self, shape: ModuleShape) -> float:
        """Of Δ."""
        return self.z_rms(shape) * self.up_rms * math.sqrt(shape.rank)


def _rms(values: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(values**2)))


def largest_of(count: int, probability: float) -> float:
    """What the largest absolute value of ``count`` standard normal ones stays below with this probability."""
    each = probability ** (1 / count)
    return NormalDist().inv_cdf((1 + each) / 2)


def norm_below(count: int, probability: float) -> float:
    """What the root mean square of ``count`` standard normal values stays below with this probability.

    (Wilson and Hilferty, PNAS 17 (1931): the cube root of a χ² is nearly normal.)
    """
    spread = 2 / (9 * count)
    cube_root = 1 - spread + NormalDist().inv_cdf(probability) * math.sqrt(spread)
    return float(max(cube_root, 0.0) ** 1.5)


def largest_delta(shape: ModuleShape, tokens: int, probability: float) -> float:
    """What max|Δ| stays below with this probability, in units of Δ's root mean square.

    A token's Δ is normal over the outputs once its z is fixed, and the size of z varies as that of ``rank`` normals.
    """
    return norm_below(shape.rank, probability ** (1 / tokens)) * largest_of(shape.d_out, probability)


def largest_error(shape: ModuleShape, tokens: int, probability: float) -> float:
    """The same of the error, which is one of two kinds; the larger counts.

    The error of z, times ``up``, is as Δ. That of the last rescale is mostly rounding times the secret, slot by slot: a
    product of two complex normals, whose real part has Laplace's distribution, with the longer tails.
    """
    count = shape.d_out * tokens
    from_z = norm_below(shape.rank, probability ** (1 / tokens)) * largest_of(count, probability)
    rounding = -math.log(1 - probability ** (1 / count)) / math.sqrt(2)
    return max(from_z, rounding)


def largest_spike(variances: NDArray[np.float64], times: float, probability: float) -> float:
    """What the largest of errors of unequal variances stays below with this probability, each drawn ``times`` times.

    They are noise times weights: products of normal values, for whose tails Laplace's distribution stands in.
    """
    # To 1/8 of a bit, for speed: many variances are alike.
    deviations, counts = np.unique(np.exp2(np.ceil(4 * np.log2(variances[variances > 0])) / 8), return_counts=True)
    wanted = math.log(probability) / times
    low, high = 0.0, float(deviations.max()) * math.log(counts.sum() * max(1.0, times) / (1 - probability))
    for _ in range(30):
        middle = (low + high) / 2
        if counts @ np.log(-np.expm1(-math.sqrt(2) * middle / deviations)) < wanted:
            low = middle
        else:
            high = middle
    return high
