"""Ciphertexts and plaintexts, and what client and server both do with them. No key is in here."""

from __future__ import annotations

from typing import Any

import numpy as np

from helora_core.backend.capabilities import Encoding
from helora_core.backend.protocol import SLOTS, Values
from helora_pyfhel.context import Context
from helora_pyfhel.residues import to_plaintext

# Where SEAL's serialised ciphertext says whether it is in NTT form: after a header of 16 bytes and a parms_id of 32.
_NTT_FLAG = 48


class PyfhelEncoder:
    """Pyfhel's encoders, one for each level."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def encode(self, values: Values, *, level: int, scale: float, encoding: Encoding = SLOTS) -> Any:
        plaintext = encoded(self._context, values, level, scale, encoding)
        if encoding is not Encoding.INTEGERS and plaintext.is_zero():
            # A product with the zero polynomial would be a ciphertext that anyone can read. The polynomial 1 stands for
            # 1/scale in every slot: within the rounding error of any encoding.
            return _smallest(self._context, level, scale)
        return plaintext


def encoded(context: Context, values: Values, level: int, scale: float, encoding: Encoding) -> Any:
    """A PyPtxt in the NTT form of its level."""
    if encoding is Encoding.INTEGERS:
        primes = context.params.data_primes[: level + 1]
        return to_plaintext(values, primes, _smallest(context, level, scale))
    # Pyfhel's buffers are both.
    return context.encode(np.require(values, requirements=("C", "W")), level, scale, encoding)


def _smallest(context: Context, level: int, scale: float) -> Any:
    """The polynomial 1."""
    return context.encode(np.full(context.params.slots, 1 / scale), level, scale, SLOTS)


class Role:
    """What client and server share."""

    def __init__(self, context: Context, key_id: bytes) -> None:
        self.key_id = key_id
        self._context = context

    def level(self, ciphertext: Any) -> int:
        return self._context.level(ciphertext)

    def scale(self, ciphertext: Any) -> float:
        return float(ciphertext.scale)

    def serialize(self, ciphertext: Any) -> bytes:
        payload: bytes = ciphertext.to_bytes("none")
        return payload

    def deserialize(self, payload: bytes) -> Any:
        ciphertext = self._context.read(payload)
        # What Pyfhel or SEAL let pass: no bytes at all, bytes too many, compression, products not yet relinearised,
        # and polynomials in the wrong form.
        if ciphertext.size() != 2 or ciphertext.sizeof_ciphertext("none") != len(payload) or payload[_NTT_FLAG] != 1:
            raise ValueError(f"{len(payload)} bytes are not two polynomials of one level in NTT form")
        return ciphertext
