"""What helora asks of a backend beyond the library's calls: refusals by name of what libraries let pass.

There is nothing to fill in here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from helora_core.backend.capabilities import Capabilities, Encoding
from helora_core.backend.protocol import Values
from helora_core.backend.values import check_values
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

_WHO = "helora-acme"


@dataclass(frozen=True, eq=False)
class Ciphertext:
    """The library's ciphertext and the name of its key pair."""

    data: Any
    key_id: bytes


@dataclass(frozen=True, eq=False)
class Plaintext:
    """The library's plaintext and what it was encoded for."""

    data: Any
    level: int
    scale: float
    params: CKKSParams


class EvaluationKeys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the client sends to the server before all else: the library's bytes by step. No secret key is in it."""

    params: CKKSParams
    key_id: bytes
    rotation_keys: dict[int, bytes]


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turn what reading bytes raises into ``CorruptPayload``."""
    try:
        yield
    except (ValueError, msgspec.DecodeError, HeloraError) as error:
        raise CorruptPayload(
            f"{_WHO}: these bytes are not {what} of these parameters ({error}).",
            hint="Send them again, and check that both sides use the same parameters.",
        ) from error


def read_evaluation_keys(payload: bytes, params: CKKSParams) -> EvaluationKeys:
    with reading("evaluation keys"):
        keys = msgspec.msgpack.decode(payload, type=EvaluationKeys)
        if keys.params != params:
            raise ValueError("they are of other parameters")
    return keys


def check_level_and_scale_exist(level: int, scale: float, params: CKKSParams) -> None:
    if not 0 <= level <= params.max_level:
        raise LevelExhausted(
            f"{_WHO}: level {level} of {params.max_level}.", hint="Use parameters with more data primes."
        )
    if not 0 < scale < math.inf:
        raise InvalidInput(f"{_WHO}: {scale} is not a scale.", hint="Use a positive number, as in 2.0**40.")


def check_encodable(
    values: Values, level: int, scale: float, encoding: Encoding, params: CKKSParams, capabilities: Capabilities
) -> None:
    check_values(values, params.slots, who=_WHO, encoding=encoding)
    if encoding not in capabilities.encodings:
        raise CapabilityMissing(f"{_WHO}: there is no encoding {encoding.value}.", hint="Use an encoding it claims.")
    check_level_and_scale_exist(level, scale, params)
    check_fits(scale, level, params, largest=float(np.max(np.abs(values))))


def check_fits(scale: float, level: int, params: CKKSParams, *, largest: float = 1.0) -> None:
    bits = math.log2(scale) + math.log2(max(largest, 1.0))
    if bits >= params.modulus_bits_at(level) - 1:
        raise PrecisionLost(
            f"{_WHO}: numbers of {bits:.0f} bits wrap around the modulus of level {level}.",
            hint="Use smaller values or scales, or a larger base prime.",
        )


def check_ciphertext(ciphertext: Ciphertext, key_id: bytes) -> None:
    if not isinstance(ciphertext, Ciphertext) or ciphertext.key_id != key_id:
        raise ForeignCiphertext(
            f"{_WHO}: this ciphertext was made with other keys.",
            hint="Use ciphertexts of the client whose evaluation keys this server holds.",
        )


def check_plaintext(plaintext: Plaintext, params: CKKSParams) -> None:
    if not isinstance(plaintext, Plaintext) or plaintext.params != params:
        raise ForeignCiphertext(
            f"{_WHO}: this plaintext was not encoded for these parameters.",
            hint="Use plaintexts that this server's encode gave.",
        )


def check_levels(left: int, right: int) -> None:
    if left != right:
        raise LevelMismatch(
            f"{_WHO}: the operands are at levels {left} and {right}.",
            hint="Encode plaintexts at the ciphertext's level, and rescale both operands equally often.",
        )


def check_scales(left: float, right: float) -> None:
    if left != right:
        raise ScaleMismatch(
            f"{_WHO}: the operands have scales 2^{math.log2(left):.6f} and 2^{math.log2(right):.6f}.",
            hint="Bring both operands through the same multiplications and rescales.",
        )


def check_can_rescale(level: int) -> None:
    if level == 0:
        raise LevelExhausted(
            f"{_WHO}: a ciphertext at level 0 cannot be rescaled.",
            hint="Use parameters with one more data prime, or a packing of less depth.",
        )


def check_has_key(steps: int, rotation_keys: Mapping[int, Any]) -> None:
    if steps not in rotation_keys:
        raise MissingRotationKey(
            f"{_WHO}: there is no key for a rotation by {steps}.",
            hint="Generate keys for the plan's rotation_steps.",
        )


def check_not_asked(**extras: object) -> None:
    """Refuse what ``generate_keys`` may be asked for and this backend does not claim."""
    for name, value in extras.items():
        if value is not None and value is not False:
            raise CapabilityMissing(
                f"{_WHO}: keys cannot be made with a {name.replace('_', ' ')}.",
                hint="Leave it out, or choose a backend that claims it.",
            )
