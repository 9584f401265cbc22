"""What helora asks of a backend beyond the library's calls: refusals by name, and bytes that say what they are.

No call of the library is in here, so there is nothing to fill in.
"""

from __future__ import annotations

import math
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
    """The library's ciphertext, with what helora asks about it."""

    data: Any
    level: int
    scale: float
    key_id: bytes


@dataclass(frozen=True, eq=False)
class Plaintext:
    """The library's plaintext, encoded for ciphertexts at ``level``."""

    data: Any
    level: int
    scale: float
    params: CKKSParams


class CiphertextMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A ciphertext on its way between client and server; ``data`` is the library's bytes."""

    level: int
    scale: float
    data: bytes


class EvaluationKeys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the client sends to the server before all else: the library's bytes by step. No secret key is in it."""

    params: CKKSParams
    key_id: bytes
    rotation_keys: dict[int, bytes]


def read_ciphertext(payload: bytes, params: CKKSParams) -> CiphertextMessage:
    try:
        message = msgspec.msgpack.decode(payload, type=CiphertextMessage)
    except msgspec.DecodeError as error:
        raise corrupt("a ciphertext", error) from error
    if not (0 <= message.level <= params.max_level and 0 < message.scale < math.inf):
        raise corrupt("a ciphertext", f"level {message.level}, scale {message.scale}")
    return message


def read_evaluation_keys(payload: bytes, params: CKKSParams) -> EvaluationKeys:
    try:
        keys = msgspec.msgpack.decode(payload, type=EvaluationKeys)
    except (msgspec.DecodeError, HeloraError) as error:
        raise corrupt("evaluation keys", error) from error
    if keys.params != params:
        raise corrupt("evaluation keys", "they are of other parameters")
    return keys


def corrupt(what: str, why: object) -> CorruptPayload:
    return CorruptPayload(
        f"{_WHO}: these bytes are not {what} of these parameters ({why}).",
        hint="Send them again, and check that both sides use the same parameters.",
    )


def check_encodable(
    values: Values, level: int, scale: float, encoding: Encoding, params: CKKSParams, capabilities: Capabilities
) -> None:
    check_values(values, params.slots, who=_WHO, encoding=encoding)
    if encoding not in capabilities.encodings:
        raise CapabilityMissing(f"{_WHO}: there is no encoding {encoding.value}.", hint="Use an encoding it claims.")
    if not 0 <= level <= params.max_level:
        raise LevelExhausted(
            f"{_WHO}: encoding at level {level}; there are levels 0 to {params.max_level}.",
            hint="Use parameters with more data primes.",
        )
    if not 0 < scale < math.inf:
        raise InvalidInput(f"{_WHO}: {scale} is not a scale.", hint="Use a positive number, as in 2.0**40.")
    check_fits(scale, level, params, largest=float(np.max(np.abs(values))))


def check_fits(scale: float, level: int, params: CKKSParams, *, largest: float = 1.0) -> None:
    bits = math.log2(scale) + math.log2(max(largest, 1.0))
    if bits >= params.modulus_bits_at(level) - 1:
        raise PrecisionLost(
            f"{_WHO}: numbers of {bits:.0f} bits wrap around the modulus of level {level}.",
            hint="Use smaller values or scales, or a larger base prime.",
        )


def check_own(ciphertext: Ciphertext, key_id: bytes) -> None:
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


def check_level(left: Ciphertext, right: Ciphertext | Plaintext) -> None:
    if left.level != right.level:
        raise LevelMismatch(
            f"{_WHO}: the operands are at levels {left.level} and {right.level}.",
            hint="Encode plaintexts at the ciphertext's level, and rescale both operands equally often.",
        )


def check_level_and_scale(left: Ciphertext, right: Ciphertext | Plaintext) -> None:
    check_level(left, right)
    if left.scale != right.scale:
        raise ScaleMismatch(
            f"{_WHO}: the operands have scales 2^{math.log2(left.scale):.6f} and 2^{math.log2(right.scale):.6f}.",
            hint="Bring both operands through the same multiplications and rescales.",
        )


def check_can_rescale(ciphertext: Ciphertext) -> None:
    if ciphertext.level == 0:
        raise LevelExhausted(
            f"{_WHO}: a ciphertext at level 0 cannot be rescaled.",
            hint="Use parameters with one more data prime, or a packing of less depth.",
        )


def check_has_key(step: int, rotation_keys: dict[int, Any]) -> None:
    if step not in rotation_keys:
        raise MissingRotationKey(
            f"{_WHO}: there is no key for a rotation by {step}.",
            hint="Generate keys for the plan's rotation_steps.",
        )


def check_not_asked(**extras: object) -> None:
    """Refuse what ``generate_keys`` may be asked for and the backend does not claim."""
    asked = [name for name, value in extras.items() if value not in (None, False)]
    if asked:
        raise CapabilityMissing(
            f"{_WHO}: it makes no keys with {' and '.join(asked)}.", hint="Leave it out, or choose another backend."
        )
