"""Reads MessagePack of a known form. msgspec has more exceptions for bytes that are none than its own base class."""

from __future__ import annotations

import functools
from collections.abc import Hashable
from typing import Any, TypeVar, cast

import msgspec

from helora_core.files.malformed import Malformed

T = TypeVar("T")


def decode(data: bytes | memoryview, kind: type[T]) -> T:
    """Read MessagePack.

    Args:
        data: Of a bounded size: nothing here limits it.
        kind: The type expected, as for ``msgspec.msgpack.decode``.

    Raises:
        Malformed: It is not MessagePack, or not of the type expected.
    """
    try:
        found: T = _decoder(cast("Hashable", kind)).decode(data)
    except UnicodeDecodeError as error:
        raise Malformed("has text that is not UTF-8") from error
    except (msgspec.MsgspecError, RecursionError, MemoryError) as error:
        # The texts of msgspec name places and types, never values.
        raise Malformed(f"is not the MessagePack expected ({error})") from error
    return found


@functools.lru_cache(maxsize=64)
def _decoder(kind: Any) -> msgspec.msgpack.Decoder[Any]:
    return msgspec.msgpack.Decoder(kind)
