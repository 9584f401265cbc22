"""Results that are sent without their low bits: no more is lost than was asked for, and both sides know it."""

from __future__ import annotations

import numpy as np
import pytest

from helora_core.backend.capabilities import Encoding
from helora_core.backend.protocol import Ciphertext, Sanitizing
from helora_core.backend.short_results import LowBits
from helora_core.conformance.bench import Bench
from helora_core.conformance.requirements import requires
from helora_core.conformance.values import random_slots
from helora_core.errors import CorruptPayload
from helora_core.params import noise

DEVIATIONS = 5.0
"""Standard deviations that a mean exceeds by chance only once in two million tries."""

PAIRS: tuple[LowBits, ...] = ((12, 0), (0, 6), (12, 6))

WEIGHT_SCALE_BITS = 60
"""With the ciphertext's scale, twenty bits more than the primes that a clean result is divided by."""


class ShortResults:
    """Clean results at level 0, and the same without low bits."""

    @requires("short results", "explicit rescaling", "public key", "free plaintext scale", "complex slots")
    @pytest.mark.parametrize("low_bits", PAIRS)
    def test_dropped_bits_leave_an_error_of_their_size_and_no_mean(self, bench: Bench, low_bits: LowBits) -> None:
        clean = _clean(bench)
        short = bench.evaluator.unmetered.shortened(clean, low_bits)
        place = bench.evaluator.level(clean), bench.evaluator.scale(clean)
        assert (bench.evaluator.level(short), bench.evaluator.scale(short)) == place
        before, after = (bench.decrypted(each, Encoding.COEFFICIENTS) for each in (clean, short))
        n = bench.params.ring_degree
        expected = np.hypot(noise.dropped_std(n, low_bits[0]), noise.dropped_times_secret_std(n, low_bits[1]))
        errors = (after - before) * place[1] / (expected / np.sqrt(n / 2))
        assert 0.85 < float(np.std(errors)) < 1.15, f"{np.std(errors):.2f} times the error of {low_bits} bits"
        mean = abs(float(np.mean(errors))) * np.sqrt(n)
        assert mean < DEVIATIONS, f"the mean of the errors is off by {mean:.0f} of its standard deviations"

    @requires("short results", "explicit rescaling", "public key", "free plaintext scale", "complex slots")
    @pytest.mark.parametrize("low_bits", PAIRS)
    def test_short_results_say_what_they_have_lost(self, bench: Bench, low_bits: LowBits) -> None:
        clean = _clean(bench)
        short = bench.evaluator.unmetered.shortened(clean, low_bits)
        payloads = [bench.server.serialize(each) for each in (clean, short)]
        assert [bench.evaluator.low_bits(each) for each in (clean, short)] == [(0, 0), low_bits]
        for payload, lost in zip(payloads, ((0, 0), low_bits), strict=True):
            bench.client.read_result(payload, lost)
            for other in {(0, 0), low_bits, (low_bits[0] + 1, low_bits[1])} - {lost}:
                with pytest.raises(CorruptPayload, match="low bits"):
                    bench.client.read_result(payload, other)

    @requires("short results", "explicit rescaling", "public key", "free plaintext scale", "complex slots")
    def test_a_server_takes_no_ciphertext_without_low_bits(self, bench: Bench) -> None:
        short = bench.evaluator.unmetered.shortened(_clean(bench), (12, 6))
        with pytest.raises(CorruptPayload, match="low bits"):
            bench.server.receive(bench.server.send(short))


def _clean(bench: Bench) -> Ciphertext:
    """A result at level 0, re-randomised: its polynomials are uniform."""
    level = bench.params.max_level
    sent, _ = bench.encrypted(random_slots(61) / 64)
    weights = bench.server.encoder.encode(random_slots(62) / 64, level=level, scale_bits=WEIGHT_SCALE_BITS)
    product = bench.evaluator.multiply_plain(sent, weights)
    (clean,) = bench.server.sanitize_many([product], [Sanitizing(Encoding.SLOTS, 0, 0, None, level)])
    return clean
