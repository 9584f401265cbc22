"""Threads of a block run one by one between barriers, in random order: results are the same, unless one is missing."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from helora_core.backend.primes import distinct_ntt_primes
from helora_cupy.device import Shim
from helora_cupy.embedding import Embedding
from helora_cupy.kernels import DeviceKernels
from helora_cupy.sampling import Sampling
from helora_rns.primes import automorphism

N = 1024
PRIMES = distinct_ntt_primes((50, 40, 60), N)
BASIS = (0, 1, 2)
LOOPS, FIBERS = Shim(), Shim(fibers=True)


class Forgetful(Shim):
    """Without barriers between all threads of a block, or of a warp."""

    def __init__(self, *, warp: bool = False) -> None:
        super().__init__(fibers=True)
        self._macro = "SHIM_FORGETS", "2" if warp else "1"

    def launch(self, unit: Any, *rest: Any, **more: Any) -> None:
        super().launch(unit._replace(macros=(*unit.macros, self._macro)), *rest, **more)


def residues(count: int, seed: int, n: int = N) -> Any:
    rng = np.random.default_rng(seed)
    return np.stack([[rng.integers(0, q, n, dtype=np.uint64) for q in PRIMES] for _ in range(count)])


@functools.cache
def kernels(shim: Shim, n: int = N) -> DeviceKernels:
    return DeviceKernels(shim, n, PRIMES if n == N else distinct_ntt_primes((50, 40, 60), n))


def transforms(shim: Shim) -> list[Any]:
    """In one launch; and in two, of 4096 coefficients."""
    made = []
    for n in (N, 4096):
        x = residues(1, 1, n) % np.array(kernels(shim, n).primes, np.uint64)[:, np.newaxis]
        y = x.copy()
        kernels(shim, n).forward(x, BASIS)
        kernels(shim, n).inverse(y, BASIS)
        made += [x, y]
    return made


def key_switches(shim: Shim) -> list[Any]:
    a, own = residues(1, 2)[0], kernels(shim)
    digits = own.decompose(a[:2], BASIS, 1)
    key = residues(4, 3).reshape(2, 2, 3, N // 8, 8).transpose(2, 3, 0, 1, 4)
    index = automorphism(N, 5)
    rotated = own.rotated(digits, np.ascontiguousarray(key), a, (index, index), BASIS)
    return [digits, rotated, own.mod_down(rotated, BASIS, 1), own.mod_down(rotated, BASIS, 2)]


def products(shim: Shim) -> list[Any]:
    weights = [np.random.default_rng(4).integers(-1000, 1000, (17, 20))] * 3
    return kernels(shim).gemm(weights, list(residues(20, 5)), BASIS)


def samples(shim: Shim) -> list[Any]:
    sampling, own = Sampling(shim), kernels(shim)
    out = np.empty((2, 3, N), np.uint64)
    keys = [(bytes([i] * 32), bytes(12)) for i in range(2)]
    sampling.uniform_polynomials(keys, PRIMES, N, out)
    words = own.words(*keys[0], 3, 10000)
    found, few = np.zeros(9000, np.uint64), np.zeros(9000)
    told = own.uniform(1, words, found), own.ternary(words[:200].copy(), few)
    return [out, words, found[: told[0][0]], few[: told[1]], sampling.ternary_polynomials(keys, N, 2, 3)]


def slots(shim: Shim) -> list[Any]:
    embedding, x = Embedding(shim, 4 * N), np.random.default_rng(6).normal(size=2 * N)
    back = embedding.slots_to_coefficients(x, 2.0**40)
    return [back.copy(), embedding.coefficients_to_slots(back, 0.5)]


KINDS: list[Callable[[Shim], list[Any]]] = [transforms, key_switches, products, samples, slots]


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_threads_does_not_matter(kind: Callable[[Shim], list[Any]]) -> None:
    expected = [each.tobytes() for each in kind(LOOPS)]
    assert [each.tobytes() for each in kind(FIBERS)] == expected


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_barrier_is_noticed(kind: Callable[[Shim], list[Any]]) -> None:
    expected = [each.tobytes() for each in kind(LOOPS)]
    assert [each.tobytes() for each in kind(Forgetful())] != expected


def test_a_missing_barrier_of_a_warp_is_noticed() -> None:
    expected = [each.tobytes() for each in transforms(LOOPS)]
    assert [each.tobytes() for each in transforms(Forgetful(warp=True))] != expected
