"""Checks of values before any library sees them, shared by sessions and backends."""

from __future__ import annotations

import math

import numpy as np

from helora_core.backend.capabilities import Capabilities, Encoding
from helora_core.backend.protocol import Values
from helora_core.errors import CapabilityMissing, InvalidInput, SlotOverflow


def check_scale(scale: float, *, who: str) -> None:
    """Refuse a scale that no encoding can have.

    Raises:
        InvalidInput: The scale is not finite, or not positive.
    """
    if not (math.isfinite(scale) and scale > 0):
        raise InvalidInput(f"{who}: {scale} is not a scale.", hint="Use a power of two, as the plan's scales are.")


def check_encoding(encoding: Encoding, capabilities: Capabilities, *, who: str) -> None:
    """Refuse an encoding that a backend does not claim; its values must not be taken for slots.

    Raises:
        CapabilityMissing: The backend itself does not have this encoding.
    """
    if encoding not in capabilities.encodings:
        raise CapabilityMissing(
            f"{who}: this backend takes {', '.join(sorted(capabilities.encodings))}, not {encoding.value}.",
            hint="Use a session, which makes other encodings from these where it can.",
        )


def check_values(values: Values, slots: int, *, who: str, encoding: Encoding = Encoding.SLOTS) -> None:
    """Refuse values that no backend should see.

    Raises:
        InvalidInput: Not a one-dimensional array of the encoding's dtype (complex128 for complex slots, else float64),
            empty, or not finite; several values for a scalar; or integers that are not uint64 of shape (primes, N).
        SlotOverflow: More values than the encoding has places: ``slots``, or twice as many coefficients.
    """
    if encoding is Encoding.INTEGERS:
        _check_residues(values, 2 * slots, who)
        return
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


def _check_residues(values: Values, ring_degree: int, who: str) -> None:
    if not isinstance(values, np.ndarray) or values.dtype != np.uint64 or values.ndim != 2 or not len(values):
        found = f"{values.dtype}, shape {values.shape}" if isinstance(values, np.ndarray) else type(values).__name__
        raise InvalidInput(
            f"{who}: integers are residues, a uint64 array of shape (primes, {ring_degree}), not {found}.",
            hint="Make them with helora_core.backend.residues.",
        )
    if values.shape[1] != ring_degree:
        raise InvalidInput(
            f"{who}: a polynomial of {values.shape[1]} coefficients; the ring has {ring_degree}.",
            hint="Pad it with zeros.",
        )
