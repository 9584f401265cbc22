"""Noise: as large as theory says, over many encryptions: not larger, and not implausibly small."""

from __future__ import annotations

import numpy as np

from helora_core.backend.capabilities import Encoding
from helora_core.conformance.bench import SCALE_BITS, SLOTS, Bench
from helora_core.conformance.requirements import requires, slow
from helora_core.conformance.values import random_slots
from helora_core.params import noise

ENCRYPTIONS = 6
"""Each gives N/2 samples, so that the measured root mean square is within 2 % of the true one."""

WITHIN = 4.0
"""Libraries differ in samplers, digits and decoders by less than this factor; a wrong scale or σ by far more."""


class Noise:
    """Root mean square over slots and encryptions, against ``helora_core.params.noise``."""

    def test_the_noise_of_encryption_is_that_of_theory(self, bench: Bench) -> None:
        errors = []
        for seed in range(ENCRYPTIONS):
            values = random_slots(seed)
            errors.append(bench.decrypted(bench.encrypted(values)[0]) - values)
        least, most = _fresh_noise(bench)
        measured = float(np.sqrt(np.mean(np.square(errors)))) * 2.0**SCALE_BITS
        assert least / WITHIN <= measured <= WITHIN * most, (
            f"noise of {measured:.1f}/scale is implausible; theory has {least:.1f} to {most:.1f}"
        )

    @slow
    def test_the_noise_of_many_encryptions_is_that_of_theory(self, bench: Bench) -> None:
        """No encryption of a hundred stands out, and their errors have no bias: the mean shrinks as theirs should."""
        values = random_slots(11)
        errors = np.array([bench.decrypted(bench.encrypted(values)[0]) - values for _ in range(100)])
        least, most = _fresh_noise(bench)
        each = np.sqrt(np.mean(np.square(errors), axis=1)) * 2.0**SCALE_BITS
        assert each.max() <= WITHIN * most
        assert each.min() >= least / WITHIN
        mean = float(np.sqrt(np.mean(np.square(errors.mean(axis=0))))) * 2.0**SCALE_BITS
        # The rounding of the encoding is the same each time.
        assert mean <= 2 * np.hypot(float(each.mean()) / 10, noise.encoding_std(bench.params.ring_degree))

    @requires("public key")
    def test_the_noise_of_public_key_encryption_is_that_of_theory(self, bench: Bench) -> None:
        values = random_slots(12)
        public = [bench.server.encrypt_public(values, scale_bits=SCALE_BITS) for _ in range(2)]
        errors = [bench.decrypted(ciphertext) - values for ciphertext in public]
        least, most = _fresh_noise(bench, public=True)
        measured = float(np.sqrt(np.mean(np.square(errors)))) * 2.0**SCALE_BITS
        assert least / WITHIN <= measured <= WITHIN * most, (
            f"noise of {measured:.1f}/scale; theory has {least:.1f} to {most:.1f}"
        )

    def test_the_noise_differs_between_slots_and_encryptions(self, bench: Bench) -> None:
        values = np.ones(SLOTS)
        first, second = (bench.decrypted(bench.encrypted(values)[0]) - values for _ in range(2))
        assert len(np.unique(first)) > SLOTS // 2
        assert abs(float(np.corrcoef(first, second)[0, 1])) < 0.1

    def test_the_noise_of_a_rotation_is_within_theory(self, bench: Bench) -> None:
        values = random_slots(9)
        ciphertext, _ = bench.encrypted(values)
        errors = bench.decrypted(bench.evaluator.rotate(ciphertext, 1)) - np.roll(values, -1)
        params = bench.params
        special = sum(params.special_bits) or max(params.data_bits)
        theory = noise.keyswitch_std(params.ring_degree, params.data_bits, special)
        measured = float(np.sqrt(np.mean(np.square(errors)))) * 2.0**SCALE_BITS
        assert measured <= WITHIN * theory, f"noise of {measured:.0f}/scale; theory has {theory:.0f}"
        # However the digits are cut, the division by the special primes rounds.
        least = noise.rescale_std(params.ring_degree)
        assert measured >= least / WITHIN, f"noise of {measured:.1f}/scale is implausible; theory has {least:.1f}"

    @requires("explicit rescaling")
    def test_the_noise_of_a_rescale_is_within_theory(self, bench: Bench) -> None:
        values = random_slots(10)
        ciphertext, _ = bench.encrypted(values)
        ones = bench.encoded(np.ones(1), encoding=Encoding.SCALAR)
        lower = bench.evaluator.rescale(bench.evaluator.multiply_plain(ciphertext, ones))
        prime = bench.params.data_primes[-1]
        # Where scales are nominal, what was 1 is now 2^s/prime: a shift, and no noise.
        shift = 1.0 if bench.capabilities.free_plaintext_scale else 2.0**SCALE_BITS / prime
        errors = bench.decrypted(lower) - shift * values
        n = bench.params.ring_degree
        fresh = np.hypot(noise.public_encryption_std(n), noise.encoding_std(n))
        theory = np.hypot(noise.rescale_std(n), fresh)
        measured = float(np.sqrt(np.mean(np.square(errors)))) * bench.evaluator.scale(lower)
        assert measured <= WITHIN * theory, f"noise of {measured:.0f}/scale; theory has {theory:.0f}"
        assert measured >= noise.rescale_std(n) / WITHIN, f"noise of {measured:.1f}/scale is implausible"


def _fresh_noise(bench: Bench, *, public: bool = False) -> tuple[float, float]:
    """The least and the most noise of a fresh encryption, by the client or with the public key, in units of 1/scale."""
    n = bench.params.ring_degree
    rounding = noise.encoding_std(n)
    if bench.capabilities.symmetric_encryption and not public:
        exact = float(np.hypot(noise.encryption_std(n), rounding))
        return exact, exact
    # SEAL encrypts modulo QP and divides by P, which leaves little more than the rounding of that division.
    return noise.rescale_std(n), float(np.hypot(noise.public_encryption_std(n), rounding))
