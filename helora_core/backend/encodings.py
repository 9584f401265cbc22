"""Replaces encodings that a backend lacks: coefficients by integers or complex slots, scalars by slots."""

from __future__ import annotations

import math

import numpy as np

from helora_core.backend.capabilities import Capabilities, Encoding
from helora_core.backend.embedding import coefficients_to_slots, slots_to_coefficients
from helora_core.backend.protocol import Values
from helora_core.backend.residues import Integers, values_of
from helora_core.backend.values import check_values
from helora_core.errors import CapabilityMissing, PrecisionLost
from helora_core.params.ckks import CKKSParams

_MADE_OF = {
    # The library's own are made by compiled code. Integers are exact, and complex slots go through doubles.
    Encoding.COEFFICIENTS: (Encoding.COEFFICIENTS, Encoding.INTEGERS, Encoding.COMPLEX_SLOTS),
    Encoding.SCALAR: (Encoding.SCALAR, Encoding.SLOTS),
}


def can_encode(encoding: Encoding, capabilities: Capabilities) -> bool:
    """Whether the backend takes an encoding, or one from which core can make it."""
    return not capabilities.encodings.isdisjoint(_MADE_OF.get(encoding, (encoding,)))


def native_encoding(encoding: Encoding, capabilities: Capabilities, *, who: str) -> Encoding:
    """The backend's own encoding by which ``encoding`` is made.

    Raises:
        CapabilityMissing: The backend has neither this encoding nor one that can replace it.
    """
    for candidate in _MADE_OF.get(encoding, (encoding,)):
        if candidate in capabilities.encodings:
            return candidate
    raise CapabilityMissing(
        f"{who}: the backend takes {', '.join(sorted(capabilities.encodings))}; they do not make {encoding.value}.",
        hint="Choose another backend; `helora backends` lists what each can do.",
    )


def checked_native(
    values: Values,
    encoding: Encoding,
    capabilities: Capabilities,
    params: CKKSParams,
    *,
    level: int,
    scale: float,
    who: str,
) -> tuple[Encoding, Values]:
    """The encoding to give to the backend, and the values converted for it.

    Args:
        values: As ``check_values`` requires.
        encoding: How the values are to be encoded.
        capabilities: The backend's capabilities.
        params: As ``Backend.resolve`` returned them.
        level: The level at which they are encoded.
        scale: The scale at which they are encoded.
        who: The caller, to be named in errors.

    Raises:
        InvalidInput, SlotOverflow: As ``check_values`` does.
        CapabilityMissing: As ``native_encoding`` does.
        PrecisionLost: Coefficients times the scale do not fit the modulus.
    """
    check_values(values, params.slots, who=who, encoding=encoding)
    native = native_encoding(encoding, capabilities, who=who)
    if encoding is Encoding.COEFFICIENTS and native is not Encoding.COMPLEX_SLOTS:
        _check_fit(values, params, level, scale, who)
    if native is encoding:
        return native, values
    if encoding is Encoding.SCALAR:
        return native, np.full(params.slots, values[0])
    if native is Encoding.INTEGERS:
        padded = np.zeros(params.ring_degree)
        padded[: values.size] = values
        return native, Integers.of_values(padded, scale).residues(params.data_primes[: level + 1])
    return native, coefficients_to_slots(values, params.ring_degree, capabilities.slot_generator)


def _check_fit(values: Values, params: CKKSParams, level: int, scale: float, who: str) -> None:
    largest, modulus_bits = float(np.max(np.abs(values))), math.log2(math.prod(params.data_primes[: level + 1]))
    if largest and math.log2(largest) + math.log2(scale) >= modulus_bits - 1:
        raise PrecisionLost(
            f"{who}: coefficients at scale 2^{math.log2(scale):.1f} do not fit the {modulus_bits:.0f}-bit modulus of "
            f"level {level}.",
            hint="Use smaller values or scales, or a larger base prime.",
        )


def from_native(
    values: Values,
    encoding: Encoding,
    native: Encoding,
    capabilities: Capabilities,
    params: CKKSParams,
    *,
    scale: float,
) -> Values:
    """Convert decrypted values from the encoding ``native`` to ``encoding``; ``scale`` is the ciphertext's."""
    if native is encoding:
        return values
    if encoding is Encoding.SCALAR:
        return values[:1]
    if native is Encoding.INTEGERS:
        return values_of(values, params.data_primes[: len(values)], scale)
    return slots_to_coefficients(values, params.ring_degree, capabilities.slot_generator)
