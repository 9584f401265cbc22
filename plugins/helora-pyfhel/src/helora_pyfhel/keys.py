"""The evaluation keys as messages, and the checks before a server uses them.

SEAL composes a rotation whose key is missing from other keys, with a key switch for each. A server therefore holds keys
for exactly the steps that the message names, or refuses the message.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from helora_core.backend.base import ClientKeys, EvaluationKeys

# SEAL's header: magic u16, header size u8, version u8 u8, compression u8, reserved u16, size of all u64.
_HEADER = struct.Struct("<HBBBBHQ")
_PARMS_ID_BYTES = 32
_COUNT = struct.Struct("<Q")


def load_client_keys(pyfhel: Any, keys: ClientKeys) -> None:
    """Give a Pyfhel object a client's own keys, or raise ValueError."""
    _load(pyfhel.from_bytes_secret_key, keys.secret_key)
    _load(pyfhel.from_bytes_public_key, keys.public_key)


def load_keys(pyfhel: Any, keys: EvaluationKeys, ring_degree: int) -> None:
    """Give a Pyfhel object these keys and no others, or raise ValueError if they are not for the steps named."""
    expected = {pow(3, step, 2 * ring_degree) for step in keys.steps}
    if keys.rotation_keys:
        _load(pyfhel.from_bytes_rotate_key, keys.rotation_keys)
    if expected != galois_elements(keys.rotation_keys):
        raise ValueError("there are rotation keys for other steps than the message names")
    if keys.public_key:
        _load(pyfhel.from_bytes_public_key, keys.public_key)


def _load(load: Callable[[bytes], int], payload: bytes) -> None:
    # Compression would hide the layout that is read below; this package never asks SEAL for it.
    if load(payload) != len(payload) or _HEADER.unpack_from(payload)[4]:
        raise ValueError("the bytes are not SEAL's plain form")


def galois_elements(payload: bytes) -> set[int]:
    """The automorphisms x → x^element that serialised Galois keys, which SEAL has read and found good, are for.

    SEAL's layout: header, parms_id, number of places u64; then, for each place i, the number of digits u64 and a key,
    header and all, for each digit. Place i is for the element 2i + 1; without digits there is no key for it.
    """
    if not payload:
        return set()
    offset = _HEADER.size + _PARMS_ID_BYTES
    (places,) = _COUNT.unpack_from(payload, offset)
    offset += _COUNT.size
    elements = set()
    for place in range(places):
        (digits,) = _COUNT.unpack_from(payload, offset)
        offset += _COUNT.size
        if digits:
            elements.add(2 * place + 1)
        for _ in range(digits):
            offset += _HEADER.unpack_from(payload, offset)[-1]
    return elements
