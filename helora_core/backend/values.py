"""The door: what values may come in, checked before any library sees them. Sessions and backends share it."""

from __future__ import annotations

import math

import numpy as np

from helora_core.backend.capabilities import Encoding
from helora_core.backend.protocol import Values
from helora_core.errors import InvalidInput, SlotOverflow


def check_scale(scale: float, *, who: str) -> None:
    """Refuse a scale that no encoding can have.

    Raises:
        InvalidInput: Not finite, or not positive.
    """
    if not (math.isfinite(scale) and scale > 0):
        raise InvalidInput(f"{who}: {scale} is no scale.", hint="Use a power of two, as the plan's scales are.")


def check_values(values: Values, slots: int, *, who: str, encoding: Encoding = Encoding.SLOTS) -> None:
    """Refuse what no backend should see.

    Raises:
        InvalidInput: Not a one-dimensional array of the encoding's dtype (complex128 for complex slots, else float64),
            empty, or not finite; or several values for a scalar.
        SlotOverflow: More values than the encoding has places: ``slots``, or twice as many coefficients.
    """
    dtype = np.dtype(np.complex128 if encoding is Encoding.COMPLEX_SLOTS else np.float64)
    if not isinstance(values, np.ndarray) or values.dtype != dtype or values.ndim != 1 or values.size == 0:
        found = f"{values.dtype}, shape {values.shape}" if isinstance(values, np.ndarray) else type(values).__name__
        raise InvalidInput(
            f"{who}: values must be a non-empty {dtype} array of one dimension, not {found}.",
            hint=f"Convert with np.asarray(values, dtype=np.{dtype}).ravel().",
        )
    if encoding is Encoding.SCALAR and values.size != 1:
        raise InvalidInput(f"{who}: a scalar is one value, not {values.size}.", hint="Encode them as slots.")
    places = 2 * slots if encoding is Encoding.COEFFICIENTS else slots
    if values.size > places:
        raise SlotOverflow(
            f"{who}: {values.size} values do not fit {places} {encoding.value}.",
            hint=f"Use a ring degree of at least {(2 * slots // places) << (values.size - 1).bit_length()}, "
            "or split the values.",
        )
    if not np.isfinite(values).all():
        raise InvalidInput(f"{who}: values hold NaN or infinity.", hint="Clean the input; CKKS has no such values.")
