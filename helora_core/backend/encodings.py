"""Encodings that a backend lacks, made of those it has: coefficients of complex slots, scalars of slots."""

from __future__ import annotations

import numpy as np

from helora_core.backend.capabilities import Capabilities, Encoding
from helora_core.backend.embedding import coefficients_to_slots, slots_to_coefficients
from helora_core.backend.protocol import Values
from helora_core.backend.values import check_values
from helora_core.errors import CapabilityMissing

_MADE_OF = {Encoding.COEFFICIENTS: Encoding.COMPLEX_SLOTS, Encoding.SCALAR: Encoding.SLOTS}


def can_encode(encoding: Encoding, capabilities: Capabilities) -> bool:
    """Whether the backend takes an encoding, or one that core can make it of."""
    return bool({encoding, _MADE_OF.get(encoding, encoding)} & capabilities.encodings)


def native_encoding(encoding: Encoding, capabilities: Capabilities, *, who: str) -> Encoding:
    """The backend's own encoding through which ``encoding`` goes.

    Raises:
        CapabilityMissing: The backend has neither this encoding nor the one it can be made of.
    """
    for candidate in (encoding, _MADE_OF.get(encoding, encoding)):
        if candidate in capabilities.encodings:
            return candidate
    raise CapabilityMissing(
        f"{who}: the backend takes {', '.join(sorted(capabilities.encodings))}; they do not make {encoding.value}.",
        hint="Choose another backend; `helora backends` lists what each can do.",
    )


def checked_native(
    values: Values, encoding: Encoding, capabilities: Capabilities, slots: int, *, who: str
) -> tuple[Encoding, Values]:
    """The encoding that the backend is given, and the values as that takes them.

    Raises:
        InvalidInput, SlotOverflow: As ``check_values`` does.
        CapabilityMissing: As ``native_encoding`` does.
    """
    check_values(values, slots, who=who, encoding=encoding)
    native = native_encoding(encoding, capabilities, who=who)
    if native is encoding:
        return native, values
    if encoding is Encoding.SCALAR:
        return native, np.full(slots, values[0])
    return native, coefficients_to_slots(values, 2 * slots, capabilities.slot_generator)


def from_native(values: Values, encoding: Encoding, native: Encoding, capabilities: Capabilities, slots: int) -> Values:
    """Decrypted values of ``native``, as ``encoding`` gives them."""
    if native is encoding:
        return values
    if encoding is Encoding.SCALAR:
        return values[:1]
    return slots_to_coefficients(values, 2 * slots, capabilities.slot_generator)
