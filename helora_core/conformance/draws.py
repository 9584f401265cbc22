"""Errors of many ciphertexts, in integer units, and statistics of their distribution.

Decrypting a known value shows the error itself. Encryptions of ones have no rounding error, since their polynomial is
the constant 2^scale_bits. The error's N coefficients are then integers in every library, of the size that theory
predicts to within a per cent or two; ``helora_core.backend.embedding`` computes them from complex slots. A backend with
only real slots shows half of each error, the part that is even in x → 1/x: N/2 values instead of N.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from helora_core.backend.capabilities import Encoding
from helora_core.backend.embedding import slots_to_coefficients
from helora_core.backend.encodings import can_encode
from helora_core.backend.protocol import Ciphertext, Values
from helora_core.conformance.bench import Bench
from helora_core.params.ckks import CKKSParams

SMALLEST = CKKSParams(ring_degree=2048, data_bits=(26,), special_bits=(14,), scale_bits=20)
"""The smallest ring, within every security table; a thousand encryptions take a second or two."""

WITHIN = 0.05
"""Relative tolerance of a standard deviation: samplers differ by 1.3 %, and the secret's weight adds 1 %."""

STANDARD_ERRORS = 8.0
"""Tolerance of random statistics, in their own standard errors; with this many, no library fails by chance."""

Matrix = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Draws:
    """Errors of ciphertexts, in units of 1/scale.

    Attributes:
        slots: The slots of each error: complex128 of shape (draws, N/2), or float64 if only real parts can be seen.
        params: Resolved parameters.
        generator: The backend's ``slot_generator``.
    """

    slots: NDArray[np.complex128] | Matrix
    params: CKKSParams
    generator: int

    @property
    def is_whole(self) -> bool:
        """Whether imaginary parts are known too, and so all of each error."""
        return np.iscomplexobj(self.slots)

    def minus(self, others: Draws) -> Draws:
        """The errors minus ``others``, draw by draw."""
        return Draws(self.slots - others.slots, self.params, self.generator)

    def std(self, chosen: NDArray[np.bool_] | slice = slice(None)) -> float:
        """Standard deviation of a coefficient, from the root mean square over slots, by default all of them."""
        return float(np.sqrt(np.mean(np.abs(self.slots[:, chosen]) ** 2) * self._coefficients_per_slot))

    def each_std(self) -> Matrix:
        """The standard deviation of a coefficient, for each draw separately."""
        stds: Matrix = np.sqrt(np.mean(np.abs(self.slots) ** 2, axis=1) * self._coefficients_per_slot)
        return stds

    @property
    def _coefficients_per_slot(self) -> float:
        # Slots have N times the variance of coefficients, half of it in the real part.
        return (1 if self.is_whole else 2) / self.params.ring_degree

    def coefficients(self) -> Matrix:
        """Coefficients, one row per draw. If only half of each error is known, combinations of the same variance."""
        n = self.params.ring_degree
        found = np.array(
            [slots_to_coefficients(np.asarray(row, np.complex128), n, self.generator) for row in self.slots]
        )
        return found if self.is_whole else found[:, 1 : n // 2] * math.sqrt(2)

    def columns(self) -> Matrix:
        """Real and imaginary parts of the slots, one row per draw: independent even if a secret multiplies errors."""
        if not self.is_whole:
            return np.asarray(self.slots, np.float64)
        return np.ascontiguousarray(self.slots, np.complex128).view(np.float64)

    def centred(self) -> Draws:
        """The draws minus their mean, scaled to make up for the variance that this takes away."""
        count = len(self.slots)
        rest = (self.slots - self.slots.mean(axis=0)) * math.sqrt(count / (count - 1))
        return Draws(rest, self.params, self.generator)


def errors_of(bench: Bench, ciphertexts: Sequence[Ciphertext], expected: Values | float = 1.0) -> Draws:
    """The errors of ciphertexts that should hold ``expected`` in every slot, or as a row of slots for each."""
    encoding = Encoding.SLOTS
    if can_encode(Encoding.COMPLEX_SLOTS, bench.capabilities):
        encoding = Encoding.COMPLEX_SLOTS
    scale = scale_of(bench, ciphertexts[0])
    read = np.array([bench.client.decrypt(ciphertext, encoding=encoding) for ciphertext in ciphertexts])
    return Draws((read - expected) * scale, bench.params, bench.capabilities.slot_generator)


def scale_of(bench: Bench, ciphertext: Ciphertext) -> float:
    """The scale of the errors' units: the exact one, or the parameters' if a library keeps it nominal or hidden."""
    return bench.evaluator.scale(ciphertext) if bench.explicit else 2.0**bench.params.scale_bits


def ones(bench: Bench) -> Values:
    """A vector of ones, which is encoded without rounding error."""
    return np.ones(bench.params.slots)


def near(measured: float, *theories: float) -> bool:
    """Whether a standard deviation is close to one of the theoretical values."""
    return any(abs(measured / theory - 1) <= WITHIN for theory in theories)


@dataclass(frozen=True)
class Shape:
    """How far a sample is from normal: skewness, excess kurtosis and Kolmogorov's distance, all 0 for a normal one.

    A uniform distribution has an excess kurtosis of −1.2 and a distance of 0.058, the sum of two uniform ones −0.6 and
    0.017, Laplace's 3 and 0.064.
    """

    skewness: float
    kurtosis: float
    distance: float

    @classmethod
    def of(cls, sample: Matrix) -> Shape:
        """The shape of all numbers of a sample."""
        values = np.sort(sample, axis=None)
        centred = (values - values.mean()) / values.std()
        points = np.linspace(-4.0, 4.0, 401)
        cumulative = np.array([0.5 * math.erfc(-point / math.sqrt(2)) for point in points])
        found = np.searchsorted(centred, points) / centred.size
        return cls(
            float(np.mean(centred**3)),
            float(np.mean(centred**4)) - 3.0,
            float(np.max(np.abs(found - cumulative))),
        )

    def is_normal(self, count: int) -> bool:
        """Whether ``count`` samples may be normal, or centred binomial of 21 pairs like SEAL's (kurtosis −0.05)."""
        return (
            abs(self.skewness) <= 0.02 + STANDARD_ERRORS * math.sqrt(6 / count)
            and abs(self.kurtosis) <= 0.06 + STANDARD_ERRORS * math.sqrt(24 / count)
            and self.distance <= 0.002 + 3.5 / math.sqrt(count)
        )


def strongest_pair(columns: Matrix) -> float:
    """The largest correlation, by size, of two rows. Two rows of d independent numbers have one of about 1/sqrt(d)."""
    rows = columns / np.sqrt(np.mean(columns**2, axis=0))
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    products = np.abs(rows @ rows.T)
    np.fill_diagonal(products, 0.0)
    return float(products.max())


def spectrum(columns: Matrix) -> tuple[float, float]:
    """Smallest and largest eigenvalue of the rows' covariance, relative to those of independent rows.

    The covariance of n rows of d independent numbers of variance 1 has its eigenvalues between (1 − sqrt(n/d))² and
    (1 + sqrt(n/d))² (Marchenko and Pastur 1967). A row that repeats another, or the sum of others, makes the smallest
    one 0; anything that rows or columns have in common, however little in each, makes the largest one larger.
    """
    rows = columns / np.sqrt(np.mean(columns**2, axis=0))
    count, width = rows.shape
    values = np.linalg.eigvalsh(rows @ rows.T / width)
    ratio = math.sqrt(count / width)
    return float(values[0] / (1 - ratio) ** 2), float(values[-1] / (1 + ratio) ** 2)


def signature(integers: Matrix) -> bytes:
    """Equal for polynomials that are each other's negatives, rotations or products with a power of x.

    All of these permute coefficients and change signs, so the sizes stay the same.
    """
    return np.sort(np.abs(np.rint(integers)).astype(np.int64)).tobytes()
