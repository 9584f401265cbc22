"""Arrays are aligned, and memory is given out again only when nobody sees it any more."""

from __future__ import annotations

import threading

import numpy as np

from helora_rns import arrays

SHAPE = (2, 3, 8192)


def test_arrays_are_aligned() -> None:
    for shape in ((1,), (3,), (7, 11), SHAPE):
        for dtype in (np.uint64, np.float64, np.uint32):
            array = arrays.empty(shape, dtype)
            assert arrays.address(array) % arrays.ALIGNMENT == 0
            assert array.shape == shape
            assert array.flags.writeable
            assert array.flags.c_contiguous


def test_what_is_let_go_is_given_out_again() -> None:
    first = arrays.residues(SHAPE)
    where = arrays.address(first)
    del first
    assert arrays.address(arrays.residues(SHAPE)) == where


def test_a_view_keeps_its_memory() -> None:
    whole = arrays.residues(SHAPE)
    whole[...] = 7
    row, flat = whole[1, 2], whole.reshape(-1)[100:200]
    del whole
    others = [arrays.residues(SHAPE) for _ in range(20)]
    for other in others:
        other[...] = 1
    assert (row == 7).all()
    assert (flat == 7).all()


def test_no_more_is_kept_than_is_allowed() -> None:
    many = [arrays.residues((1 << 17,)) for _ in range(100)]
    del many
    assert len(arrays._kept.blocks[1 << 20]) == arrays.MOST_KEPT >> 20


def test_threads_get_different_memory() -> None:
    clashes = []

    def work(mark: int) -> None:
        for _ in range(300):
            array = arrays.residues((1 << 14,))
            array[...] = mark
            if not (array == mark).all():
                clashes.append(mark)

    threads = [threading.Thread(target=work, args=(mark,)) for mark in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not clashes


def test_what_is_private_is_not_given_out_and_leaves_nothing_behind() -> None:
    array = arrays.residues(SHAPE)
    array[...] = 7
    secret = arrays.private(array)
    assert (secret == 7).all()
    assert not array.any()
    where = arrays.address(secret)
    assert where % arrays.ALIGNMENT == 0
    del secret
    assert all(arrays.address(arrays.residues(SHAPE)) != where for _ in range(3))
