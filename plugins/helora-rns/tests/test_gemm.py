"""Products of matrices with polynomials: every kernel set against the reference, and that against Python's integers."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from helora_core.backend.primes import distinct_ntt_primes
from helora_rns import choice, gemm
from helora_rns.arrays import aligned_copy
from helora_rns.compiled import CompiledKernels
from helora_rns.kernels import Kernels
from helora_rns.modular import Residues
from helora_rns.reference import NumPyKernels

N = 1024
BITS = (50, 50, 49, 34, 26, 20, 60)
"""Residues of one digit, of two, and of more than doubles hold."""

REFERENCE = NumPyKernels(N, distinct_ntt_primes(BITS, N))
BASIS = tuple(range(len(BITS)))
COMPILED = [name for name in choice.available() if name != "numpy"]


def polynomials(terms: int, count: int = 2) -> list[Residues]:
    """``terms`` of them, a few over and over: the largest residues, those around half, and random ones."""
    rng, q = np.random.default_rng(terms), np.array(REFERENCE.primes, dtype=np.uint64)[:, np.newaxis]
    shape, one = (count, len(BASIS), N), np.uint64(1)
    edges = [q - one, q >> one, (q >> one) + one, q * np.uint64(0), q - one]
    rows = [rng.integers(0, prime, (5, count, N), dtype=np.uint64) for prime in REFERENCE.primes]
    drawn = np.stack(rows, axis=2)
    few = [aligned_copy(np.broadcast_to(edge, shape)) for edge in edges] + [aligned_copy(each) for each in drawn]
    return [few[k % len(few)] for k in range(terms)]


def weights(rows: int, terms: int, bits: int) -> list[NDArray[np.int64]]:
    """For each prime a matrix of random weights, the first row the largest and the second the least that there are."""
    rng, found = np.random.default_rng(bits), []
    for q in REFERENCE.primes:
        most = min(2**bits - 1, q // 2)
        matrix = rng.integers(-most, most + 1, (rows, terms))
        matrix[0], matrix[1:2] = most, -most
        found.append(matrix)
    return found


SHAPES = [(1, 1), (7, 257), (26, 3)]
WIDTHS = [0, 12, 15, 23, 25, 36, 60]


def same_as_integers(kernels: Kernels, rows: int, terms: int, bits: int, columns: tuple[int, ...]) -> None:
    matrices, a = weights(rows, terms, bits), polynomials(terms, 1)
    results = kernels.gemm(matrices, a, BASIS)
    for column in columns:
        for j, q in enumerate(REFERENCE.primes):
            for i in range(rows):
                total = sum(w * int(x[0, j, column]) for w, x in zip(matrices[j][i].tolist(), a, strict=True))
                assert int(results[i][0, j, column]) == total % q


@pytest.mark.parametrize("bits", [1, 23, 60])
def test_the_reference_is_that_of_integers(bits: int) -> None:
    same_as_integers(REFERENCE, 3, 300, bits, (0, N - 1))


@pytest.mark.parametrize("name", COMPILED)
class TestCompiled:
    @pytest.mark.parametrize(("rows", "terms"), SHAPES)
    def test_it_has_the_bits_of_the_reference(self, name: str, rows: int, terms: int) -> None:
        kernels, a = CompiledKernels(name, N, REFERENCE.primes), polynomials(terms, 2 - terms % 2)
        for bits in WIDTHS:
            matrices = weights(rows, terms, bits)
            found = kernels.gemm(matrices, a, BASIS)
            for row, expected in zip(found, REFERENCE.gemm(matrices, a, BASIS), strict=True):
                assert (row == expected).all(), bits

    @pytest.mark.parametrize(("terms", "bits"), [(4097, 15), (4097, 49), (11008, 23)])
    def test_long_sums(self, name: str, terms: int, bits: int) -> None:
        same_as_integers(CompiledKernels(name, N, REFERENCE.primes), 2, terms, bits, (17,))

    @pytest.mark.parametrize("terms", [1, 300])
    def test_results_added_to_what_is_there(self, name: str, terms: int) -> None:
        kernels, a, matrices = CompiledKernels(name, N, REFERENCE.primes), polynomials(terms), weights(3, terms, 23)
        mine, theirs = ([aligned_copy(each) for each in polynomials(3)] for _ in range(2))
        kernels.gemm(matrices, a, BASIS, mine, add=True)
        REFERENCE.gemm(matrices, a, BASIS, theirs, add=True)
        assert all((row == expected).all() for row, expected in zip(mine, theirs, strict=True))
        plain, q = REFERENCE.gemm(matrices, a, BASIS), np.array(REFERENCE.primes, dtype=np.uint64)[:, np.newaxis]
        before = polynomials(3)
        assert all((row == (old + new) % q).all() for row, old, new in zip(theirs, before, plain, strict=True))

    def test_results_where_they_are_wanted(self, name: str) -> None:
        kernels, a = CompiledKernels(name, N, REFERENCE.primes), polynomials(9)
        matrices = weights(3, 9, 12)
        out = [aligned_copy(a[0]) for _ in range(3)]
        found = kernels.gemm(matrices, a, BASIS, out)
        assert all(mine is given for mine, given in zip(found, out, strict=True))
        expected = REFERENCE.gemm(matrices, a, BASIS)
        assert all((mine == theirs).all() for mine, theirs in zip(out, expected, strict=True))


def test_numbers_beyond_a_prime() -> None:
    kernels: Kernels = REFERENCE
    for matrix in (
        np.array([[2.0**60 + 2.0**9, -(2.0**75), 3.0], [-1.0, 0.0, -(2.0**98) - 2.0**46]]),
        np.array([[2**62 + 1, -(2**40) - 1, 3], [-1, 0, 2**63 - 1]]),
        np.array([[1.0, -7.0, 0.0]]),
    ):
        loaded = gemm.load(matrix, kernels, (0, 3, 6))
        for i, limb in zip((0, 3, 6), loaded.limbs, strict=True):
            q = kernels.primes[i]
            assert limb.dtype == np.int64
            assert int(np.max(np.abs(limb))) <= q // 2
            assert (limb % q).tolist() == [[int(v) % q for v in row] for row in matrix]


def test_short_numbers_are_kept_once() -> None:
    loaded = gemm.load(np.array([[1, -2], [3, 4]]), REFERENCE, BASIS)
    assert all(limb is loaded.limbs[0] for limb in loaded.limbs)
    a = polynomials(2)
    assert len(gemm.gemm(REFERENCE, loaded, a)) == 2
