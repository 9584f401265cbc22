"""The door: what values may come in, checked before any library sees them. Sessions and backends share it."""

from __future__ import annotations

import numpy as np

from helora_core.backend.protocol import Values
from helora_core.errors import InvalidInput, SlotOverflow


def check_values(values: Values, slots: int, *, who: str) -> None:
    """Refuse what no backend should see.

    Raises:
        InvalidInput: Not a one-dimensional float64 array, empty, or not finite.
        SlotOverflow: More than ``slots`` values.
    """
    if not isinstance(values, np.ndarray) or values.dtype != np.float64 or values.ndim != 1 or values.size == 0:
        found = f"{values.dtype}, shape {values.shape}" if isinstance(values, np.ndarray) else type(values).__name__
        raise InvalidInput(
            f"{who}: values must be a non-empty float64 array of one dimension, not {found}.",
            hint="Convert with np.asarray(values, dtype=np.float64).ravel().",
        )
    if values.size > slots:
        raise SlotOverflow(
            f"{who}: {values.size} values do not fit {slots} slots.",
            hint=f"Use a ring degree of at least {2 << (values.size - 1).bit_length()}, or split the values.",
        )
    if not np.isfinite(values).all():
        raise InvalidInput(f"{who}: values hold NaN or infinity.", hint="Clean the input; CKKS has no such values.")
