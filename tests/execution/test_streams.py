"""Pseudorandom words: any part alone is that of the whole, and no two uses share a key."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from helora_core.execution.streams import USES, Stream, Upcoming, child, joined

KEY = bytes(range(32))
WHOLE = Stream(KEY).rows(0, 70, 0, 41)


@given(start=st.integers(0, 69), first=st.integers(0, 40), data=st.data())
def test_any_part_is_that_of_the_whole(start: int, first: int, data: st.DataObject) -> None:
    count, end = data.draw(st.integers(1, 70 - start)), data.draw(st.integers(first + 1, 41))
    part = Stream(KEY).rows(start, count, first, end)
    np.testing.assert_array_equal(part, WHOLE[start : start + count, first:end])
    np.testing.assert_array_equal(Stream(KEY).columns(70, first, end), WHOLE[:, first:end].T)


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20)), max_size=40), st.booleans())
def test_rows_that_are_made_ahead_are_those_of_the_stream(asked: list[tuple[int, int]], in_order: bool) -> None:
    """Whatever was asked for before, and though everything that was given out is overwritten."""
    upcoming, at = Upcoming(Stream(KEY), 41), 0
    for start, count in asked:
        start = min(at, 50) if in_order else start
        count = min(count, 70 - start)
        rows = upcoming.take(start, count)
        np.testing.assert_array_equal(rows, WHOLE[start : start + count])
        rows.fill(0)
        at = start + count


def test_few_rows_are_made_ahead() -> None:
    """A kilobyte a row, or a thousand: they are some 64 KiB, or one row."""
    for words, least in ((1 << 7, 16), (1 << 12, 2), (1 << 17, 1)):
        upcoming = Upcoming(Stream(KEY), words)
        upcoming.take(5, 1).fill(0)
        assert upcoming.rows_ahead == least - 1
        upcoming.take(6, 1)
        assert upcoming.rows_ahead == max(least - 2, 0)


def test_rows_that_are_joined_are_overwritten() -> None:
    parts = [Stream(KEY).rows(start, count, 0, 41) for start, count in ((3, 2), (9, 1))]
    np.testing.assert_array_equal(joined(parts), np.concatenate([WHOLE[3:5], WHOLE[9:10]]))
    assert not np.concatenate(parts).any()


def test_rows_and_words_are_aes_of_their_numbers() -> None:
    """Written down as anybody would check it, with the library's own cipher, block by block."""
    from cryptography.hazmat.primitives.ciphers import Cipher
    from cryptography.hazmat.primitives.ciphers.algorithms import AES
    from cryptography.hazmat.primitives.ciphers.modes import ECB

    encryptor = Cipher(AES(KEY), ECB()).encryptor()
    for row, word in ((0, 0), (3, 7), (69, 40)):
        block = (word // 2).to_bytes(8, "little") + row.to_bytes(8, "little")
        made = encryptor.update(block)
        expected = int.from_bytes(made[8 * (word % 2) : 8 * (word % 2) + 8], "little")
        assert WHOLE[row, word] == expected


@given(st.lists(st.binary(max_size=3), max_size=3), st.lists(st.binary(max_size=3), max_size=3))
def test_names_are_told_apart(left: list[bytes], right: list[bytes]) -> None:
    assert (child(KEY, "mask", *left) == child(KEY, "mask", *right)) == (left == right)


def test_uses_are_told_apart() -> None:
    for one, other in itertools.combinations(USES, 2):
        assert child(KEY, one) != child(KEY, other)
    assert len(np.unique(WHOLE)) == WHOLE.size
