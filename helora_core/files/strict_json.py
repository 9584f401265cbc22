"""JSON that means one thing only (RFC 8259; I-JSON, RFC 7493).

msgspec refuses NaN, infinities, numbers out of range, lone surrogates, trailing bytes and wrong types. It takes the
last of two equal keys where other readers take the first, passes over bytes that are not UTF-8 in fields it does not
know, and goes as deep as the stack; these three are refused here, before it sees the bytes.
"""

from __future__ import annotations

import json
import re
from typing import TypeVar

import msgspec

from helora_core.files.malformed import Malformed

MOST_DEPTH = 64
"""Arrays and objects inside one another. helora writes no more than 8."""

# Strings, keys among them, then what opens and closes. All else between is for msgspec to judge, and so is a string
# without an end, which is matched as well: looking for its end again from each quote in it would take quadratic time.
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?(\s*:)?|[{}\[\]]', re.DOTALL)

T = TypeVar("T")


def decode(data: bytes, kind: type[T], *, most: int, depth: int = MOST_DEPTH) -> T:
    """Read JSON of a known form.

    Args:
        data: UTF-8, without a byte order mark.
        kind: What is expected, as for ``msgspec.json.decode``.
        most: Bytes that are read at most.
        depth: Arrays and objects that may stand inside one another.

    Raises:
        Malformed: It is too large, no such JSON, or not of that form.
    """
    if len(data) > most:
        raise Malformed(f"has {len(data)} bytes of JSON, and at most {most} are read")
    try:
        _check_structure(data.decode("utf-8"), depth)
        return msgspec.json.decode(data, type=kind)
    except UnicodeDecodeError as error:
        raise Malformed(f"is not the JSON expected (no UTF-8 at byte {error.start})") from error
    except (msgspec.MsgspecError, RecursionError, MemoryError) as error:
        raise Malformed(f"is not the JSON expected ({error})") from error


def _check_structure(text: str, depth: int) -> None:
    """Refuse equal keys in one object, and nesting beyond ``depth``; whether it is JSON at all is not for here."""
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
        return string  # no JSON, as msgspec will say
