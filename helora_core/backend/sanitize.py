"""Sanitises a result before the client, which holds the secret key, may see it: circuit privacy.

The client knows the polynomials (c₀, c₁) that it sent. A product with a plaintext w comes back as (c₀·w, c₁·w), and a
division modulo the primes gives w. So the server

- *re-randomises*: it adds a fresh public-key encryption of zero, whose polynomials nobody else knows;
- *floods*: the noise still depends on w, and the client sees it when it decrypts and subtracts the message. Noise that
  is 2^k times as large, and independent of w, hides it (Gentry, STOC 2009, §2; Ducas and Stehlé, EUROCRYPT 2016, call
  the whole sanitisation);
- *masks* everything but the result: the other coefficients hold other products with w, and become uniform modulo the
  modulus; the other slots, and the imaginary parts, hold x times the rounding errors of w, and are hidden under noise
  that is larger by the same factor. docs/privacy.md lists every term and what covers it.

None of this hides what the result itself reveals: enough results give the product of the factors away. Nor does it help
against a client that made its public key wrongly on purpose.

*Integer units* are those of the encoded polynomial's coefficients: values times the scale.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from helora_core.backend import checks
from helora_core.backend.capabilities import Capabilities, Encoding, RescaleMode
from helora_core.backend.checked_evaluator import CheckedEvaluator
from helora_core.backend.coefficient_noise import (
    LARGEST_NORMAL,
    add_integers,
    add_residues,
    normal_in_slots,
    normal_integers,
)
from helora_core.backend.encodings import checked_native
from helora_core.backend.handles import Ciphertext
from helora_core.backend.ntt import Residues
from helora_core.backend.protocol import Sanitizing
from helora_core.backend.residues import Integers, uniform
from helora_core.errors import CapabilityMissing, InvalidInput, PrecisionLost, ScaleMismatch
from helora_core.params.ckks import CKKSParams

_MOST_BITS = 960
_WHO = "sanitize"


def sanitize_many(
    evaluator: CheckedEvaluator,
    params: CKKSParams,
    capabilities: Capabilities,
    ciphertexts: Sequence[Ciphertext],
    how: Sequence[Sanitizing],
) -> list[Ciphertext]:
    """Sanitise results by the library's own operation if it has one, otherwise each as ``sanitize`` does.

    Raises:
        CapabilityMissing, InvalidInput, PrecisionLost: As ``sanitize`` does.
    """
    if not evaluator.sanitizes:
        return [
            _divided(evaluator, sanitize(evaluator, params, capabilities, each, **_asked(asked)), asked.dropped)
            for each, asked in zip(ciphertexts, how, strict=True)
        ]
    for each, asked in zip(ciphertexts, how, strict=True):
        slots = asked.encoding is Encoding.SLOTS
        _check_resolved(params)
        _check_noise(params, each.level, asked.flood_bits, asked.mask_bits if slots else 0)
        _others(asked.keep, params.slots if slots else params.ring_degree)
        if asked.keep is not None and not slots:
            _check_exact(capabilities)
    return evaluator.sanitize_many(ciphertexts, how) if ciphertexts else []


def _asked(how: Sanitizing) -> dict[str, Any]:
    return {name: value for name, value in how._asdict().items() if name not in {"dropped", "low_bits"}}


def _divided(evaluator: CheckedEvaluator, clean: Ciphertext, levels: int) -> Ciphertext:
    for _ in range(levels):
        clean = evaluator.rescale(clean)
    return clean


def sanitize(
    evaluator: CheckedEvaluator,
    params: CKKSParams,
    capabilities: Capabilities,
    ciphertext: Ciphertext,
    *,
    encoding: Encoding,
    flood_bits: int,
    mask_bits: int = 0,
    keep: Sequence[int] | None = None,
) -> Ciphertext:
    """Re-randomise a result, flood it, and hide everything that the client is not meant to read.

    Level and scale stay. The error added to a real slot has the standard deviation 2^flood_bits · sqrt(N/2) / scale,
    that of a coefficient 2^flood_bits / scale. Re-randomising adds at most ``params.noise.public_encryption_std``, and
    the noise in the other slots adds about 2^-50 of its size to those kept.

    Args:
        evaluator: The server's evaluator, with a public key.
        params: As ``Backend.resolve`` returned them.
        capabilities: The backend's capabilities.
        ciphertext: The result, at the level and scale at which it is sent.
        encoding: SLOTS or COEFFICIENTS: what the client reads.
        flood_bits: As for ``flooding``.
        mask_bits: For slots, log2 of the standard deviation, in integer units, of the noise that hides the imaginary
            parts and the slots that are not kept. Coefficients that are not kept become uniform modulo the modulus.
        keep: The slots, or coefficients, that the client is meant to read; None for all.

    Raises:
        CapabilityMissing: The backend or its keys have no public key; or the backend rescales automatically, takes no
            plaintexts of this scale, or takes neither coefficients nor complex slots; or coefficients are to be masked,
            and it does not encode integers exactly.
        InvalidInput: A size or position is out of range, or the parameters are not resolved.
        PrecisionLost: The noise does not fit the modulus.
    """
    level = evaluator.level(ciphertext)
    noise = _flood(params, level, flood_bits)
    fresh = rerandomize(evaluator, params, capabilities, ciphertext)
    if encoding is Encoding.SLOTS:
        readable = ~_others(keep, params.slots)
        _check_noise(params, level, flood_bits, mask_bits)
        mask = normal_in_slots(params.ring_degree, mask_bits, readable, capabilities.slot_generator)
        return add_integers(evaluator, params, capabilities, fresh, noise.plus(mask))
    if keep is None:
        return add_integers(evaluator, params, capabilities, fresh, noise)
    _check_exact(capabilities)
    primes = params.data_primes[: level + 1]
    others, hidden = _others(keep, params.ring_degree), uniform(primes, params.ring_degree)
    return add_residues(evaluator, fresh, np.where(others, hidden, noise.residues(primes)))


def rerandomize(
    evaluator: CheckedEvaluator, params: CKKSParams, capabilities: Capabilities, ciphertext: Ciphertext
) -> Ciphertext:
    """Add a fresh encryption of zero, so that only the noise, not the polynomials, tells how the result was computed.

    Raises:
        CapabilityMissing, InvalidInput: As ``sanitize`` does.
    """
    level, scale = evaluator.level(ciphertext), evaluator.scale(ciphertext)
    return evaluator.add(ciphertext, encryption_of_zero(evaluator, params, capabilities, level=level, scale=scale))


def encryption_of_zero(
    evaluator: CheckedEvaluator, params: CKKSParams, capabilities: Capabilities, *, level: int, scale: float
) -> Ciphertext:
    """A fresh public-key encryption of zero that can be added to a ciphertext of this level and scale.

    Public-key encryption is at the highest level. If plaintexts may have scales of their own, zero is encrypted at the
    scale from which the rescales to ``level`` lead to exactly ``scale``; otherwise each rescale follows a product with
    one. The noise shrinks with each prime dropped, down to that of rounding.

    Args:
        evaluator: The server's evaluator, with a public key.
        params: As ``Backend.resolve`` returned them.
        capabilities: The backend's capabilities.
        level: The level wanted.
        scale: The scale wanted.

    Raises:
        CapabilityMissing: As ``sanitize`` does.
        LevelExhausted: There is no such level.
        ScaleMismatch: No scale leads to this one by rescales. For programs whose scales are powers of two, one does.
        InvalidInput: The parameters are not resolved.
    """
    _check_abilities(capabilities)
    _check_resolved(params)
    if not 0 <= level <= params.max_level:
        checks.no_such_level(_WHO, level, params.max_level)
    dropped = params.data_primes[level + 1 :]
    start = _start_scale(scale, dropped) if capabilities.free_plaintext_scale else _only_scale(scale, params)
    zero = evaluator.encrypt_public(np.zeros(1), scale=start, encoding=Encoding.SLOTS)
    for at in range(params.max_level, level, -1):
        if not capabilities.free_plaintext_scale:
            native, one = checked_native(
                np.ones(1), Encoding.SCALAR, capabilities, params, level=at, scale=start, who=_WHO
            )
            zero = evaluator.multiply_plain(zero, evaluator.encoder.encode(one, level=at, scale=start, encoding=native))
        zero = evaluator.rescale(zero)
    return zero


def flooding(
    evaluator: CheckedEvaluator,
    params: CKKSParams,
    capabilities: Capabilities,
    ciphertext: Ciphertext,
    *,
    flood_bits: int,
) -> Ciphertext:
    """Add normally distributed noise of standard deviation 2^flood_bits, in integer units, to every coefficient.

    A noise of at most B per coefficient, whatever it depends on, is then hidden to a statistical distance of
    B·sqrt(N) / 2^(flood_bits + 1), by Pinsker's inequality: for 2^-k, use log2 B + k + log2(N)/2 - 1 bits. Uniform
    noise of the same size would need another log2(N)/2.

    Raises:
        InvalidInput, CapabilityMissing, PrecisionLost: As ``sanitize`` does.
    """
    noise = _flood(params, evaluator.level(ciphertext), flood_bits)
    return add_integers(evaluator, params, capabilities, ciphertext, noise)


def uniform_mask(
    evaluator: CheckedEvaluator,
    params: CKKSParams,
    capabilities: Capabilities,
    ciphertext: Ciphertext,
) -> tuple[Ciphertext, Residues]:
    """Re-randomise a value, and hide all its coefficients behind integers uniform modulo its level's modulus.

    Decrypted exactly, the coefficients are z + e + ρ modulo the primes, for the message z and the noise e: they are
    uniform, whatever z and e are.

    Args:
        evaluator: The server's evaluator, with a public key.
        params: As ``Backend.resolve`` returned them.
        capabilities: The backend's capabilities, which must have ``exact_integers``.
        ciphertext: A value in coefficients.

    Returns:
        The masked ciphertext, and the residues of ρ: uint64, shape (primes of the level, N).

    Raises:
        InvalidInput, CapabilityMissing: As ``sanitize`` does.
    """
    _check_resolved(params)
    _check_exact(capabilities)
    if evaluator.sanitizes:
        return evaluator.uniform_mask(ciphertext)
    fresh = rerandomize(evaluator, params, capabilities, ciphertext)
    mask = uniform(params.data_primes[: evaluator.level(ciphertext) + 1], params.ring_degree)
    return add_residues(evaluator, fresh, mask), mask


def _start_scale(scale: float, primes: Sequence[int]) -> float:
    """A scale that becomes exactly ``scale`` when divided, in doubles, by each of the primes, the last one first."""
    found = next(_start_scales(scale, primes), None)
    if found is None:
        raise ScaleMismatch(
            f"{_WHO}: no encryption of zero reaches a scale of {scale!r} by {len(primes)} rescales.",
            hint="Use plaintexts whose scales are powers of two, as plans do.",
        )
    return found


def _start_scales(scale: float, primes: Sequence[int]) -> Iterator[float]:
    if not primes:
        yield scale
        return
    near = scale * primes[0]
    for candidate in sorted({near * (1 + ulps * 2.0**-53) for ulps in range(-4, 5)}, key=lambda each: abs(each - near)):
        if candidate / primes[0] == scale:
            yield from _start_scales(candidate, primes[1:])


def _only_scale(scale: float, params: CKKSParams) -> float:
    if scale != 2.0**params.scale_bits:
        raise CapabilityMissing(
            f"{_WHO}: this backend's plaintexts have the scale 2^{params.scale_bits}, the ciphertext has "
            f"2^{math.log2(scale):.1f}: nothing can be added to it.",
            hint="Rescale the result first, or use a backend with the capability free_plaintext_scale.",
        )
    return scale


def _check_abilities(capabilities: Capabilities) -> None:
    if capabilities.rescale is not RescaleMode.EXPLICIT:
        raise CapabilityMissing(
            f"{_WHO}: this backend rescales by itself, so that an encryption of zero cannot be brought to the level "
            "and scale of a result.",
            hint="Choose a backend whose programs rescale; `helora backends` lists what each can do.",
        )
    if not capabilities.public_key:
        raise CapabilityMissing(
            f"{_WHO}: this backend's server cannot encrypt with a public key.",
            hint="Choose a backend with the capability public_key; `helora backends` lists what each can do.",
        )


def _check_resolved(params: CKKSParams) -> None:
    if not params.data_primes:
        raise InvalidInput(
            f"{_WHO}: these parameters name no primes.", hint="Pass what the backend's resolve() returned."
        )


def _checked_bits(bits: int, name: str) -> int:
    if not 0 <= bits <= _MOST_BITS:
        raise InvalidInput(
            f"{_WHO}: {name}={bits} is not between 0 and {_MOST_BITS}.",
            hint="Give log2 of a size in integer units, which is a value times the scale.",
        )
    return bits


def _others(keep: Sequence[int] | None, places: int) -> NDArray[np.bool_]:
    """A mask of the places that are not kept: bool, shape (places,)."""
    if keep is None:
        return np.zeros(places, dtype=bool)
    if not keep or min(keep) < 0 or max(keep) >= places:
        raise InvalidInput(
            f"{_WHO}: the {len(keep)} places to keep are none, or not all among the {places} places of the result.",
            hint="Name those that hold the result; None keeps all.",
        )
    others = np.ones(places, dtype=bool)
    others[list(keep)] = False
    return others


def _flood(params: CKKSParams, level: int, bits: int) -> Integers:
    _check_fits(params, level, _checked_bits(bits, "flood_bits"), "a flood")
    return normal_integers(params.ring_degree, bits)


def _check_noise(params: CKKSParams, level: int, flood_bits: int, mask_bits: int) -> None:
    """Refuse a flood that wraps around, together with the slots' noise of standard deviation 2^mask_bits per slot."""
    _checked_bits(flood_bits, "flood_bits")
    std = math.hypot(2.0**flood_bits, 2.0 ** _checked_bits(mask_bits, "mask_bits") / math.sqrt(params.slots))
    _check_fits(params, level, math.log2(std), "a flood with its mask")


def _check_fits(params: CKKSParams, level: int, bits: float, what: str) -> None:
    """Refuse normal noise that wraps around, of standard deviation 2^bits per coefficient."""
    _check_resolved(params)
    modulus_bits = math.log2(math.prod(params.data_primes[: level + 1]))
    if bits + math.log2(LARGEST_NORMAL) >= modulus_bits - 1:
        raise PrecisionLost(
            f"{_WHO}: {what} of {bits:.0f} bits wraps around the {modulus_bits:.0f}-bit modulus of level {level}.",
            hint="Flood less, rescale less before, or use parameters with a larger modulus at that level.",
        )


def _check_exact(capabilities: Capabilities) -> None:
    if not capabilities.exact_integers:
        raise CapabilityMissing(
            f"{_WHO}: this backend encodes coefficients through doubles, whose errors would reveal the weights that a "
            "mask is to hide.",
            hint="Choose a backend with the capability exact_integers, or a packing that keeps its results in slots.",
        )
