"""How far a result may be from the exact one, computed only from ring, scale, level and the operations done.

No backend can widen a tolerance, and none was found by trial. ``Expected`` carries an exact value with a bound on its
error, and each operation on it updates both, by the noise model of ``helora_core.params.noise``:

=====================  =====================================================================================
fresh encryption       encoding + encryption (public-key: its larger error)
add, sub, add_plain    errors add (the plaintext's is its encoding)
multiply_plain         error·max|p| + encoding(p)·max|x| + error·encoding(p)
rotate                 + key switch in the worst slot
rescale                + rounding; and value·|2^s/prime − 1| where the library keeps scales nominal
any, if automatic      + the rounding of a rescale per level, wherever the library does them
=====================  =====================================================================================

Encoding counts with its worst case, and each noise with ``STANDARD_DEVIATIONS`` of it: Laplace's distribution, which
is that of noise times a secret, exceeds 16 in one slot of 10^9. A tenth of a float64 rounding error per slot of the
transform is added at the end, for scales beyond the precision of float64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from helora_core.backend.capabilities import Encoding
from helora_core.backend.protocol import Values
from helora_core.params import noise
from helora_core.params.ckks import CKKSParams

STANDARD_DEVIATIONS = 16.0


@dataclass(frozen=True, eq=False)
class Expected:
    """An exact result, and the tolerance of a backend's result.

    Attributes:
        values: The exact values: N/2 slots, float64 or complex128; or N coefficients.
        error: Bound on the absolute error of each value.
        params: Resolved parameters.
        level: Level of the ciphertext.
        scale: Its exact scale.
        encoding: SLOTS, COMPLEX_SLOTS or COEFFICIENTS.
        nominal_scale: Whether the library calls every scale 2^scale_bits, whatever the primes: a rescale divides the
            value by the prime but counts it as 2^scale_bits, which changes it by their ratio.
    """

    values: Values
    error: float
    params: CKKSParams
    level: int
    scale: float
    encoding: Encoding = Encoding.SLOTS
    nominal_scale: bool = False

    @classmethod
    def fresh(
        cls,
        values: Values,
        params: CKKSParams,
        scale_bits: int,
        *,
        encoding: Encoding = Encoding.SLOTS,
        public: bool = False,
        nominal_scale: bool = False,
    ) -> Expected:
        """A fresh encryption of ``values``, padded with zeros."""
        n = params.ring_degree
        places = n if encoding is Encoding.COEFFICIENTS else n // 2
        padded = np.zeros(places, dtype=values.dtype)
        padded[: values.size] = values
        start = cls(padded, 0.0, params, params.max_level, 2.0**scale_bits, encoding, nominal_scale)
        rounded = replace(start, error=start.encoding_error(start.scale))
        return rounded._plus_noise(noise.public_encryption_std(n) if public else noise.encryption_std(n))

    @property
    def magnitude(self) -> float:
        """Largest absolute value."""
        return float(np.max(np.abs(self.values)))

    def _plus_noise(self, std: float) -> Expected:
        # A slot's error is sqrt(N/2) times a coefficient's.
        place = std / math.sqrt(self.params.ring_degree / 2) if self.encoding is Encoding.COEFFICIENTS else std
        return replace(self, error=self.error + STANDARD_DEVIATIONS * place / self.scale)

    def encoding_error(self, scale: float) -> float:
        """Bound on a plaintext's rounding error: half a unit per coefficient, and N times that in a slot.

        This is a worst case and not a statistic, since the coefficients of sparse vectors all round the same way.
        """
        units = 0.5 if self.encoding is Encoding.COEFFICIENTS else 0.5 * self.params.ring_degree
        return units / scale

    def add(self, other: Expected) -> Expected:
        """Sum."""
        return replace(self, values=self.values + other.values, error=self.error + other.error)

    def sub(self, other: Expected) -> Expected:
        """Difference."""
        return replace(self, values=self.values - other.values, error=self.error + other.error)

    def negate(self) -> Expected:
        """Negative."""
        return replace(self, values=-self.values)

    def add_plain(self, values: Values) -> Expected:
        """Sum with a plaintext of the same scale, all places given."""
        return replace(self, values=self.values + values, error=self.error + self.encoding_error(self.scale))

    def multiply_plain(self, values: Values, scale_bits: int) -> Expected:
        """Slot-wise product with a plaintext, all slots given."""
        rounding = self.encoding_error(2.0**scale_bits)
        error = self.error * float(np.max(np.abs(values))) + rounding * (self.magnitude + self.error)
        return replace(self, values=self.values * values, error=error, scale=self.scale * 2.0**scale_bits)

    def rotate(self, steps: int) -> Expected:
        """Rotation to the left."""
        bits = self.params.data_bits[: self.level + 1]
        special = sum(self.params.special_bits) or max(bits)
        rotated = replace(self, values=np.roll(self.values, -steps))
        return rotated._plus_noise(noise.keyswitch_worst_std(self.params.ring_degree, bits, special))

    def rescale(self) -> Expected:
        """One level less."""
        prime = self.params.data_primes[self.level]
        divisor = 2.0**self.params.scale_bits if self.nominal_scale else prime
        drift = abs(divisor / prime - 1) * (self.magnitude + self.error)
        lower = replace(self, level=self.level - 1, scale=self.scale / divisor, error=self.error + drift)
        return lower._plus_noise(noise.rescale_std(self.params.ring_degree))

    def rescaled_unasked(self) -> Expected:
        """After a library's automatic rescales: at most one per level, at the parameters' scale."""
        rounded = replace(self, scale=2.0**self.params.scale_bits)
        for _ in range(self.params.max_level):
            rounded = rounded._plus_noise(noise.rescale_std(self.params.ring_degree))
        return replace(self, error=rounded.error)

    @property
    def tolerance(self) -> float:
        """The bound, with room for float64 in the transforms."""
        transform = 0.1 * float(np.finfo(np.float64).eps) * self.params.ring_degree
        return self.error + transform * max(self.magnitude, 1.0)
