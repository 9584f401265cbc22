"""``Encoding.INTEGERS`` is exact on every backend that has it: not a bit is lost between the client's noise and Q."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from helora_core.backend import ntt, residues
from helora_core.backend.capabilities import Encoding
from helora_core.backend.checked_backend import checked
from helora_core.backend.encodings import checked_native, from_native
from helora_core.backend.protocol import Backend, Decryptor, Evaluator
from helora_core.errors import HeloraError, InvalidInput, LevelExhausted, LevelMismatch, PrecisionLost
from helora_core.params.ckks import CKKSParams
from helora_core.params.noise import encryption_std, public_encryption_std, rescale_std
from tests.backend.conftest import QUICK
from tests.backend.exact import integers_of, least, of_size, residues_of

N = QUICK.ring_degree
TOP = QUICK.max_level
SCALE = 2.0**QUICK.scale_bits
PLACES = math.sqrt(N / 2)
"""A slot's noise over a coefficient's."""

Residues = NDArray[np.uint64]


class Exact(NamedTuple):
    """Both roles, below the sessions, with integers in and out."""

    params: CKKSParams
    client: Decryptor
    server: Evaluator

    def primes(self, level: int = TOP) -> tuple[int, ...]:
        return self.params.data_primes[: level + 1]

    def uniform(self, level: int = TOP) -> Residues:
        return residues.uniform(self.primes(level), N)

    def encrypted(self, integers: Residues, level: int = TOP, scale: float = SCALE) -> Any:
        """A ciphertext at the level; below the highest, of the integers over the primes dropped."""
        fresh = self.client.encrypt(integers, scale=scale, encoding=Encoding.INTEGERS)
        ciphertext = self.server.deserialize(self.client.serialize(fresh))
        while self.server.level(ciphertext) > level:
            ciphertext = self.server.rescale(ciphertext)
        return ciphertext

    def encoded(self, integers: Residues, level: int = TOP, scale: float = SCALE) -> Any:
        return self.server.encoder.encode(integers, level=level, scale=scale, encoding=Encoding.INTEGERS)

    def decrypted(self, ciphertext: Any) -> Residues:
        received = self.client.deserialize(self.server.serialize(ciphertext))
        return self.client.decrypt(received, encoding=Encoding.INTEGERS)

    def distance(self, left: Residues, right: Residues) -> NDArray[np.float64]:
        """The differences of least size, modulo the primes' product."""
        primes = self.primes(len(left) - 1)
        differences = [a - b for a, b in zip(integers_of(left, primes), integers_of(right, primes), strict=True)]
        return np.array([float(each) for each in least(differences, math.prod(primes))])


@pytest.fixture(scope="module")
def exact(backend: Backend) -> Exact:
    params = backend.resolve(QUICK)
    return Exact(params, *checked(backend).generate_keys(params, (1,), public_key=True))


def total(left: Residues, right: Residues, primes: tuple[int, ...]) -> Residues:
    """The sum modulo each prime."""
    return (left + right) % np.array(primes, dtype=np.uint64)[:, np.newaxis]


class TestRoundTrips:
    def test_integers_modulo_the_whole_modulus_come_back_with_the_noise_of_encryption_alone(self, exact: Exact) -> None:
        integers = exact.uniform()
        found = exact.decrypted(exact.encrypted(integers))
        assert found.dtype == np.uint64
        assert found.shape == (TOP + 1, N)
        error = exact.distance(found, integers)
        assert np.max(np.abs(error)) < 8 * encryption_std(N) / PLACES
        assert np.std(error) == pytest.approx(encryption_std(N) / PLACES, rel=0.1)

    def test_so_do_those_that_the_server_encrypts(self, exact: Exact) -> None:
        integers = exact.uniform()
        fresh = exact.server.encrypt_public(integers, scale=SCALE, encoding=Encoding.INTEGERS)  # type: ignore[attr-defined]
        error = exact.distance(exact.decrypted(fresh), integers)
        assert np.max(np.abs(error)) < 8 * public_encryption_std(N) / PLACES

    def test_nothing_is_lost_at_any_scale(self, exact: Exact) -> None:
        """The scale is bookkeeping: it says what the integers are over, and changes none."""
        integers = exact.uniform()
        for scale in (1.0, 2.0**90, 3.7e11):
            ciphertext = exact.encrypted(integers, scale=scale)
            assert exact.server.scale(ciphertext) == scale
            assert np.max(np.abs(exact.distance(exact.decrypted(ciphertext), integers))) < 64

    def test_values_encrypted_as_coefficients_are_those_integers(self, backend: Backend, exact: Exact) -> None:
        """What core makes of values, and back: beyond the 53 bits of a double."""
        values = np.random.default_rng(0).uniform(-1, 1, N)
        given = {"capabilities": backend.capabilities, "params": exact.params, "scale": 2.0**90}
        native, integers = checked_native(values, Encoding.COEFFICIENTS, level=TOP, who="test", **given)
        assert native is Encoding.INTEGERS
        found = exact.decrypted(exact.encrypted(integers, scale=2.0**90))
        again = from_native(found, Encoding.COEFFICIENTS, native, **given)
        assert np.array_equal(again, values) or np.max(np.abs(again - values)) < 2.0**-52


class TestExactOperations:
    """A ciphertext holds the integers that it decrypts to: what is computed with it is exact in those."""

    @pytest.mark.parametrize("level", range(TOP + 1))
    def test_sums_with_plaintexts(self, exact: Exact, level: int) -> None:
        ciphertext, integers = exact.encrypted(exact.uniform(), level), exact.uniform(level)
        plaintext = exact.encoded(integers, level, exact.server.scale(ciphertext))
        found = exact.decrypted(exact.server.add_plain(ciphertext, plaintext))
        assert np.array_equal(found, total(exact.decrypted(ciphertext), integers, exact.primes(level)))

    @pytest.mark.parametrize("level", range(TOP + 1))
    def test_products_with_plaintexts_modulo_the_whole_modulus(self, exact: Exact, level: int) -> None:
        ciphertext, integers = exact.encrypted(exact.uniform(), level), exact.uniform(level)
        product = exact.server.multiply_plain(ciphertext, exact.encoded(integers, level, 1.0))
        rows = zip(exact.decrypted(ciphertext), integers, exact.primes(level), strict=True)
        values = [(ntt.product(ntt.forward(a, p), ntt.forward(b, p), p), p) for a, b, p in rows]
        assert np.array_equal(exact.decrypted(product), np.stack([ntt.inverse(each, p) for each, p in values]))

    def test_sums_differences_and_negatives(self, exact: Exact) -> None:
        left, right = exact.encrypted(exact.uniform()), exact.encrypted(exact.uniform())
        a, b, primes = exact.decrypted(left), exact.decrypted(right), exact.primes()
        assert np.array_equal(exact.decrypted(exact.server.add(left, right)), total(a, b, primes))
        assert np.array_equal(exact.decrypted(exact.server.negate(left)), residues.negative(a, primes))
        difference = total(a, residues.negative(b, primes), primes)
        assert np.array_equal(exact.decrypted(exact.server.sub(left, right)), difference)

    @pytest.mark.parametrize("level", range(1, TOP + 1))
    def test_rescales_divide_and_round(self, exact: Exact, level: int) -> None:
        ciphertext = exact.encrypted(exact.uniform(), level)
        before, prime = exact.decrypted(ciphertext), exact.primes(level)[-1]
        error = exact.distance(
            exact.decrypted(exact.server.rescale(ciphertext)),
            residues_of([round_half(each, prime) for each in self.centred(exact, before)], exact.primes(level - 1)),
        )
        std = rescale_std(N) / PLACES
        assert np.max(np.abs(error)) < 8 * std + 1
        assert abs(np.mean(error)) < 6 * std / math.sqrt(N)

    @staticmethod
    def centred(exact: Exact, some: Residues) -> list[int]:
        primes = exact.primes(len(some) - 1)
        return least(integers_of(some, primes), math.prod(primes))

    @settings(max_examples=20)
    @given(st.data())
    def test_small_products_are_those_of_the_integers_up_to_the_noise(self, exact: Exact, data: st.DataObject) -> None:
        """x^k·w wraps with the sign of x^N = −1, and the noise grows by the sum of |w| at most."""
        modulus = math.prod(exact.primes())
        some = data.draw(of_size(modulus, 8)) * (N // 8)
        factor = data.draw(st.lists(st.integers(-50, 50), min_size=1, max_size=4).filter(any))
        shift = data.draw(st.integers(0, N - 1))
        plain = [0] * N
        expected = [0] * N
        for k, each in enumerate(factor):
            place = (shift + k) % N
            plain[place] += each if shift + k < N else -each
        for place, each in enumerate(plain):
            if each:
                turned = [-v for v in some[N - place :]] + some[: N - place]
                expected = [a + each * b for a, b in zip(expected, turned, strict=True)]
        ciphertext = exact.encrypted(residues_of(some, exact.primes()))
        product = exact.server.multiply_plain(ciphertext, exact.encoded(residues_of(plain, exact.primes()), scale=1.0))
        error = exact.distance(exact.decrypted(product), residues_of(expected, exact.primes()))
        bound = 8 * encryption_std(N) / PLACES * math.sqrt(sum(each * each for each in factor))
        assert np.max(np.abs(error)) < bound

    def test_slots_and_integers_meet_in_one_program(self, exact: Exact) -> None:
        """Core adds floods as integers to results in slots."""
        x = np.linspace(-1, 1, N // 2)
        uploaded = exact.server.deserialize(exact.client.serialize(exact.client.encrypt(x, scale=2.0**60)))
        integers = exact.uniform()
        plaintext = exact.encoded(integers, scale=2.0**60)
        hidden = exact.server.add_plain(uploaded, plaintext)
        back = exact.encoded(residues.negative(integers, exact.primes()), scale=2.0**60)
        shown = exact.server.add_plain(hidden, back)
        assert np.array_equal(exact.decrypted(shown), exact.decrypted(uploaded))
        np.testing.assert_allclose(exact.client.decrypt(shown), x, rtol=0, atol=2.0**-40)
        assert not np.allclose(exact.client.decrypt(hidden), x, atol=1.0)

    def test_arrays_are_read_as_they_look_and_left_alone(self, exact: Exact) -> None:
        integers = exact.uniform()
        for view in (np.asfortranarray(integers), integers[::-1][::-1], np.repeat(integers, 2, axis=1)[:, ::2]):
            view.flags.writeable = False
            before = view.copy()
            ciphertext = exact.encrypted(view)
            zero = exact.server.add_plain(ciphertext, exact.encoded(residues.negative(view, exact.primes())))
            assert np.max(np.abs(exact.distance(exact.decrypted(zero), np.zeros_like(integers)))) < 64
            assert np.array_equal(view, before)


def round_half(numerator: int, denominator: int) -> int:
    return (2 * numerator + denominator) // (2 * denominator)


def beyond(exact: Exact) -> Residues:
    """One residue that is its prime, in the last row."""
    integers = exact.uniform()
    integers[-1, -1] = exact.primes()[-1]
    return integers


NOT_INTEGERS: dict[str, Callable[[Exact], Any]] = {
    "of another type": lambda exact: exact.uniform().astype(np.int64),
    "doubles": lambda exact: np.ones((TOP + 1, N)),
    "objects": lambda exact: exact.uniform().astype(object),
    "a list": lambda exact: exact.uniform().tolist(),
    "one row without a second axis": lambda exact: exact.uniform()[0],
    "three axes": lambda exact: exact.uniform()[np.newaxis],
    "no rows": lambda exact: np.zeros((0, N), dtype=np.uint64),
    "a row too few": lambda exact: exact.uniform(TOP - 1),
    "a row too many": lambda exact: np.vstack([exact.uniform(), exact.uniform(0)]),
    "too few coefficients": lambda exact: exact.uniform()[:, :-1].copy(),
    "too many coefficients": lambda exact: np.zeros((TOP + 1, N + 1), dtype=np.uint64),
    "a residue that is its prime": beyond,
    "residues beyond any prime": lambda exact: np.full((TOP + 1, N), 2**64 - 1, dtype=np.uint64),
}


class TestRefusals:
    @pytest.mark.parametrize("what", NOT_INTEGERS)
    def test_what_is_no_polynomial_of_the_level_is_refused_at_every_door(
        self, exact: Exact, refused: Any, what: str
    ) -> None:
        values = NOT_INTEGERS[what](exact)
        for who in (exact.client.encrypt, exact.server.encrypt_public):  # type: ignore[attr-defined]
            with refused(InvalidInput, hint="residues" if "coefficients" not in what else "zeros"):
                who(values, scale=SCALE, encoding=Encoding.INTEGERS)
        with refused(InvalidInput):
            exact.server.encoder.encode(values, level=TOP, scale=SCALE, encoding=Encoding.INTEGERS)

    @pytest.mark.parametrize("what", NOT_INTEGERS)
    def test_and_by_the_sessions(self, sessions: Any, exact: Exact, refused: Any, what: str) -> None:
        values = NOT_INTEGERS[what](exact)
        encode = sessions.server.encoder.encode
        for call in (sessions.client.encrypt, encode):
            level = {"level": TOP} if call == encode else {}
            with refused(InvalidInput):
                call(values, scale_bits=30, encoding=Encoding.INTEGERS, **level)

    @pytest.mark.parametrize("level", range(TOP))
    def test_a_polynomial_of_another_level_is_refused(self, exact: Exact, refused: Any, level: int) -> None:
        with refused(InvalidInput, f"{TOP + 1} rows", f"the {level + 1} primes of level {level}"):
            exact.encoded(exact.uniform(), level)
        with refused(InvalidInput, f"{level + 1} rows", f"the {TOP + 1} primes"):
            exact.encoded(exact.uniform(level), TOP)
        ciphertext, plaintext = exact.encrypted(exact.uniform()), exact.encoded(exact.uniform(level), level)
        for operation in (exact.server.add_plain, exact.server.multiply_plain):
            with refused(LevelMismatch):
                operation(ciphertext, plaintext)

    @pytest.mark.parametrize("level", [-1, TOP + 1])
    def test_levels_that_are_not_there_are_refused(self, exact: Exact, refused: Any, level: int) -> None:
        with refused(LevelExhausted):
            exact.encoded(exact.uniform(), level)

    @pytest.mark.parametrize("scale", [0.0, -1.0, math.nan, math.inf])
    def test_scales_that_are_none_are_refused(self, exact: Exact, refused: Any, scale: float) -> None:
        for call in (exact.encrypted, exact.encoded):
            with refused(InvalidInput, "scale"):
                call(exact.uniform(), scale=scale)

    def test_no_error_tells_a_residue(self, exact: Exact) -> None:
        secret = beyond(exact)
        with pytest.raises(HeloraError) as caught:
            exact.encoded(secret)
        text = str(caught.value)
        assert not any(str(each) in text for each in secret[:, :8].ravel().tolist())
        assert str(exact.primes()[-1]) not in text


class TestCoefficientsThatDoNotFit:
    """Core refuses values before they wrap around."""

    @pytest.mark.parametrize("level", range(TOP + 1))
    @settings(max_examples=20)
    @given(st.floats(0.01, 0.99), st.integers(0, N - 1), st.booleans())
    def test_up_to_half_the_modulus_they_are_taken_and_beyond_refused(
        self, sessions: Any, level: int, below: float, place: int, negative: bool
    ) -> None:
        params: CKKSParams = sessions.server.params
        modulus_bits = math.log2(math.prod(params.data_primes[: level + 1]))
        values = np.zeros(place + 1)
        for part, fits in ((below, True), (1 + below, False)):
            values[place] = (-1) ** negative * part * 2.0 ** (modulus_bits - 1) / SCALE
            if fits:
                sessions.server.encoder.encode(values, level=level, scale_bits=30, encoding=Encoding.COEFFICIENTS)
                continue
            with pytest.raises(PrecisionLost, match=f"modulus of level {level}"):
                sessions.server.encoder.encode(values, level=level, scale_bits=30, encoding=Encoding.COEFFICIENTS)

    def test_a_backend_without_integers_gets_complex_slots_instead(self, backend: Backend, exact: Exact) -> None:
        without = msgspec.structs.replace(
            backend.capabilities, encodings=backend.capabilities.encodings - {Encoding.INTEGERS}
        )
        values = np.linspace(-1, 1, N)
        native, slots = checked_native(
            values, Encoding.COEFFICIENTS, without, exact.params, level=TOP, scale=SCALE, who="test"
        )
        assert native is Encoding.COMPLEX_SLOTS
        again = from_native(slots, Encoding.COEFFICIENTS, native, without, exact.params, scale=SCALE)
        np.testing.assert_allclose(again, values, rtol=0, atol=1e-12)
