"""Plaintexts as residues: SEAL's encoder goes through doubles, its serialised form does not.

A serialised plaintext is a header, parms_id, the number of residues, the scale, and an array with a header of its own
(SEAL 4, ``Plaintext::save_members`` and ``DynArray::save_members``). Its residues are those of the transformed
polynomial, in the order of ``helora_core.backend.ntt``.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import tenseal.sealapi as seal

from helora_core.backend import ntt
from helora_core.backend.ntt import Residues
from helora_tenseal.seal_bytes import load, saved

_HEADER = struct.Struct("<HBBBBHQ")
"""Magic number, header size, SEAL's version (two bytes), compression, reserved, bytes in all."""
_UNCOMPRESSED = 0


def to_plaintext(residues: Residues, primes: tuple[int, ...], context: Any, parms_id: list[int], scale: float) -> Any:
    """A SEAL plaintext of the polynomial with these residues, uint64 of shape (primes, N)."""
    values = ntt.forward_all(residues, primes)
    plaintext = seal.Plaintext()
    magic, size, major, minor, _, reserved, _ = _HEADER.unpack(saved(plaintext.save)[: _HEADER.size])

    def with_header(body: bytes) -> bytes:
        return _HEADER.pack(magic, size, major, minor, _UNCOMPRESSED, reserved, size + len(body)) + body

    array = with_header(struct.pack("<Q", values.size) + values.astype("<u8").tobytes())
    body = struct.pack("<4QQd", *parms_id, values.size, scale) + array
    load(with_header(body), lambda path: plaintext.load(context, path))
    return plaintext


def from_plaintext(plaintext: Any, primes: tuple[int, ...]) -> Residues:
    """The residues of a SEAL plaintext's polynomial: uint64, shape (primes, N)."""
    array = plaintext.dyn_array()
    values = np.fromiter(map(array.at, range(array.size())), dtype=np.uint64, count=array.size())
    return ntt.inverse_all(values.reshape(len(primes), -1), primes)
