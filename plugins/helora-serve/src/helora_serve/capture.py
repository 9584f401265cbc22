"""Looks for private things in recorded bytes, in the encodings in which programs write them. For tests."""

from __future__ import annotations

import base64
import json
import urllib.parse
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike

_FLOATS = ("<f4", ">f4", "<f8", ">f8", "<f2", ">f2")
_INTEGERS = ("<i2", ">i2", "<i4", ">i4", "<i8", ">i8")
_LEAST = 6
"""Fewer bytes than these are found by chance."""


def text_needles(text: str) -> Iterator[tuple[str, bytes]]:
    """A text, by the name of its encoding."""
    for encoding in ("utf-8", "utf-16-le", "utf-16-be", "utf-32-le"):
        yield from raw_needles(encoding, text.encode(encoding))
    yield "JSON", json.dumps(text)[1:-1].encode()
    yield "URL", urllib.parse.quote(text).encode()


def token_needles(tokens: Sequence[int]) -> Iterator[tuple[str, bytes]]:
    """A sequence of tokens' numbers."""
    for kind in _INTEGERS:
        yield from raw_needles(f"tokens as {kind}", np.asarray(tokens, kind).tobytes())
    for comma in (",", ", ", " "):
        yield "tokens in decimal", comma.join(map(str, tokens)).encode()


def number_needles(name: str, values: ArrayLike, kinds: Sequence[str] = _FLOATS) -> Iterator[tuple[str, bytes]]:
    """Numbers that follow one another."""
    for kind in kinds:
        yield from raw_needles(f"{name} as {kind}", np.asarray(values).astype(kind).tobytes())


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


def found(needles: Iterator[tuple[str, bytes]], recorded: bytes) -> set[str]:
    """The encodings in which something is in the bytes."""
    return {name for name, needle in needles if len(needle) >= _LEAST and needle in recorded}
