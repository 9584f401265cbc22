"""Attack and defence on SEAL: weights that a client reads off bare results, and does not read off sanitised ones.

The client is honest but curious: she encrypts as she should, keeps what she sent, and computes on what comes back.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import pytest
from attacker import Residues, decoded, polynomial, quotient, residues
from numpy.typing import NDArray

from helora_core.backend.capabilities import Encoding
from helora_core.backend.embedding import coefficients_to_slots
from helora_core.backend.sanitize import flooding, rerandomize, sanitize
from helora_core.errors import PrecisionLost
from helora_core.params.ckks import CKKSParams
from helora_core.params.security import require_secure
from helora_tenseal.backend import TenSEALBackend, TenSEALDecryptor, TenSEALEvaluator
from helora_tenseal.context import Context

BACKEND = TenSEALBackend()
CAPABILITIES = BACKEND.capabilities
# 128 bits of security, by the guidelines of 2024. The flat one is made for results that are flooded and not rescaled.
FLAT = CKKSParams(ring_degree=8192, data_bits=(53, 52, 53), special_bits=(56,), scale_bits=75)
LEVELLED = CKKSParams(ring_degree=4096, data_bits=(35, 35), special_bits=(36,), scale_bits=25)
WEIGHT_SCALE = 2.0**24
STATISTICAL_BITS = 40


class Setting(NamedTuple):
    """Both roles, and the weights."""

    params: CKKSParams
    context: Context
    client: TenSEALDecryptor
    server: TenSEALEvaluator
    weights: NDArray[np.float64]

    def sent(self, x: NDArray[np.float64]) -> Any:
        """What the client sends, as SEAL has it on either side."""
        fresh = self.client.encrypt(x, scale=2.0**self.params.scale_bits)
        return self.server.deserialize(self.server.serialize(fresh))

    def product(self, sent: Any, scale: float = WEIGHT_SCALE) -> Any:
        return self.server.multiply_plain(sent, self.encoded(scale))

    def encoded(self, scale: float = WEIGHT_SCALE) -> Any:
        return self.server.encode(self.weights, level=self.params.max_level, scale=scale)

    def decrypted(self, ciphertext: Any) -> NDArray[np.complex128]:
        return self.client.decrypt(ciphertext, encoding=Encoding.COMPLEX_SLOTS)

    def factor(self, result: Any, sent: Any, which: int) -> Residues:
        """What the client takes for the server's plaintext: one polynomial of the result over the one she sent."""
        primes = len(self.params.data_primes)
        left = self.server.level(result) + 1
        over = polynomial(result.data, which, left)
        return quotient(over, polynomial(sent.data, which, primes)[:left], self.params)


def setting(params: CKKSParams, weights: NDArray[np.float64] | None = None) -> Setting:
    params = BACKEND.resolve(params)
    require_secure(params)
    weights = np.random.default_rng(1).normal(size=params.slots) if weights is None else weights
    return Setting(params, Context(params), *BACKEND.generate_keys(params, (), public_key=True), weights)


@pytest.fixture(scope="module")
def flat() -> Setting:
    return setting(FLAT)


@pytest.fixture(scope="module")
def levelled() -> Setting:
    return setting(LEVELLED)


@pytest.fixture(scope="module")
def x(flat: Setting) -> NDArray[np.float64]:
    return np.random.default_rng(2).normal(size=flat.params.slots)


@pytest.fixture(scope="module")
def flood_bits(flat: Setting) -> int:
    """log2 of the noise of a product's coefficients, in integer units, and 40 bits."""
    product = flat.product(flat.sent(np.zeros(flat.params.slots)))
    slot_noise = float(np.std(flat.decrypted(product))) * flat.server.scale(product)
    return math.ceil(math.log2(slot_noise / math.sqrt(flat.params.ring_degree))) + STATISTICAL_BITS


def sanitized(flat: Setting, result: Any, bits: int) -> Any:
    return sanitize(flat.server, flat.params, CAPABILITIES, result, flood_bits=bits)


def correlation(guess: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    return abs(float(np.corrcoef(guess, weights)[0, 1]))


def by_chance(values: NDArray[np.float64]) -> float:
    """Five standard deviations of the correlation of so many independent pairs."""
    return 5 / math.sqrt(values.size)


class TestPolynomials:
    @pytest.mark.parametrize("which", [0, 1])
    def test_a_bare_product_gives_every_residue_of_the_weights_away(
        self, flat: Setting, x: NDArray[np.float64], which: int
    ) -> None:
        sent = flat.sent(x)
        factor = flat.factor(flat.product(sent), sent, which)
        assert np.array_equal(factor, residues(flat.encoded().data, *factor.shape))
        # To read them off takes no more than SEAL's decoder; what is lost is the encoding's own rounding.
        guess = decoded(factor, flat.context, WEIGHT_SCALE)
        assert np.max(np.abs(guess - flat.weights)) < 64 * math.sqrt(flat.params.ring_degree / 12) / WEIGHT_SCALE

    def test_replicate_and_multiply_gives_down_away_before_anything_is_decrypted(self) -> None:
        """The layout of ``zero_moai``: x once for each row, times the rows of ``down`` one after the other."""
        down = np.random.default_rng(3).normal(size=(32, 128)) / 8
        flat = setting(FLAT, down.ravel())
        sent = flat.sent(np.tile(np.random.default_rng(4).normal(size=128), 32))
        guess = decoded(flat.factor(flat.product(sent), sent, 1), flat.context, WEIGHT_SCALE)
        assert np.max(np.abs(guess.reshape(down.shape) - down)) < 2.0**-14

    @pytest.mark.parametrize("which", [0, 1])
    def test_a_sanitised_product_gives_none_away(
        self, flat: Setting, x: NDArray[np.float64], flood_bits: int, which: int
    ) -> None:
        sent = flat.sent(x)
        product = flat.product(sent)
        factor = flat.factor(sanitized(flat, product, flood_bits), sent, which)
        assert np.count_nonzero(factor == residues(flat.encoded().data, *factor.shape)) == 0
        guess = decoded(factor, flat.context, WEIGHT_SCALE)
        assert correlation(guess, flat.weights) < by_chance(guess)
        for row, prime in zip(factor, flat.params.data_primes, strict=True):
            # As uniform residues are: mean and standard deviation of the uniform distribution, within five deviations.
            shares = np.array(row / prime, dtype=float)
            assert abs(np.mean(shares) - 0.5) < 5 * math.sqrt(1 / 12 / shares.size)
            assert abs(np.mean((shares - 0.5) ** 2) - 1 / 12) < 5 * math.sqrt(1 / 180 / shares.size)

    def test_the_message_survives_with_the_error_that_was_asked_for(
        self, flat: Setting, x: NDArray[np.float64], flood_bits: int
    ) -> None:
        product = flat.product(flat.sent(x))
        result = sanitized(flat, product, flood_bits)
        assert flat.server.scale(result) == flat.server.scale(product)
        error = (flat.decrypted(result) - flat.decrypted(product)).real
        asked = 2.0**flood_bits * math.sqrt(flat.params.slots) / flat.server.scale(result)
        assert 0.9 < np.std(error) / asked < 1.1
        assert np.max(np.abs(flat.decrypted(result).real - x * flat.weights)) < 2.0**-15  # of results of order 1


class TestNoise:
    """Re-randomised polynomials say nothing; what they decrypt to still holds the input's own error times the weights.

    The client knows that error: it is what her own ciphertext decrypts to beyond the message. She sends zero, which
    ought to tell her nothing at all.
    """

    def test_without_a_flood_zero_gives_every_weight_away(self, flat: Setting) -> None:
        sent = flat.sent(np.zeros(flat.params.slots))
        product = flat.product(sent)
        result = rerandomize(flat.server, flat.params, CAPABILITIES, product)
        guess = (flat.decrypted(result) / flat.decrypted(sent)).real
        assert correlation(decoded(flat.factor(result, sent, 1), flat.context, WEIGHT_SCALE), flat.weights) < by_chance(
            guess
        )
        assert np.median(np.abs(guess - flat.weights)) < 2.0**-16

    def test_with_a_flood_zero_gives_none_away(self, flat: Setting, flood_bits: int) -> None:
        sent = flat.sent(np.zeros(flat.params.slots))
        product = flat.product(sent)
        guess = flat.decrypted(sanitized(flat, product, flood_bits)) * flat.decrypted(sent).conj()
        assert correlation(guess.real, flat.weights) < by_chance(guess)

    def test_a_flood_alone_leaves_the_polynomials_as_they_are(self, flat: Setting, flood_bits: int) -> None:
        sent = flat.sent(np.zeros(flat.params.slots))
        result = flooding(flat.server, flat.params, CAPABILITIES, flat.product(sent), flood_bits=flood_bits)
        factor = flat.factor(result, sent, 1)
        assert np.array_equal(factor, residues(flat.encoded().data, *factor.shape))


class TestRescaledProducts:
    """A rescale rounds c₁·w/q: no residue is a multiple of the one sent any more. The noise still tells.

    How much depends on the weights' scale: here it is the size of the prime that is dropped, as in textbook chains, and
    what is left of the input's error is as large as the rescale's rounding. Averages over queries take that away.
    """

    QUERIES = 64

    def estimate(self, levelled: Setting, *, flood_bits: int | None) -> NDArray[np.float64]:
        """The weights by least squares, of results for encryptions of zero."""
        over, under = np.zeros(levelled.params.slots), np.zeros(levelled.params.slots)
        for _ in range(self.QUERIES):
            sent = levelled.sent(np.zeros(levelled.params.slots))
            result = levelled.server.rescale(levelled.product(sent, 2.0 ** levelled.params.data_bits[-1]))
            if flood_bits is None:
                result = rerandomize(levelled.server, levelled.params, CAPABILITIES, result)
            else:
                result = sanitized(levelled, result, flood_bits)
            error = levelled.decrypted(sent)
            over += (levelled.decrypted(result) * error.conj()).real
            under += np.abs(error) ** 2
        return over / under

    def test_the_quotient_of_the_polynomials_is_of_no_use(self, levelled: Setting) -> None:
        sent = levelled.sent(np.ones(levelled.params.slots))
        factor = levelled.factor(levelled.server.rescale(levelled.product(sent)), sent, 1)
        assert np.count_nonzero(factor == residues(levelled.encoded().data, *factor.shape)) == 0
        guess = decoded(factor, levelled.context, WEIGHT_SCALE)
        assert correlation(guess, levelled.weights) < by_chance(guess)

    def test_the_noise_of_some_queries_gives_the_weights_away(self, levelled: Setting) -> None:
        assert correlation(self.estimate(levelled, flood_bits=None), levelled.weights) > 0.75

    def test_a_flood_hides_them_again(self, levelled: Setting) -> None:
        """20 bits over the noise: what is left of the modulus holds no more, for so small a ring."""
        guess = self.estimate(levelled, flood_bits=5 + 20)
        assert correlation(guess, levelled.weights) < by_chance(guess)


class TestNearTheModulus:
    """The slots of random coefficients are √N times as large as they; what must fit the modulus is the coefficients."""

    def slots(self, flat: Setting, coefficient_bits: int) -> NDArray[np.complex128]:
        signs = np.random.default_rng(5).choice([-1.0, 1.0], size=flat.params.ring_degree)
        generator = CAPABILITIES.slot_generator
        return coefficients_to_slots(signs * 2.0**coefficient_bits, flat.params.ring_degree, generator)

    def test_slots_beyond_the_modulus_encode_exactly_if_their_coefficients_fit(self, flat: Setting) -> None:
        bits = flat.params.data_bits[0]
        slots = self.slots(flat, bits - 3)
        assert np.max(np.abs(slots)) > 2.0**bits
        plaintext = flat.server.encode(slots, level=0, scale=1.0, encoding=Encoding.COMPLEX_SLOTS)
        again = decoded(residues(plaintext.data, 1, flat.params.ring_degree), flat.context, 1.0)
        assert np.max(np.abs(again - slots.real)) < 2.0**-48 * np.max(np.abs(slots))

    def test_coefficients_beyond_it_are_refused(self, flat: Setting) -> None:
        with pytest.raises(PrecisionLost, match="do not fit the modulus of level 0"):
            flat.server.encode(
                self.slots(flat, flat.params.data_bits[0]), level=0, scale=1.0, encoding=Encoding.COMPLEX_SLOTS
            )
