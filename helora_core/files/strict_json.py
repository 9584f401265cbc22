"""Reads JSON strictly, so that it means the same to every reader (RFC 8259; I-JSON, RFC 7493).

msgspec refuses NaN, infinities, numbers out of range, lone surrogates, trailing bytes and wrong types. It takes the
last of two equal keys where other readers take the first, ignores bytes that are not UTF-8 in unknown fields, and
nests as deep as the stack allows; these three are refused here, before msgspec sees the bytes.
"""

from __future__ import annotations

import json
import re
from typing import TypeVar

import msgspec

from helora_core.files.malformed import Malformed

MOST_DEPTH = 64
"""The deepest nesting of arrays and objects. helora itself writes at most 8."""

# Strings, including keys, and brackets and braces. Everything else is for msgspec to judge, and so is a string without
# an end, which is matched as well: looking for the end again from each quote in it would take quadratic time.
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?(\s*:)?|[{}\[\]]', re.DOTALL)

T = TypeVar("T")


def decode(data: bytes, kind: type[T], *, most: int, depth: int = MOST_DEPTH) -> T:
    """Read JSON of a known form.

    Args:
        data: UTF-8, without a byte order mark.
        kind: The type expected, as for ``msgspec.json.decode``.
        most: Most bytes that are read.
        depth: The deepest nesting of arrays and objects.

    Raises:
        Malformed: It is too large, not JSON that is accepted here, or not of the type expected.
    """
    if len(data) > most:
        raise Malformed(f"has {len(data)} bytes of JSON, and at most {most} are read")
    try:
        _check_structure(data.decode("utf-8"), depth)
        return msgspec.json.decode(data, type=kind)
    except UnicodeDecodeError as error:
        raise Malformed(f"is not the JSON expected (not UTF-8 at byte {error.start})") from error
    except (msgspec.MsgspecError, RecursionError, MemoryError) as error:
        raise Malformed(f"is not the JSON expected ({error})") from error


def _check_structure(text: str, depth: int) -> None:
    """Refuse equal keys in one object, and nesting beyond ``depth``. This does not check whether it is JSON at all."""
    inside: list[set[str]] = []  # for each array and object that is open, the keys so far
    for found in _TOKEN.finditer(text):
        token = found[0]
        if token in ("{", "["):
            if len(inside) == depth:
                raise Malformed(f"is not the JSON expected (more than {depth} arrays and objects inside one another)")
            inside.append(set())
        elif token in ("}", "]"):
            if inside:
                inside.pop()
        elif found[1] and inside:
            key = _unescaped(token[: -len(found[1])])
            if key in inside[-1]:
                raise Malformed(f"is not the JSON expected (an object has the key {key[:60]!r} twice)")
            inside[-1].add(key)


def _unescaped(string: str) -> str:
    if "\\" not in string:
        return string[1:-1]
    try:
        return str(json.loads(string))
    except ValueError:
        return string  # not JSON, as msgspec will report
