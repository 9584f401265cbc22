"""Numbers to plaintext polynomials and back: slots, coefficients, one number for all slots, exact integers.

A polynomial's coefficients are the numbers times the scale, rounded to integers, in doubles of up to a hundred bits'
size; integers are residues from end to end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from helora_rns.arrays import doubles
from helora_rns.kernels import Basis, Doubles
from helora_rns.modular import Residues
from helora_rns.scheme.context import Context

if TYPE_CHECKING:
    from typing_extensions import TypeIs

_LARGEST = 2.0**98
_STEP = 90


Message: TypeAlias = "Doubles | Residues"
"""What is encrypted or encoded: integer coefficients in doubles, or values, where it is known exactly."""


def are_values(message: Message) -> TypeIs[Residues]:
    """Whether a message is given by its values."""
    return message.dtype == np.uint64


def largest(coefficients: Doubles) -> float:
    """The size of the largest, without an array of sizes."""
    return max(float(coefficients.max()), -float(coefficients.min()))


def coefficients_of_slots(context: Context, slots: NDArray[np.generic], scale: float) -> Doubles:
    """Integer coefficients of the polynomial with these slots, real or complex; missing ones are zero."""
    kind = np.complex128 if np.iscomplexobj(slots) else np.float64
    whole = context.kernels.to_device(np.ascontiguousarray(slots, dtype=kind))
    return context.kernels.slots_to_coefficients(whole, scale / (context.ring_degree // 2))


def coefficients_of_numbers(context: Context, numbers: NDArray[np.float64], scale: float) -> Doubles:
    """Integer coefficients of the polynomial with these coefficients; missing ones are zero."""
    out = doubles((context.ring_degree,))
    out[numbers.size :] = 0.0
    np.multiply(numbers, scale, out=out[: numbers.size])
    return context.kernels.to_device(np.rint(out, out=out))


def residues_of(context: Context, coefficients: Doubles, basis: Basis) -> Residues:
    """Integer coefficients modulo the primes: (limbs, N)."""
    kernels = context.kernels
    if largest(coefficients) < _LARGEST:
        return kernels.of_doubles(coefficients, basis)
    upper = context.copied(np.trunc(coefficients * 2.0**-_STEP))
    lower = context.copied(coefficients - upper * 2.0**_STEP)
    factors = [pow(2, _STEP, context.primes[i]) for i in basis]
    top = kernels.times(residues_of(context, upper, basis), factors, basis)
    return kernels.add(top, kernels.of_doubles(lower, basis), basis)


def values_of(context: Context, coefficients: Doubles, basis: Basis) -> Residues:
    """Their polynomial by its values: (limbs, N)."""
    if largest(coefficients) < _LARGEST:
        return context.kernels.values_of_doubles(coefficients, basis)
    values = residues_of(context, coefficients, basis)
    context.kernels.forward(values, basis)
    return values


def constant(context: Context, number: float, scale: float, basis: Basis) -> Residues:
    """Values of the constant polynomial number · scale, rounded: that integer everywhere."""
    integer = round(number * scale)
    out = context.residues((len(basis), context.ring_degree))
    for row, i in zip(out, basis, strict=True):
        row[:] = integer % context.primes[i]
    return out


def slots_of(context: Context, coefficients: Doubles, scale: float) -> NDArray[np.complex128]:
    """The N/2 slots of a polynomial whose coefficients are these over the scale, on the host; they are overwritten."""
    return context.kernels.to_host(context.kernels.coefficients_to_slots(coefficients, 1.0 / scale))
