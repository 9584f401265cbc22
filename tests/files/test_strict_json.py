"""JSON that means one thing, or is refused."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helora_core.files.malformed import Malformed
from helora_core.files.strict_json import decode

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**62), 2**62)
    | st.text(max_size=6)
    | st.floats(allow_nan=False, allow_infinity=False, width=32),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=20,
)


class Flagged(msgspec.Struct):
    """A form with a flag."""

    flag: bool = False


def read(text: str | bytes, kind: Any = object) -> Any:
    return decode(text.encode() if isinstance(text, str) else text, kind, most=1 << 20)


@given(VALUES, st.booleans(), st.sampled_from([None, 1, "\t"]))
def test_what_json_writes_is_read(value: Any, ascii_only: bool, indent: Any) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent, allow_nan=False)
    with suppress(UnicodeEncodeError):  # lone surrogates, which JSON can write and UTF-8 cannot
        text.encode()
        if "\\ud" not in text:
            assert read(text) == value


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1, "a": 1}',
        '{"a": 1, "b": {"c": 1, "c": 2}}',
        r'{"a": 1, "\u0061": 2}',
        r'{"a\"": 1, "a\u0022": 2}',
        '[{}, {"x" : 1, "y": [], "x"\n: 2}]',
        '{"": 1, "": 2}',
    ],
)
def test_a_key_that_comes_twice_is_refused(text: str) -> None:
    with pytest.raises(Malformed, match="twice"):
        read(text)


@pytest.mark.parametrize(
    "text",
    [
        '{"a": {"a": {"a": 1}}}',
        '[{"a": 1}, {"a": 1}]',
        '{"a": "a", "b": "a"}',
        r'{"a\\": 1, "a": ":"}',
        '{"a": ["a:"]}',
    ],
)
def test_equal_keys_of_different_objects_are_not_the_same(text: str) -> None:
    assert read(text) == json.loads(text)


@pytest.mark.parametrize(
    "data",
    [
        b"", b" ", b"{", b'"', b'"\\', b"{}{}", b"{} x", b"\xef\xbb\xbf{}", b'{"a":"\xff"}', b'{"\xff":1}', b"NaN",
        b"[Infinity]", b"-Infinity", b"1e999", b"9" * 5000, b'"\\ud800"', b'{"a":1,}', b"{a:1}", b"'a'",
        b"\xff\xfe{\0}\0", b"[" * 65 + b"]" * 65, b"[" * 100_000, b'{"a":' * 100_000, b"]" * 100_000,
        b'{"x":' + b"[" * 70 + b"]" * 70 + b"}",
    ],
)  # fmt: skip
def test_what_is_no_json_is_refused(data: bytes) -> None:
    with pytest.raises(Malformed):
        read(data)


@pytest.mark.parametrize("flag", ["1", "0", '"true"', "null", "[]", "1.0"])
def test_a_flag_is_true_or_false(flag: str) -> None:
    with pytest.raises(Malformed):
        read(f'{{"flag": {flag}}}', Flagged)


def test_more_than_the_limit_is_refused_before_it_is_read() -> None:
    with pytest.raises(Malformed, match="at most 10"):
        decode(b"[1,2,3,4,5,6]", object, most=10)


@pytest.mark.parametrize(
    "data", [b'"' + b'\\"' * 400_000, b'"' * 1_000_000, b'"a"' + b" " * 900_000, b"[" + b'"\\' * 300_000]
)
def test_no_bytes_take_quadratic_time(data: bytes) -> None:
    start = time.process_time()
    with suppress(Malformed):
        read(data)
    assert time.process_time() - start < 5


@given(st.binary(max_size=60) | VALUES.map(lambda value: json.dumps(value).encode()), st.data())
def test_any_bytes_are_read_or_refused(data: bytes, draw: st.DataObject) -> None:
    changed = bytearray(data)
    if changed:
        changed[draw.draw(st.integers(0, len(changed) - 1))] = draw.draw(st.integers(0, 255))
    with suppress(Malformed):
        read(bytes(changed))
