"""Ciphertexts and plaintexts, and what client and server both do with them. No key is in here."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from helora_core.backend.capabilities import Encoding
from helora_core.backend.protocol import Values
from helora_core.backend.values import check_values
from helora_core.errors import CorruptPayload, ForeignCiphertext, InvalidInput, LevelExhausted, PrecisionLost
from helora_core.params.ckks import CKKSParams
from helora_pyfhel.context import WHO, Context
from helora_pyfhel.residues import to_plaintext

# Where SEAL's serialised ciphertext says whether it is in NTT form: after a header of 16 bytes and a parms_id of 32.
_NTT_FLAG = 48


@dataclass(frozen=True, eq=False)
class PyfhelCiphertext:
    """A PyCtxt, which no one alters, and the name of its key pair."""

    data: Any
    key_id: bytes


@dataclass(frozen=True, eq=False)
class PyfhelPlaintext:
    """A PyPtxt in the NTT form of its level."""

    data: Any
    level: int
    scale: float
    params: CKKSParams


class Role:
    """What client and server share."""

    def __init__(self, context: Context, key_id: bytes) -> None:
        self.key_id = key_id
        self._context = context

    def level(self, ciphertext: PyfhelCiphertext) -> int:
        return self._context.level(self._own(ciphertext).data)

    def scale(self, ciphertext: PyfhelCiphertext) -> float:
        return float(self._own(ciphertext).data.scale)

    def serialize(self, ciphertext: PyfhelCiphertext) -> bytes:
        payload: bytes = self._own(ciphertext).data.to_bytes("none")
        return payload

    def deserialize(self, payload: bytes) -> PyfhelCiphertext:
        try:
            data = self._context.read(payload)
        except Exception as error:  # Cython makes many types of SEAL's exceptions
            raise _corrupt(f"{type(error).__name__}: {error}") from error
        # What Pyfhel or SEAL let pass: no bytes at all, bytes too many, compression, products not yet relinearised,
        # polynomials in the wrong form, and scales that cannot be.
        if data.size() != 2 or data.sizeof_ciphertext("none") != len(payload):
            raise _corrupt(f"{len(payload)} bytes are not two polynomials of one level")
        if payload[_NTT_FLAG] != 1 or not 0 < data.scale < math.inf:
            raise _corrupt(f"not in NTT form, or of scale {data.scale}")
        return PyfhelCiphertext(data, self.key_id)

    def _own(self, ciphertext: PyfhelCiphertext) -> PyfhelCiphertext:
        if not isinstance(ciphertext, PyfhelCiphertext) or ciphertext.key_id != self.key_id:
            raise ForeignCiphertext(
                f"{WHO}: this ciphertext was made with other keys.",
                hint="Use ciphertexts of the client whose evaluation keys this server holds.",
            )
        return ciphertext

    def _encode(self, values: Values, level: int, scale: float, encoding: Encoding, who: str) -> Any:
        """A PyPtxt of ``values``, refused where ``check_values`` or the modulus does."""
        params = self._context.params
        check_values(values, params.slots, who=f"{WHO} {who}", encoding=encoding)
        if not 0 <= level <= params.max_level:
            raise LevelExhausted(
                f"{WHO}: encoding at level {level}; there are levels 0 to {params.max_level}.",
                hint="Use parameters with more data primes.",
            )
        if not 0 < scale < math.inf:  # Pyfhel replaces such a scale by a default of its own
            raise InvalidInput(f"{WHO} {who}: {scale} is not a scale.", hint="Use a positive number, as 2.0**40.")
        if encoding is Encoding.INTEGERS:
            return self._encode_integers(values, level, scale, who)
        values = np.require(values, requirements=("C", "W"))  # Pyfhel's buffers are both
        largest = float(np.max(np.abs(values.view(np.float64))))
        try:
            _check_range(largest, scale, level, params)
            return self._context.encode(values, level, scale, encoding)
        except ValueError as error:
            raise PrecisionLost(
                f"{WHO}: values at scale 2^{math.log2(scale):.1f} do not fit the modulus of level {level} ({error}).",
                hint="Use smaller values or scales, or a larger base prime.",
            ) from error

    def _encode_integers(self, residues: Values, level: int, scale: float, who: str) -> Any:
        primes = self._context.params.data_primes[: level + 1]
        if len(residues) != len(primes) or (residues >= np.array(primes, dtype=np.uint64)[:, np.newaxis]).any():
            raise InvalidInput(
                f"{WHO} {who}: {len(residues)} rows of residues are not those of the {len(primes)} primes of level "
                f"{level}.",
                hint="Make them with helora_core.backend.residues, for the level's primes.",
            )
        like = self._context.encode(np.full(self._context.params.slots, 1 / scale), level, scale, Encoding.SLOTS)
        return to_plaintext(residues, primes, like)


def _check_range(largest: float, scale: float, level: int, params: CKKSParams) -> None:
    """Refuse what overflows float64 in SEAL's transform, where SEAL's own check fails and encodes zeros.

    Some coefficient of the plaintext is at least 1/N of its largest slot.
    """
    if largest and math.log2(largest) + math.log2(scale / params.ring_degree) > params.modulus_bits_at(level):
        raise ValueError("encoded values are far too large")


def _corrupt(what: str) -> CorruptPayload:
    return CorruptPayload(
        f"{WHO}: these bytes are not a ciphertext of these parameters ({what}).",
        hint="Send it again, and check that both sides use the same parameters.",
    )
