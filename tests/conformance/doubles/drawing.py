"""Doubles that draw errors of the wrong size or shape, or draw them twice."""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np

from doubles.honest import HonestBackend, HonestDecryptor, HonestEncoder, HonestEvaluator, HonestRole, with_values
from doubles.registry import caught_by
from helora_core.backend.capabilities import Encoding
from helora_core.backend.embedding import coefficients_to_slots, slots_to_coefficients
from helora_core.backend.protocol import SLOTS, Values
from helora_core.params import noise
from helora_numpy.backend import EmulatedCiphertext as Ciphertext
from helora_numpy.backend import EmulatedPlaintext as Plaintext

CLIENT = "test_the_noise_of_encryption_is_that_of_theory"
THOUSAND = "test_a_thousand_encryptions_share_nothing"
PUBLIC_THOUSAND = "test_a_thousand_public_key_encryptions_share_nothing"


class _Resized(HonestDecryptor):
    factor = 1.0

    def _encrypted(self, values: Values, scale: float, encoding: Encoding, std: float) -> Ciphertext:
        return super()._encrypted(values, scale, encoding, self.factor * std)


@caught_by(CLIENT)
class DrawsErrorsOfAQuarterOfTheSize(_Resized):
    """The errors of an encryption have σ = 0.8.

    A sampler that takes σ where its neighbour takes σ·sqrt(2π), and a quarter for good measure: no result is wrong.
    """

    factor = 0.25


@caught_by(CLIENT)
class DrawsErrorsTwiceAsLarge(_Resized):
    """The errors of an encryption have σ = 6.4.

    A variance taken for a standard deviation, or an error added twice: a bit of precision that nobody finds.
    """

    factor = 2.0


@caught_by(CLIENT)
class DrawsSomeErrorsSmaller(HonestDecryptor):
    """One encryption in eight has a fifth of its error; the others make up for it.

    A pool that is topped up by another sampler than it was filled by.
    """

    _count = 0

    def _encrypted(self, values: Values, scale: float, encoding: Encoding, std: float) -> Ciphertext:
        self._count += 1
        factor = 0.2 if self._count % 8 == 0 else math.sqrt((8 - 0.04) / 7)
        return super()._encrypted(values, scale, encoding, factor * std)


class _Shaped(HonestDecryptor):
    """Errors whose coefficients are of another distribution, of the same size."""

    def shaped(self, size: int) -> Values:
        raise NotImplementedError

    def _noisy(self, values: Any, std: Any, scale: float) -> Any:
        n = 2 * values.size
        errors = self.shaped(n) * (std / scale / math.sqrt(n / 2))
        return values + coefficients_to_slots(errors, n)


@caught_by("test_the_errors_of_encryption_are_normal")
class DrawsUniformErrors(_Shaped):
    """Errors are uniform, of the right variance.

    ``randint(-5, 5)``: as large as they should be, and no lattice estimate is about them.
    """

    def shaped(self, size: int) -> Values:
        return self._rng.uniform(-math.sqrt(3), math.sqrt(3), size)


@caught_by("test_the_errors_of_encryption_are_normal")
class DrawsErrorsOfOneSize(_Shaped):
    """Each error is σ or −σ.

    A ternary sampler scaled up, as for secrets.
    """

    def shaped(self, size: int) -> Values:
        return self._rng.choice([-1.0, 1.0], size)


@caught_by("test_the_errors_of_encryption_are_normal")
class DrawsErrorsInHalfTheCoefficients(_Shaped):
    """Every second coefficient has no error, the others more.

    A sampler for a real and an imaginary part, of which one is dropped.
    """

    def shaped(self, size: int) -> Values:
        return self._rng.normal(size=size) * (np.arange(size) % 2) * math.sqrt(2)


@caught_by("test_the_errors_of_encryption_have_no_bias")
class RoundsItsErrorsDown(_Shaped):
    """Errors are rounded down to integers.

    ``int(x // 1)``: half a unit too low in each coefficient.
    """

    def shaped(self, size: int) -> Values:
        return self._rng.normal(size=size) - 0.5 / noise.ERROR_STD


@caught_by(THOUSAND)
class DrawsErrorsFromAPoolOfAThousand(HonestDecryptor):
    """Errors are drawn from a pool of 1024, at random.

    Gaussians are slow to draw, so they are drawn beforehand. A few encryptions will hardly show it.
    """

    def _noisy(self, values: Any, std: Any, scale: float) -> Any:
        drawn = np.random.default_rng(int(self._rng.integers(1024)))
        return values + drawn.normal(size=2 * values.size).view(np.complex128) * (std / scale)


@caught_by(THOUSAND)
class TurnsOldErrorsAround(HonestDecryptor):
    """Every error is one of sixteen, rotated.

    An automorphism of an old error is as random as a new one, by itself.
    """

    def _noisy(self, values: Any, std: Any, scale: float) -> Any:
        drawn = np.random.default_rng(int(self._rng.integers(16))).normal(size=2 * values.size).view(np.complex128)
        return values + np.roll(drawn, self._rng.integers(values.size)) * (std / scale)


@caught_by(THOUSAND)
class DrawsErrorsThatFollowEachOther(HonestDecryptor):
    """A third of an error is left over from the one before.

    A buffer that is added to and not overwritten.
    """

    _last: Any = 0.0

    def _noisy(self, values: Any, std: Any, scale: float) -> Any:
        if np.shape(self._last) != values.shape:
            self._last = np.zeros_like(values)
        fresh = super()._noisy(np.zeros_like(values), 1.0, 1.0)
        self._last = self._last / 3 + fresh * math.sqrt(8) / 3
        return values + self._last * (std / scale)


@caught_by(THOUSAND)
class AddsOneErrorToAll(HonestDecryptor):
    """All encryptions of a key pair have a tenth of their error in common.

    An error of the key that was meant for the public key, and is added to every ciphertext.
    """

    _common: Any = None

    def _noisy(self, values: Any, std: Any, scale: float) -> Any:
        if np.shape(self._common) != values.shape:
            self._common = super()._noisy(np.zeros_like(values), 1.0, 1.0)
        fresh = super()._noisy(np.zeros_like(values), 1.0, 1.0)
        return values + (0.1 * self._common + math.sqrt(0.99) * fresh) * (std / scale)


class _PublicPool(HonestEvaluator):
    """Public-key encryptions made of a few encryptions of zero."""

    size = 4

    def combined(self, zeros: Any) -> Any:
        return zeros[self._rng.integers(len(zeros))]

    def _noisy(self, values: Any, std: Any, scale: float) -> Any:
        if std < noise.rescale_std(self.params.ring_degree):  # the rounding of a plaintext
            return super()._noisy(values, std, scale)
        zeros = [np.random.default_rng([seed, self.key_id[0]]) for seed in range(self.size)]
        drawn = np.array([rng.normal(size=2 * values.size).view(np.complex128) for rng in zeros])
        return values + self.combined(drawn) * (std / scale)

    def rotate(self, ciphertext: Ciphertext, steps: int) -> Ciphertext:
        return with_values(super().rotate(ciphertext, steps), np.roll(ciphertext.values, -steps))


@caught_by(PUBLIC_THOUSAND)
class KeepsAPoolOfFourPublicZeros(_PublicPool):
    """Public-key encryption adds the plaintext to one of four encryptions of zero.

    The two products with the public key are made beforehand, and never again.
    """


@caught_by(PUBLIC_THOUSAND)
class AddsUpPublicZeros(_PublicPool):
    """Public-key encryption adds up a random half of 64 encryptions of zero, with random signs.

    No two are alike, and each is a sum of others: a subset-sum cache, as batch signing has them.
    """

    size = 64

    def combined(self, zeros: Any) -> Any:
        signs = self._rng.choice([-1.0, 0.0, 1.0], (len(zeros), 1), p=[0.25, 0.5, 0.25])
        return (signs * zeros).sum(axis=0) / math.sqrt(len(zeros) / 2)


@caught_by("test_the_noise_of_public_key_encryption_is_that_of_theory")
class EncryptsPubliclyWithAQuarterOfTheNoise(HonestEvaluator):
    """Public-key encryption has a quarter of the noise.

    The right σ for the client and another one, forgotten in a second constructor, for everybody else.
    """

    def _encrypted(self, values: Values, scale: float, encoding: Encoding, std: float) -> Ciphertext:
        return super()._encrypted(values, scale, encoding, std / 4)


@caught_by("test_the_errors_of_public_key_encryption_are_normal_and_have_no_bias")
class EncryptsPubliclyWithUniformErrors(HonestEvaluator):
    """The errors of public-key encryption are uniform.

    A flood of the right size in place of the products that theory has.
    """

    def encrypt_public(self, values: Values, *, scale: float, encoding: Encoding = SLOTS) -> Ciphertext:
        sealed = super().encrypt_public(values, scale=scale, encoding=encoding)
        size = math.sqrt(3) * noise.public_encryption_std(self.params.ring_degree) / math.sqrt(self.params.slots)
        errors = self._rng.uniform(-size, size, self.params.ring_degree) / scale
        slots = self._encoder.encode(values, level=self.params.max_level, scale=scale, encoding=encoding).values
        return with_values(sealed, slots + coefficients_to_slots(errors, self.params.ring_degree))


@caught_by("test_no_two_ciphertexts_share_a_polynomial")
class ReusesItsSecondPolynomial(HonestEvaluator):
    """All ciphertexts have one second polynomial, and so one rounding when they are rescaled.

    A seed of the uniform polynomial that is kept, "since it is public anyhow".
    """

    def rescale(self, ciphertext: Ciphertext) -> Ciphertext:
        self._rng = np.random.default_rng(ciphertext.level)
        return super().rescale(ciphertext)


def _lower(ciphertext: Ciphertext, units: Values | float) -> Ciphertext:
    """With so many units added to each coefficient."""
    n = 2 * ciphertext.values.size
    coefficients = np.broadcast_to(np.asarray(units, np.float64), (n,))
    return with_values(ciphertext, ciphertext.values + coefficients_to_slots(coefficients, n) / ciphertext.scale)


@caught_by("test_a_rescale_rounds_to_the_nearest_and_does_not_floor")
class RescalesByFlooring(HonestEvaluator):
    """rescale divides the first polynomial and rounds down.

    Integer division, which is all that ``(c - c % q) / q`` is: half a unit in each coefficient.
    """

    def rescale(self, ciphertext: Ciphertext) -> Ciphertext:
        return _lower(super().rescale(ciphertext), -0.5)


@caught_by("test_the_noise_of_a_rescale_is_that_of_theory")
class FloorsBothPolynomials(HonestEvaluator):
    """rescale rounds both polynomials down.

    Half a unit in the second one is multiplied by the secret, and adds up.
    """

    def rescale(self, ciphertext: Ciphertext) -> Ciphertext:
        n = self.params.ring_degree
        secret = np.random.default_rng(list(self.key_id)).integers(-1, 2, n)
        walk = np.cumsum(secret) - (secret.sum() - np.cumsum(secret))
        return _lower(super().rescale(ciphertext), -0.5 - 0.5 * walk)


@caught_by("test_the_noise_of_a_rescale_is_that_of_theory")
class HasABinarySecret(HonestEvaluator):
    """The secret's coefficients are 0 or 1, and so the noise of a rescale is less.

    Faster products, and fewer keys to guess; the tables are for ternary ones.
    """

    def rescale(self, ciphertext: Ciphertext) -> Ciphertext:
        lower = super().rescale(ciphertext)
        return with_values(lower, ciphertext.values + (lower.values - ciphertext.values) * math.sqrt(3) / 2)


@caught_by("test_encoding_rounds_to_the_nearest_at_every_level")
class EncodesByTruncating(HonestEncoder):
    """A plaintext's coefficients are rounded down.

    A cast to integers where a rounding should be.
    """

    def encode(self, values: Values, *, level: int, scale: float, encoding: Encoding = SLOTS) -> Plaintext:
        plaintext = super().encode(values, level=level, scale=scale, encoding=encoding)
        n = self.params.ring_degree
        units = slots_to_coefficients(plaintext.values, n) * scale
        return Plaintext(coefficients_to_slots(np.floor(units), n) / scale, plaintext.level, plaintext.scale)


class _DrawsAlike(HonestRole):
    """Everything drawn in a process follows from what it drew before, and the beginning is always the same."""

    shared = np.random.default_rng(1)

    def _noisy(self, values: Values, std: Any, scale: float) -> Any:
        self._rng = self.shared
        return super()._noisy(values, std, scale)


class DrawsAlikeInEveryProcess(HonestBackend):
    """The process's generator starts from a constant. No double of the table: the law asks processes of their own."""

    decryptor_type = type("Client", (_DrawsAlike, HonestDecryptor), {})
    evaluator_type = type("Server", (_DrawsAlike, HonestEvaluator), {})


@caught_by("test_forked_processes_do_not_draw_alike")
class EncryptsAlikeInForkedServers(HonestEvaluator):
    """A forked server goes on with a copy of its parent's generator.

    The client is careful; the workers of a server flood their results with the same encryptions of zero.
    """

    def _noisy(self, values: Any, std: Any, scale: float) -> Any:
        self._process = os.getpid()
        return super()._noisy(values, std, scale)
