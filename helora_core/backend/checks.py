"""The refusals that core makes before it calls a library, for all libraries alike.

Libraries accept many such calls: they align levels, round scales, compose rotations, or read past the end of an array.
``helora_core.backend.checked`` makes the checks, so that a backend's author writes none of them.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection
from typing import NoReturn, TypeVar

import numpy as np

from helora_core.backend.capabilities import Capabilities, Encoding
from helora_core.backend.embedding import largest_coefficient
from helora_core.backend.protocol import Values
from helora_core.backend.values import check_encoding, check_scale, check_values
from helora_core.errors import (
    CapabilityMissing,
    CorruptPayload,
    ForeignCiphertext,
    HeloraError,
    InvalidInput,
    LevelExhausted,
    LevelMismatch,
    MissingRotationKey,
    PrecisionLost,
    ScaleMismatch,
)
from helora_core.params.ckks import CKKSParams

_Read = TypeVar("_Read")


def check_encodable(
    values: Values,
    level: int,
    scale: float,
    encoding: Encoding,
    params: CKKSParams,
    capabilities: Capabilities,
    *,
    who: str,
) -> None:
    """Refuse values that have no plaintext at this level and scale.

    Raises:
        CapabilityMissing: The backend itself does not have this encoding, or it has only one scale, and not this one.
        InvalidInput, SlotOverflow: As ``check_values`` does; or the scale is not valid.
        LevelExhausted: There is no such level.
        PrecisionLost: The polynomial does not fit the modulus.
    """
    check_encoding(encoding, capabilities, who=who)
    check_scale(scale, who=who)
    check_values(values, params.slots, who=who, encoding=encoding)
    if not 0 <= level <= params.max_level:
        raise LevelExhausted(
            f"{who}: encoding at level {level}; there are levels 0 to {params.max_level}.",
            hint="Use parameters with more data primes.",
        )
    if not capabilities.free_plaintext_scale and scale != 2.0**params.scale_bits:
        raise CapabilityMissing(
            f"{who}: every plaintext has the scale 2^{params.scale_bits}, not 2^{math.log2(scale):.1f}.",
            hint="Use plans whose scales are all the parameters' own, as from choose_params.",
        )
    if encoding is Encoding.INTEGERS:
        _check_residues(values, params.data_primes[: level + 1], level, who)
    elif not _fits(values, level, scale, encoding, params, capabilities.slot_generator):
        raise PrecisionLost(
            f"{who}: values at scale 2^{math.log2(scale):.1f} do not fit the {modulus_bits(params)[level]:.0f}-bit "
            f"modulus of level {level}.",
            hint="Use smaller values or scales, or a larger base prime.",
        )


def _check_residues(residues: Values, primes: tuple[int, ...], level: int, who: str) -> None:
    if len(residues) != len(primes) or (residues >= np.array(primes, dtype=np.uint64)[:, np.newaxis]).any():
        raise InvalidInput(
            f"{who}: {len(residues)} rows of residues are not those of the {len(primes)} primes of level {level}.",
            hint="Make them with helora_core.backend.residues, for the level's primes.",
        )


def _fits(values: Values, level: int, scale: float, encoding: Encoding, params: CKKSParams, generator: int) -> bool:
    """Whether the encoded polynomial fits the modulus: certainly if its slots do, otherwise if its coefficients do."""
    # Residues end at half the modulus.
    spare_bits = modulus_bits(params)[level] - 1 - math.log2(scale)
    largest = float(np.max(np.abs(values)))
    if max(largest, 1.0) < 2.0 ** min(spare_bits, 1023):
        return True
    # A scalar is itself a coefficient, and some coefficient is at least 1/N of the largest slot.
    if encoding in (Encoding.SCALAR, Encoding.COEFFICIENTS) or spare_bits <= 0:
        return False
    if not math.isfinite(largest) or math.log2(largest) - math.log2(params.ring_degree) >= spare_bits:
        return False
    return bool(largest_coefficient(values, params.ring_degree, generator) < 2.0 ** min(spare_bits, 1023))


@functools.lru_cache(maxsize=64)
def modulus_bits(params: CKKSParams) -> tuple[float, ...]:
    """log2 of the modulus at each level, computed from the primes themselves."""
    return tuple(math.log2(math.prod(params.data_primes[: level + 1])) for level in range(params.max_level + 1))


@functools.lru_cache(maxsize=64)
def largest_scales(params: CKKSParams) -> tuple[float, ...]:
    """The modulus at each level as a double, at most the largest double; no scale may reach it."""
    return tuple(2.0 ** min(bits, 1023.0) for bits in modulus_bits(params))


def foreign(who: str) -> NoReturn:
    """Refuse anything that is not a ciphertext of this key pair.

    Raises:
        ForeignCiphertext: Always.
    """
    raise ForeignCiphertext(
        f"{who}: this is not a ciphertext, or it was made with other keys.",
        hint="Use ciphertexts of the client whose evaluation keys this server holds.",
    )


def foreign_plaintext(who: str) -> NoReturn:
    """Refuse anything that is not a plaintext of this backend and these parameters.

    Raises:
        ForeignCiphertext: Always.
    """
    raise ForeignCiphertext(
        f"{who}: this is not a plaintext of this backend and these parameters.",
        hint="Encode it with an encoder of the server's own parameters.",
    )


def unlike(who: str, levels: tuple[int, int], scales: tuple[float, float] | None = None) -> NoReturn:
    """Refuse operands of different levels or, if ``scales`` are given, of different scales.

    Raises:
        LevelMismatch, ScaleMismatch: One of them, always.
    """
    if levels[0] != levels[1] or scales is None:
        raise LevelMismatch(
            f"{who} of operands at levels {levels[0]} and {levels[1]}.",
            hint="Encode plaintexts at the ciphertext's level, and rescale both operands equally often.",
        )
    raise ScaleMismatch(
        f"{who} of operands with scales 2^{math.log2(scales[0]):.6f} and 2^{math.log2(scales[1]):.6f}.",
        hint="Take both operands through the same multiplications and rescales.",
    )


def too_large_a_product(who: str, left: float, right: float, level: int) -> NoReturn:
    """Refuse a product whose scale does not fit the modulus.

    Raises:
        PrecisionLost: Always.
    """
    raise PrecisionLost(
        f"{who}: a product of scales 2^{math.log2(left):.1f} and 2^{math.log2(right):.1f} does not fit the modulus of "
        f"level {level}.",
        hint="Rescale first, or use smaller scales.",
    )


def no_level_left(who: str) -> NoReturn:
    """Refuse to rescale at level 0.

    Raises:
        LevelExhausted: Always.
    """
    raise LevelExhausted(
        f"{who}: a ciphertext at level 0 cannot be rescaled.",
        hint="Use parameters with one more data prime, or a packing of less depth.",
    )


def no_such_level(who: str, level: int, max_level: int) -> NoReturn:
    """Refuse a level that the parameters do not have.

    Raises:
        LevelExhausted: Always.
    """
    raise LevelExhausted(
        f"{who}: there is no level {level}; there are levels 0 to {max_level}.",
        hint="Pass the level of the ciphertext to be sanitised.",
    )


def no_rotation_key(who: str, steps: int) -> NoReturn:
    """Refuse a rotation by a step that has no key of its own.

    Raises:
        MissingRotationKey: Always.
    """
    raise MissingRotationKey(
        f"{who}: there is no key for a rotation by {steps}.", hint="Generate keys for the plan's rotation_steps."
    )


def no_public_key(who: str) -> NoReturn:
    """Refuse to encrypt without a public key.

    Raises:
        CapabilityMissing: Always.
    """
    raise CapabilityMissing(f"{who}: no public key was generated.", hint="Generate keys with public_key=True.")


def check_keys_asked(
    params: CKKSParams, steps: Collection[int], capabilities: Capabilities, *, public_key: bool, seeded: bool, who: str
) -> None:
    """Refuse keys that the backend cannot make.

    Raises:
        InvalidInput: A step is not in 1 to N/2 − 1.
        CapabilityMissing: A public key or a seed was asked for, and the backend does not claim the capability.
    """
    if any(not 0 < step < params.slots for step in steps):
        raise InvalidInput(
            f"{who}: rotation steps {sorted(steps)} are not all in 1..{params.slots - 1}.",
            hint="Pass plan.rotation_steps; a negative step k is the step k mod the number of slots.",
        )
    if seeded and not capabilities.seeded_keys:
        raise CapabilityMissing(
            f"{who}: keys cannot be made from a seed.",
            hint="Leave the seed out; use the emulation for repeatable runs.",
        )
    if public_key and not capabilities.public_key:
        raise CapabilityMissing(
            f"{who}: keys cannot be made with a public key.",
            hint="Choose a backend with the capability public_key; `helora backends` lists them.",
        )


def read(reading: Callable[[], _Read], what: str, *, who: str) -> _Read:
    """Call ``reading`` and return the object that a library reads from bytes.

    Raises:
        CorruptPayload: The library raised any exception. Its text is left out, since it may quote the bytes.
    """
    try:
        return reading()
    except HeloraError:
        raise
    except Exception as error:
        raise CorruptPayload(
            f"{who}: these bytes are not {what} of these parameters ({type(error).__name__}).",
            hint="Send it again, and check that both sides use the same parameters.",
        ) from error


def check_read(level: int, scale: float, params: CKKSParams, *, who: str) -> None:
    """Refuse a ciphertext that a library read, if none of these parameters can have this level and scale.

    Raises:
        CorruptPayload: No ciphertext can have them.
    """
    if not (0 <= level <= params.max_level and 0 < scale < largest_scales(params)[-1]):
        raise CorruptPayload(
            f"{who}: a ciphertext of level {level} and scale {scale} cannot exist.",
            hint="Send it again, and check that both sides use the same parameters.",
        )
