"""Every kernel set against the reference, bit for bit, and the reference against Python's integers.

To hold the sets of another machine to the same: ``pytest plugins/helora-rns/tests/test_kernels.py`` there.
"""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest

from helora_core.backend.primes import distinct_ntt_primes
from helora_rns import choice, modular
from helora_rns.arrays import aligned_copy, doubles
from helora_rns.compiled import CompiledKernels
from helora_rns.kernels import Basis, Kernels, interleaved, of_interleaved
from helora_rns.primes import automorphism, bit_reversed, primitive_root, root_powers
from helora_rns.reference import NumPyKernels

BITS = (50, 50, 49, 49, 48, 40, 30, 20, 60, 56)
"""All that the vectors' bounds distinguish, and two primes that only scalars take."""

SIZES = (1024, 2048, 4096)
"""Their transforms leave one, two or no stages over when three go at a time."""

LONG = 32768
"""The most stages without a reduction, in primes of 49 bits."""

SMALL = 1024


def reference(n: int, bits: tuple[int, ...] = BITS) -> NumPyKernels:
    found = distinct_ntt_primes(bits, n)
    return NumPyKernels(n, found)


REFERENCES = {n: reference(n) for n in SIZES}
COMPILED = [name for name in choice.available() if name != "numpy"]


@pytest.fixture(params=list(product(COMPILED, SIZES)), ids=lambda each: f"{each[0]}-{each[1]}")
def pair(request: pytest.FixtureRequest) -> tuple[Kernels, NumPyKernels]:
    """A compiled set, and the reference of the same ring."""
    name, n = request.param
    return CompiledKernels(name, n, REFERENCES[n].primes), REFERENCES[n]


def whole(kernels: Kernels) -> Basis:
    return tuple(range(len(kernels.primes)))


def some(kernels: Kernels, basis: Basis, count: int, seed: int) -> modular.Residues:
    """Random residues, among them the largest, the smallest and those around half."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in list(basis) * count:
        q = kernels.primes[i]
        row = rng.integers(0, q, kernels.ring_degree, dtype=np.uint64)
        edges = [0, 1, q - 1, q - 2, q // 2, q // 2 + 1, q // 2 - 1]
        row[rng.integers(0, row.size, 256)] = rng.choice(np.array(edges, dtype=np.uint64), 256)
        rows.append(row)
    return aligned_copy(np.stack(rows).reshape(count, len(basis), -1))


def extremes(kernels: Kernels, basis: Basis) -> list[modular.Residues]:
    """Rows that make sums as large as they get: all q - 1, all around half, alternating."""
    q = np.array([[kernels.primes[i]] for i in basis], dtype=np.uint64)
    n, one = kernels.ring_degree, np.uint64(1)
    largest = np.broadcast_to(q - one, (len(basis), n))
    half = np.broadcast_to(q // np.uint64(2), (len(basis), n))
    alternating = np.where(np.arange(n) % 2 == 0, largest, np.uint64(0))
    halves = np.where(np.arange(n) < n // 2, largest, np.uint64(0))
    return [aligned_copy(each[np.newaxis]) for each in (largest, half, alternating, halves)]


class TestReference:
    """Against Python's integers."""

    def test_products_are_those_of_integers(self) -> None:
        for q in (3, 97, *REFERENCES[SMALL].primes, 2**61 - 1):
            rng = np.random.default_rng(1)
            values = [0, 1, 2, q - 1, q - 2, q // 2, q // 2 + 1, *(int(v) for v in rng.integers(0, q, 500))]
            a = np.array([v for v in values if v < q], dtype=np.uint64)
            for shift in (0, 1, 7, 250):
                b = np.roll(a, shift)
                expected = [int(x) * int(y) % q for x, y in zip(a, b, strict=True)]
                assert modular.multiply(a, b, np.array(q, dtype=np.uint64)).tolist() == expected

    def test_the_transform_evaluates_at_odd_powers_of_the_root(self) -> None:
        kernels = reference(16, (20, 50, 60))
        x = some(kernels, whole(kernels), 1, seed=2)
        values = x.copy()
        kernels.forward(values, whole(kernels))
        for row, coefficients, q in zip(values[0], x[0], kernels.primes, strict=True):
            psi = primitive_root(16, q)
            points = [pow(psi, 2 * int(r) + 1, q) for r in bit_reversed(16)]
            assert row.tolist() == [sum(int(c) * pow(p, k, q) for k, c in enumerate(coefficients)) % q for p in points]

    def test_products_of_values_are_negacyclic_convolutions(self) -> None:
        kernels = reference(64, (20, 50, 60))
        basis = whole(kernels)
        a, b = some(kernels, basis, 1, seed=3), some(kernels, basis, 1, seed=4)
        x, y = a.copy(), b.copy()
        kernels.forward(x, basis)
        kernels.forward(y, basis)
        result = kernels.multiply(x, y, basis)
        kernels.inverse(result, basis)
        for row, left, right, q in zip(result[0], a[0], b[0], kernels.primes, strict=True):
            expected = [0] * 64
            for i, j in product(range(64), repeat=2):
                sign = 1 if i + j < 64 else -1
                expected[(i + j) % 64] += sign * int(left[i]) * int(right[j])
            assert row.tolist() == [value % q for value in expected]

    def test_powers_are_in_bit_reversed_order(self) -> None:
        q = REFERENCES[SMALL].primes[0]
        psi = primitive_root(SMALL, q)
        assert root_powers(SMALL, q).tolist() == [pow(psi, int(r), q) for r in bit_reversed(SMALL)]

    def test_automorphisms_permute_values_in_aligned_groups(self) -> None:
        kernels = reference(64, (30,))
        a = some(kernels, (0,), 1, seed=5)
        for element in (3, 5, 25, 127, 77):
            index = automorphism(64, element)
            groups = index.reshape(-1, 8) // 8
            assert (groups == groups[:, :1]).all()
            moved = np.zeros(64, dtype=object)
            for k, c in enumerate(a[0, 0]):
                sign = 1 if element * k % 128 < 64 else -1
                moved[element * k % 64] += sign * int(c)
            expected = aligned_copy((moved % kernels.primes[0]).astype(np.uint64)[np.newaxis, np.newaxis])
            values = a.copy()
            kernels.forward(values, (0,))
            kernels.forward(expected, (0,))
            assert (kernels.permute(values, index) == expected).all()

    @pytest.mark.parametrize("dropped", [1, 2, 3])
    def test_mod_down_divides_and_rounds(self, dropped: int) -> None:
        kernels = reference(32, (50, 40, 30, 30, 31, 60))
        basis = (0, 1, 2, 3, 5)
        a = some(kernels, basis, 2, seed=6)
        moduli = [kernels.primes[i] for i in basis]
        integers = [_integers(polynomial, moduli) for polynomial in a]
        values = a.copy()
        kernels.forward(values, basis)
        result = kernels.mod_down(values, basis, dropped)
        kernels.inverse(result, basis[:-dropped])
        divisor = math.prod(moduli[-dropped:])
        for polynomial, before in zip(result, integers, strict=True):
            rounded = [(2 * x + divisor) // (2 * divisor) for x in before]
            # Of several primes it is known in doubles how much of a divisor is left, so that halves may go either way.
            clear = [abs(2 * (x % divisor) - divisor) << 49 > divisor or dropped == 1 for x in before]
            assert sum(clear) > 16
            for row, q in zip(polynomial, moduli, strict=False):
                assert row[clear].tolist() == [x % q for x, is_clear in zip(rounded, clear, strict=True) if is_clear]

    @pytest.mark.parametrize("basis", [(0,), (0, 1), (0, 1, 2), (3, 1, 5, 0)])
    def test_doubles_come_back(self, basis: Basis) -> None:
        kernels = reference(32, (50, 40, 30, 30, 31, 60))
        modulus = math.prod(kernels.primes[i] for i in basis)
        rng = np.random.default_rng(7)
        largest = min(modulus // 2 - 1, 2**98)
        values = doubles((32,))
        values[:] = np.rint(rng.uniform(-1, 1, 32) * 2.0 ** rng.integers(0, math.floor(math.log2(largest)), 32))
        values[:4] = 0, 1, -1, -(2.0 ** math.floor(math.log2(largest) - 1))
        residues = kernels.of_doubles(values, basis)
        for row, i in zip(residues, basis, strict=True):
            assert row.tolist() == [int(v) % kernels.primes[i] for v in values]
        assert np.allclose(kernels.to_doubles(residues, basis), values, rtol=2.0**-51, atol=0)

    def test_digits_are_centred_residues_of_each_limb(self) -> None:
        kernels = reference(32, (50, 40, 30, 60))
        basis = (0, 2, 3)
        a = some(kernels, basis[:2], 1, seed=8)[0]
        values = a.copy()
        kernels.forward(values, basis[:2])
        digits = kernels.decompose(values, basis, 1)
        kernels.inverse(digits, basis)
        for row, digit, i in zip(a, digits, basis, strict=False):
            q = kernels.primes[i]
            exact = [int(x) - (q if int(x) > q // 2 else 0) for x in row]
            assert [list(map(int, each)) for each in digit] == [[x % kernels.primes[j] for x in exact] for j in basis]

    def test_packed_numbers_come_back_and_take_no_more_bits_than_they_have(self) -> None:
        kernels = reference(16, (30,))
        for bits in (1, 7, 8, 30, 49, 50, 60, 64):
            numbers = np.random.default_rng(bits).integers(0, 1 << bits, 37, dtype=np.uint64, endpoint=False)
            packed = kernels.pack(numbers, bits)
            assert len(packed) == -(-37 * bits // 8)
            assert int.from_bytes(packed, "little") == sum(int(x) << bits * i for i, x in enumerate(numbers))
            assert (kernels.unpack(packed, 37, bits) == numbers).all()

    def test_slots_are_values_at_powers_of_five(self) -> None:
        kernels, n = reference(64, (30,)), 64
        m = np.random.default_rng(9).normal(size=n)
        slots = kernels.coefficients_to_slots(aligned_copy(m), 1.0)
        zeta = np.exp(1j * np.pi / n)
        expected = [sum(c * zeta ** (pow(5, j, 2 * n) * k) for k, c in enumerate(m)) for j in range(32)]
        assert np.allclose(slots, expected)
        assert np.allclose(kernels.slots_to_coefficients(slots, 2.0**40 / 32) / 2.0**40, m)
        few = np.zeros(32, dtype=np.complex128)
        few[:5] = slots[:5].real
        same = kernels.slots_to_coefficients(slots[:5].real.copy(), 1.0), kernels.slots_to_coefficients(few, 1.0)
        assert (same[0] == same[1]).all()


def _integers(polynomial: modular.Residues, moduli: list[int]) -> list[int]:
    """The integers of least size with these residues."""
    modulus = math.prod(moduli)
    total = [0] * polynomial.shape[1]
    for row, q in zip(polynomial, moduli, strict=True):
        factor = modulus // q * pow(modulus // q, -1, q)
        total = [t + int(x) * factor for t, x in zip(total, row, strict=True)]
    return [t % modulus - (modulus if t % modulus > modulus // 2 else 0) for t in total]


class TestCompiled:
    """Bit for bit what the reference gives."""

    def test_transforms(self, pair: tuple[Kernels, NumPyKernels]) -> None:
        kernels, exact = pair
        basis = whole(kernels)
        for x in (some(exact, basis, 2, seed=1), *extremes(exact, basis)):
            forward, inverse = x.copy(), x.copy()
            exact.forward(forward, basis)
            exact.inverse(inverse, basis)
            y, z = aligned_copy(x), aligned_copy(x)
            kernels.forward(y, basis)
            kernels.inverse(z, basis)
            for i in basis:
                assert (y[:, i] == forward[:, i]).all(), f"forward, prime of {exact.primes[i].bit_length()} bits"
                assert (z[:, i] == inverse[:, i]).all(), f"inverse, prime of {exact.primes[i].bit_length()} bits"

    @pytest.mark.parametrize("name", COMPILED)
    def test_long_transforms(self, name: str) -> None:
        exact = reference(LONG, (50, 49, 48))
        kernels, basis = CompiledKernels(name, LONG, exact.primes), (0, 1, 2)
        for x in extremes(exact, basis):
            for transform in ("forward", "inverse"):
                found, expected = aligned_copy(x), x.copy()
                getattr(kernels, transform)(found, basis)
                getattr(exact, transform)(expected, basis)
                assert (found == expected).all()

    def test_place_by_place(self, pair: tuple[Kernels, NumPyKernels]) -> None:
        kernels, exact = pair
        basis = whole(kernels)[::-1]
        a, b, c = (some(exact, basis, 2, seed) for seed in (1, 2, 3))
        many = extremes(exact, basis)
        for x, y in ((a, b), *product(many, many[:2])):
            for name in ("add", "sub", "multiply"):
                same = getattr(kernels, name)(x, y, basis) == getattr(exact, name)(x, y, basis)
                assert same.all(), name
            assert (kernels.negate(x, basis) == exact.negate(x, basis)).all()
        one = aligned_copy(b[:1])
        assert (kernels.multiply(a, one, basis) == exact.multiply(a, one, basis)).all()
        assert (kernels.multiply_add(a, one, c, basis) == exact.multiply_add(a, one, c, basis)).all()
        constants = [exact.primes[i] - 1 - i for i in basis]
        assert (kernels.times(a, constants, basis) == exact.times(a, constants, basis)).all()

    @pytest.mark.parametrize("terms", [1, 4, 5, 8, 9, 100, 256])
    def test_sums_of_products(self, pair: tuple[Kernels, NumPyKernels], terms: int) -> None:
        kernels, exact = pair
        basis = whole(kernels)
        largest = extremes(exact, basis)[0]
        a, b = [some(exact, basis, 2, seed) for seed in (1, 2)], [some(exact, basis, 1, seed) for seed in (3, 4)]
        left = [aligned_copy(np.concatenate([largest, largest]))] * (terms - terms // 3) + (a * terms)[: terms // 3]
        right = [largest] * (terms - terms // 3) + (b * terms)[: terms // 3]
        assert (kernels.dot(left, right, basis) == exact.dot(left, right, basis)).all()

    def test_automorphisms(self, pair: tuple[Kernels, NumPyKernels]) -> None:
        kernels, exact = pair
        a = some(exact, (0, 1), 2, seed=1)
        for element in (5, 25, 2 * exact.ring_degree - 1, pow(5, 77, 2 * exact.ring_degree)):
            index = automorphism(exact.ring_degree, element)
            assert (kernels.permute(a, index) == exact.permute(a, index)).all()

    def test_doubles(self, pair: tuple[Kernels, NumPyKernels]) -> None:
        kernels, exact = pair
        basis, rng = whole(kernels), np.random.default_rng(1)
        values = doubles((exact.ring_degree,))
        values[:] = np.rint(rng.uniform(-1, 1, values.size) * 2.0 ** rng.integers(0, 99, values.size))
        values[:8] = 0, 1, -1, 2.0**98, -(2.0**98), 2.0**50, -(2.0**49), 2.0**49 + 1
        assert (kernels.of_doubles(values, basis) == exact.of_doubles(values, basis)).all()
        assert (kernels.values_of_doubles(values, basis) == exact.values_of_doubles(values, basis)).all()
        for chosen in ((0,), (8,), (2, 0), (0, 2, 5), (9, 0, 4), whole(kernels)):
            a = some(exact, chosen, 1, seed=2)[0]
            found, expected = kernels.to_doubles(a, chosen), exact.to_doubles(a, chosen)
            assert found.tobytes() == expected.tobytes(), chosen

    @pytest.mark.parametrize(
        ("basis", "dropped"),
        [((0, 2, 4, 1), 1), ((0, 1), 1), ((5, 4, 8), 1), ((9, 5, 0), 1), ((6, 7, 0), 1), ((0, 2, 6, 7), 2),
         ((9, 4, 8, 0, 7), 3)],
    )  # fmt: skip
    def test_mod_down(self, pair: tuple[Kernels, NumPyKernels], basis: Basis, dropped: int) -> None:
        kernels, exact = pair
        a = some(exact, basis, 2, seed=3)
        expected = exact.mod_down(aligned_copy(a), basis, dropped)
        assert (kernels.mod_down(aligned_copy(a), basis, dropped) == expected).all()

    @pytest.mark.parametrize(
        ("basis", "special"), [((2, 3, 4, 0), 1), ((2, 0), 1), ((9, 5, 4, 8), 1), ((2, 7, 0, 6), 2)]
    )
    def test_key_switches(self, pair: tuple[Kernels, NumPyKernels], basis: Basis, special: int) -> None:
        kernels, exact = pair
        a = some(exact, basis[:-special], 1, seed=4)[0]
        digits = exact.decompose(a, basis, special)
        assert (kernels.decompose(a, basis, special) == digits).all()
        plain = some(exact, whole(exact), 2 * 12, seed=5).reshape(12, 2, len(exact.primes), -1)
        key = aligned_copy(interleaved(plain))
        assert (of_interleaved(key) == plain).all()
        added = some(exact, basis[:-special], 1, seed=6)[0]
        indices = automorphism(exact.ring_degree, 5), automorphism(exact.ring_degree, pow(5, -1, 2 * exact.ring_degree))
        found, expected = (each.rotated(digits, key, added, indices, basis) for each in (kernels, exact))
        assert (found == expected).all()

    def test_streams(self, pair: tuple[Kernels, NumPyKernels]) -> None:
        kernels, exact = pair
        words = aligned_copy(np.random.default_rng(6).integers(0, 2**64, 4096, dtype=np.uint64))
        for prime, count in product(whole(kernels), (1, 1000, 4096)):
            found, expected = np.zeros((2, count), dtype=np.uint64)
            told = kernels.uniform(prime, words, found)
            assert told == exact.uniform(prime, words, expected)
            assert (found[: told[0]] == expected[: told[0]]).all()
        assert (kernels.binomial(words) == exact.binomial(words)).all()
        for bits in (1, 30, 49, 50, 60, 64):
            numbers = aligned_copy(words >> np.uint64(64 - bits))
            packed = exact.pack(numbers, bits)
            assert kernels.pack(numbers, bits) == packed
            assert (kernels.unpack(packed, numbers.size, bits) == numbers).all()

    def test_embeddings(self, pair: tuple[Kernels, NumPyKernels]) -> None:
        kernels, exact = pair
        rng, half = np.random.default_rng(7), exact.ring_degree // 2
        many = rng.normal(size=half), rng.normal(size=half) + 1j * rng.normal(size=half)
        for slots, count, factor in product(many, (half, 5), (1.0, 2.0**40, 2.0**90)):
            expected = exact.slots_to_coefficients(slots[:count].copy(), factor)
            found = kernels.slots_to_coefficients(slots[:count].copy(), factor)
            assert found.tobytes() == expected.tobytes()
            back = [each.coefficients_to_slots(aligned_copy(expected), 1 / 3) for each in (kernels, exact)]
            assert back[0].tobytes() == back[1].tobytes()
