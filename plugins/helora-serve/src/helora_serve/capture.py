"""Looks for private things in recorded bytes, in the encodings in which programs write them. For tests."""

from __future__ import annotations

import base64
import json
import re
import urllib.parse
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike

_FLOATS = ("<f4", ">f4", "<f8", ">f8", "<f2", ">f2")
_INTEGERS = ("<i2", ">i2", "<i4", ">i4", "<i8", ">i8")
_LEAST = 6
"""Fewer bytes than these are found by chance."""
_PIECE = 1 << 22
_UPGRADE = re.compile(rb"\r\nupgrade: websocket\r\n", re.IGNORECASE)
_EXTENSIONS = re.compile(rb"\r\nsec-websocket-extensions: ", re.IGNORECASE)
_CODED = re.compile(rb"\r\n(?:content|transfer)-encoding: *(?:gzip|br|deflate|zstd|compress)", re.IGNORECASE)


def messages(stream: bytes) -> list[bytes]:
    """What one direction of a connection carried: its bytes, and of WebSockets each message, whole and without the mask
    that every frame of a client has.

    Raises:
        ValueError: Something was compressed, so that a search would find nothing.
    """
    if _CODED.search(stream):
        raise ValueError("a body is compressed")
    upgrade = _UPGRADE.search(stream)
    if upgrade is None:
        return [stream]
    at = stream.index(b"\r\n\r\n", upgrade.start()) + 4
    head, found, parts = stream[:at], [stream[:at]], list[bytes]()
    if head.startswith(b"HTTP/") and _EXTENSIONS.search(head):
        raise ValueError("the server took an extension of WebSocket's")
    while at + 2 <= len(stream):
        first, length = stream[at], stream[at + 1] & 127
        masked, at = stream[at + 1] & 128, at + 2
        if first & 0x70:
            raise ValueError("a frame has a bit of an extension's")
        if size := {126: 2, 127: 8}.get(length, 0):
            length, at = int.from_bytes(stream[at : at + size], "big"), at + size
        mask, at = (stream[at : at + 4], at + 4) if masked else (b"", at)
        payload, at = stream[at : at + length], at + length
        if mask:
            key = np.resize(np.frombuffer(mask, np.uint8), len(payload))
            payload = (np.frombuffer(payload, np.uint8) ^ key).tobytes()
        parts.append(payload)
        if first & 0x80 or at >= len(stream):
            found.append(b"".join(parts))
            parts = []
    return found


def text_needles(text: str) -> Iterator[tuple[str, bytes]]:
    """A text, by the name of its encoding."""
    for encoding in ("utf-8", "utf-16-le", "utf-16-be", "utf-32-le"):
        yield from raw_needles(encoding, text.encode(encoding))
    for ascii in (True, False):
        yield "JSON", json.dumps(text, ensure_ascii=ascii)[1:-1].encode()
    for safe in ("/", "!'()*"):  # Python's way, and browsers'
        yield "URL", urllib.parse.quote(text, safe=safe).encode()


def token_needles(tokens: Sequence[int]) -> Iterator[tuple[str, bytes]]:
    """A sequence of tokens' numbers."""
    for kind in _INTEGERS:
        yield from raw_needles(f"tokens as {kind}", np.asarray(tokens, kind).tobytes())
    yield (
        "tokens as varint",
        b"".join(bytes([each & 127 | 128, each >> 7] if each > 127 else [each]) for each in tokens),
    )
    for comma in (",", ", ", " "):
        yield "tokens in decimal", comma.join(map(str, tokens)).encode()


def _varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first."""
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def number_needles(name: str, values: ArrayLike, kinds: Sequence[str] = _FLOATS) -> Iterator[tuple[str, bytes]]:
    """Numbers that follow one another."""
    for kind in kinds:
        yield from raw_needles(f"{name} as {kind}", np.asarray(values).astype(kind).tobytes())
    for comma in (",", ", ") if "<f8" in kinds else ():
        yield f"{name} in decimal", comma.join(map(repr, np.asarray(values, float).tolist())).encode()


def ternary_needles(values: ArrayLike) -> Iterator[tuple[str, bytes]]:
    """A secret key of −1, 0 and 1: as numbers, and as digits 0, 1, 2, four of them a byte too."""
    signed = np.asarray(values).astype(np.int64)
    digits = signed % 3
    yield from number_needles("key", signed, ("<i1", "<i2", "<i4", ">i4", "<i8", ">i8", "<f4", ">f4", "<f8", ">f8"))
    yield from number_needles("key of digits", digits, ("<i1", "<i4", "<i8"))
    whole = digits[: len(digits) // 4 * 4].reshape(-1, 4)
    for shifts in ([0, 2, 4, 6], [6, 4, 2, 0]):
        yield from raw_needles("key in two bits", (whole << shifts).sum(axis=1).astype(np.uint8).tobytes())


def raw_needles(name: str, data: bytes) -> Iterator[tuple[str, bytes]]:
    """Bytes as they are, in hexadecimal, and in base64 wherever they begin in it."""
    yield name, data
    yield f"{name}, hex", data.hex().encode()
    yield f"{name}, HEX", data.hex().upper().encode()
    for before in range(3):
        whole = base64.b64encode(before * b"\0" + data)
        # The first characters also have bits of what is before, and the last ones of what comes after.
        yield f"{name}, base64", whole[-(-8 * before // 6) : len(whole) - 4]
        yield f"{name}, base64", whole[-(-8 * before // 6) : len(whole) - 4].replace(b"+", b"-").replace(b"/", b"_")


def found(needles: Iterable[tuple[str, bytes]], recorded: bytes) -> set[str]:
    """The encodings in which something is in the bytes."""
    wanted = [(name, needle) for name, needle in needles if len(needle) >= _LEAST]
    # Thousands of needles in one pass: their first three bytes are looked up everywhere, and what begins so compared.
    heads = np.zeros(1 << 24, bool)
    heads[[int.from_bytes(needle[:3], "little") for _, needle in wanted]] = True
    beginnings = {needle[:_LEAST] for _, needle in wanted}
    there = set[bytes]()
    for start in range(0, len(recorded), _PIECE):
        piece = np.frombuffer(recorded[start : start + _PIECE + 2], np.uint8).astype(np.int32)
        codes = piece[:-2] | piece[1:-1] << 8 | piece[2:] << 16
        starts = (start + np.flatnonzero(heads[codes])).tolist()
        there |= beginnings.intersection(recorded[at : at + _LEAST] for at in starts)
    return {name for name, needle in wanted if needle[:_LEAST] in there and needle in recorded}
