"""What a server does to a result before the client, who holds the secret key, may see it: circuit privacy.

The client knows the polynomials (c₀, c₁) that she sent. Of a product with a plaintext w she gets (c₀·w, c₁·w), and a
division modulo the primes is w. So the server

- *re-randomises*: it adds a fresh public-key encryption of zero, whose polynomials nobody else knows;
- *floods*: what is left of w is in the noise, which the client sees when she decrypts and subtracts the message. Noise
  that is 2^k times as large, and independent of w, drowns it (Gentry, STOC 2009, §2; Ducas and Stehlé, EUROCRYPT 2016,
  call the whole sanitisation);
- *trims*, where results are coefficients: the coefficients that are not the result hold other products with w, and are
  drowned as messages are, in noise as large as they or uniform modulo the modulus.

None of it hides what the result itself says: enough results give the product of the factors away. Nor does it help
against a client who made her public key other than she should.

*Integer units* are those of the encoded polynomial's coefficients: values times the scale.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from helora_core.backend.capabilities import Capabilities, Encoding, RescaleMode
from helora_core.backend.coefficient_noise import (
    Integers,
    add_integers,
    centred,
    normal_integers,
    uniform_integers,
)
from helora_core.backend.encodings import checked_native
from helora_core.backend.protocol import Ciphertext, Evaluator, SupportsPublicKey
from helora_core.errors import CapabilityMissing, InvalidInput, LevelExhausted, PrecisionLost, ScaleMismatch
from helora_core.params.ckks import CKKSParams

STATISTICAL_BITS = 40
"""By default a mask exceeds the message it hides by this many bits."""

MASK_MODULUS_BITS = 46
"""Largest modulus of ``uniform_mask``: its integers must come out of the client's decoder exactly too."""

_TAIL_BITS = 3
"""A normal variate among some thousands is hardly ever 8 standard deviations large, and never 9 of ours."""

_MOST_BITS = 960
_WHO = "sanitize"


def sanitize(
    evaluator: Evaluator,
    params: CKKSParams,
    capabilities: Capabilities,
    ciphertext: Ciphertext,
    *,
    flood_bits: int,
    keep: Sequence[int] | None = None,
    message_bits: int | None = None,
    statistical_bits: int = STATISTICAL_BITS,
) -> Ciphertext:
    """Re-randomise a result, flood it, and trim it to the coefficients that the client may read.

    Level and scale stay. The error added to a slot has the standard deviation 2^flood_bits · sqrt(N/2) / scale, to a
    coefficient 2^flood_bits / scale; what re-randomising adds is ``params.noise.public_encryption_std`` at most, and
    trimming adds about 2^-50 of the mask to the coefficients kept.

    Args:
        evaluator: The server's, with a public key.
        params: As ``Backend.resolve`` returned them.
        capabilities: The backend's.
        ciphertext: The result, at the level and scale at which it is sent.
        flood_bits: As for ``flooding``.
        keep: As for ``trim``; None if every place may be read, as with results in slots.
        message_bits: As for ``trim``.
        statistical_bits: As for ``trim``.

    Raises:
        CapabilityMissing: The backend or its keys have no public key, rescales by itself, or takes neither coefficients
            nor complex slots, or no plaintext of this scale.
        InvalidInput: A size or position is out of range, or the parameters are not resolved.
        PrecisionLost: The noise does not fit the modulus.
    """
    noise = _flood(params, evaluator.level(ciphertext), flood_bits)
    if keep is not None:
        masked = _masked_positions(keep, params.ring_degree)
        mask = _mask(params, evaluator.level(ciphertext), message_bits, statistical_bits)
        noise = mask.where(masked, noise)
    fresh = rerandomize(evaluator, params, capabilities, ciphertext)
    return add_integers(evaluator, params, capabilities, fresh, noise)


def rerandomize(
    evaluator: Evaluator, params: CKKSParams, capabilities: Capabilities, ciphertext: Ciphertext
) -> Ciphertext:
    """Add a fresh encryption of zero: the noise still says what the ciphertext was computed from, the polynomials not.

    Raises:
        CapabilityMissing, InvalidInput: As ``sanitize`` does.
    """
    level, scale = evaluator.level(ciphertext), evaluator.scale(ciphertext)
    return evaluator.add(ciphertext, encryption_of_zero(evaluator, params, capabilities, level=level, scale=scale))


def encryption_of_zero(
    evaluator: Evaluator, params: CKKSParams, capabilities: Capabilities, *, level: int, scale: float
) -> Ciphertext:
    """A fresh public-key encryption of zero at a level and a scale, for ``add`` to take with a ciphertext of these.

    Public-key encryption is at the highest level. Where plaintexts have scales of their own, zero is encrypted at the
    scale from which the rescales to ``level`` lead to exactly ``scale``; elsewhere each rescale follows a product with
    one. The noise shrinks with each prime dropped, down to that of rounding.

    Args:
        evaluator: The server's, with a public key.
        params: As ``Backend.resolve`` returned them.
        capabilities: The backend's.
        level: The level wanted.
        scale: The scale wanted.

    Raises:
        CapabilityMissing: As ``sanitize`` does.
        LevelExhausted: There is no such level.
        ScaleMismatch: No rescales of any scale lead to this one; those of a program with scales of powers of two do.
        InvalidInput: The parameters are not resolved.
    """
    _check_abilities(capabilities)
    _check_resolved(params)
    if not isinstance(evaluator, SupportsPublicKey):
        raise CapabilityMissing(
            f"{_WHO}: this evaluator cannot encrypt with a public key.", hint="Pass the server's own evaluator."
        )
    if not 0 <= level <= params.max_level:
        raise LevelExhausted(
            f"{_WHO}: there is no level {level}; there are levels 0 to {params.max_level}.",
            hint="Pass the level of the ciphertext to be sanitised.",
        )
    dropped = params.data_primes[level + 1 :]
    start = _start_scale(scale, dropped) if capabilities.free_plaintext_scale else _only_scale(scale, params)
    zero = evaluator.encrypt_public(np.zeros(1), scale=start, encoding=Encoding.SLOTS)
    for at in range(params.max_level, level, -1):
        if not capabilities.free_plaintext_scale:
            one = checked_native(np.ones(1), Encoding.SCALAR, capabilities, params.slots, who=_WHO)
            zero = evaluator.multiply_plain(zero, evaluator.encode(one[1], level=at, scale=start, encoding=one[0]))
        zero = evaluator.rescale(zero)
    return zero


def flooding(
    evaluator: Evaluator, params: CKKSParams, capabilities: Capabilities, ciphertext: Ciphertext, *, flood_bits: int
) -> Ciphertext:
    """Add noise of standard deviation 2^flood_bits to every coefficient, in integer units.

    It is normally distributed. A noise of at most B per coefficient, whatever it depends on, is then hidden to a
    statistical distance of B·sqrt(N) / 2^(flood_bits + 1), by Pinsker's inequality: for 2^-k, ask for log2 B + k +
    log2(N)/2 - 1 bits. Uniform noise of the same size would need another log2(N)/2.

    Raises:
        InvalidInput, CapabilityMissing, PrecisionLost: As ``sanitize`` does.
    """
    noise = _flood(params, evaluator.level(ciphertext), flood_bits)
    return add_integers(evaluator, params, capabilities, ciphertext, noise)


def trim(
    evaluator: Evaluator,
    params: CKKSParams,
    capabilities: Capabilities,
    ciphertext: Ciphertext,
    *,
    keep: Sequence[int] | None,
    message_bits: int | None = None,
    statistical_bits: int = STATISTICAL_BITS,
) -> Ciphertext:
    """Mask all coefficients but those that the client may read.

    The mask is uniform modulo the level's modulus, which hides perfectly. If ``message_bits`` is given and
    2^(message_bits + statistical_bits) is less than half the modulus, it is uniform below that, which hides each
    coefficient to a statistical distance of 2^-statistical_bits. Give it where the modulus is much larger than the
    result: the encoder's and the decoder's doubles add about 2^-50 of the mask to the coefficients kept.

    Args:
        evaluator: The server's.
        params: As ``Backend.resolve`` returned them.
        capabilities: The backend's.
        ciphertext: A result in coefficients.
        keep: Positions of the coefficients that stay readable; None keeps all, and does nothing.
        message_bits: log2 of a bound on the other coefficients, in integer units; None for the whole modulus.
        statistical_bits: How much larger than that the mask is.

    Raises:
        InvalidInput, CapabilityMissing, PrecisionLost: As ``sanitize`` does.
    """
    if keep is None:
        return ciphertext
    masked = _masked_positions(keep, params.ring_degree)
    mask = _mask(params, evaluator.level(ciphertext), message_bits, statistical_bits)
    nothing = Integers(np.zeros_like(mask.limbs))
    return add_integers(evaluator, params, capabilities, ciphertext, mask.where(masked, nothing))


def uniform_mask(
    evaluator: Evaluator, params: CKKSParams, capabilities: Capabilities, ciphertext: Ciphertext
) -> tuple[Ciphertext, NDArray[np.int64]]:
    """Re-randomise a result at level 0, and hide all its coefficients behind integers uniform modulo its prime q₀.

    Decrypted, scaled to integer units and rounded, the coefficients are (z + e + ρ) mod q₀, of the message z and the
    noise e: uniform, whatever z and e are. The masks are added exactly.

    Args:
        evaluator: The server's, with a public key.
        params: As ``Backend.resolve`` returned them.
        capabilities: The backend's.
        ciphertext: A result in coefficients, at level 0.

    Returns:
        The masked ciphertext, and ρ: int64, shape (N,), 0 ≤ ρ < q₀.

    Raises:
        InvalidInput: The ciphertext is not at level 0, or q₀ has more than ``MASK_MODULUS_BITS`` bits.
        CapabilityMissing, PrecisionLost: As ``sanitize`` does.
    """
    _check_resolved(params)
    level, prime = evaluator.level(ciphertext), params.data_primes[0]
    if level != 0 or prime.bit_length() > MASK_MODULUS_BITS:
        raise InvalidInput(
            f"uniform_mask: masks are made modulo one prime of at most {MASK_MODULUS_BITS} bits, not at level {level} "
            f"with a base prime of {prime.bit_length()} bits.",
            hint="Rescale the result to level 0, of parameters whose base prime is that short.",
        )
    fresh = rerandomize(evaluator, params, capabilities, ciphertext)
    mask = uniform_integers(params.ring_degree, prime)
    return add_integers(evaluator, params, capabilities, fresh, centred(mask, prime)), mask.limbs[0]


def _start_scale(scale: float, primes: Sequence[int]) -> float:
    """A scale that becomes exactly ``scale`` when it is divided by each of the primes, last one first, in doubles."""
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


def _masked_positions(keep: Sequence[int], ring_degree: int) -> NDArray[np.bool_]:
    """Where the coefficients stand that are not kept: bool, shape (N,)."""
    if not keep or not all(0 <= position < ring_degree for position in keep):
        raise InvalidInput(
            f"{_WHO}: the {len(keep)} coefficients to keep are none, or not all among the {ring_degree} of the ring.",
            hint="Name those that hold the result; None keeps all.",
        )
    masked = np.ones(ring_degree, dtype=bool)
    masked[list(keep)] = False
    return masked


def _flood(params: CKKSParams, level: int, bits: int) -> Integers:
    modulus = _modulus(params, level)
    if _checked_bits(bits, "flood_bits") + 1 + _TAIL_BITS >= modulus.bit_length() - 1:
        raise PrecisionLost(
            f"{_WHO}: a flood of {bits} bits wraps around the {modulus.bit_length()}-bit modulus of level {level}.",
            hint="Flood less, rescale less before, or use parameters with a larger modulus at that level.",
        )
    return normal_integers(params.ring_degree, bits)


def _mask(params: CKKSParams, level: int, message_bits: int | None, statistical_bits: int) -> Integers:
    modulus = _modulus(params, level)
    if message_bits is not None:
        wanted = 1 << (
            1 + _checked_bits(message_bits, "message_bits") + _checked_bits(statistical_bits, "statistical_bits")
        )
        modulus = min(modulus, wanted)
    return centred(uniform_integers(params.ring_degree, modulus), modulus)


def _modulus(params: CKKSParams, level: int) -> int:
    _check_resolved(params)
    return math.prod(params.data_primes[: level + 1])
