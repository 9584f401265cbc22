"""Independence: no error, no polynomial and no randomness is used twice, in part or in another form."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from helora_core.backend.protocol import Ciphertext
from helora_core.conformance.bench import Bench
from helora_core.conformance.draws import (
    SMALLEST,
    STANDARD_ERRORS,
    Draws,
    errors_of,
    ones,
    signature,
    spectrum,
    strongest_pair,
)
from helora_core.conformance.requirements import requires
from helora_core.conformance.suites.noise import rescaled

DRAWS = 1000
"""Enough to find two equal errors if they come from a pool of fewer than about n²/2, half a million."""


class Independence:
    """Many encryptions of the same values have nothing in common."""

    def test_a_thousand_encryptions_share_nothing(self, bench: Bench) -> None:
        """If an error repeats, the difference of two ciphertexts has none; a linear relation of many is as bad."""
        small = Bench(bench.library, SMALLEST, ())
        draws = _thousand(small, lambda: small.client.encrypt(ones(small), scale_bits=SMALLEST.scale_bits))
        _share_nothing(draws)
        if bench.capabilities.symmetric_encryption:
            # (Those of a public key are multiplied by the secret, whose own size in a slot is theirs too.)
            powers = np.mean(np.abs(draws.slots) ** 2, axis=0)
            spread = STANDARD_ERRORS * math.sqrt(2 / DRAWS)
            assert np.max(np.abs(powers / powers.mean() - 1)) <= spread, "some slots have more noise than others"

    @requires("public key")
    def test_a_thousand_public_key_encryptions_share_nothing(self, bench: Bench) -> None:
        """A pool of encryptions of zero would make public-key encryption fast, but each reuse reveals values."""
        small = Bench(bench.library, SMALLEST, ())
        _share_nothing(
            _thousand(small, lambda: small.server.encrypt_public(ones(small), scale_bits=SMALLEST.scale_bits))
        )

    @requires("explicit rescaling")
    def test_no_two_ciphertexts_share_a_polynomial(self, bench: Bench) -> None:
        """If two ciphertexts share their second polynomial, the difference of the first ones is readable.

        The rounding of a rescale depends almost only on the second polynomial, so ciphertexts that share it have the
        same rounding.
        """
        for public in (False, *([True] if bench.capabilities.public_key else [])):
            columns = rescaled(bench, bench.params.max_level, public=public).columns()
            strongest, chance = strongest_pair(columns), 1 / math.sqrt(columns.shape[1])
            assert strongest <= STANDARD_ERRORS * chance, f"the roundings of two correlate by {strongest:.2f}"


def _thousand(small: Bench, encrypt: Callable[[], Ciphertext]) -> Draws:
    """The errors of a thousand encryptions of ones; their bytes are all different."""
    sealed = [encrypt() for _ in range(DRAWS)]
    alike = DRAWS - len({small.server.send(each) for each in sealed})
    assert not alike, f"{alike} of {DRAWS} ciphertexts have the bytes of another one"
    return errors_of(small, sealed)


def _share_nothing(draws: Draws) -> None:
    columns = draws.columns()
    width = columns.shape[1]
    strongest = strongest_pair(columns)
    assert strongest <= STANDARD_ERRORS / math.sqrt(width), (
        f"the errors of two encryptions correlate by {strongest:.2f}"
    )
    # More rows than half the columns would leave too little room between the eigenvalues and zero.
    least, largest = spectrum(columns[: width // 2])
    assert least >= 0.75, "the errors of some encryptions are sums of others, or next to it"
    assert largest <= 1.1, "the errors of all encryptions have something in common"
    if draws.is_whole:
        turned = DRAWS - len({signature(row) for row in draws.coefficients()})
        assert not turned, f"{turned} of {DRAWS} errors are another one, negated, rotated or times a power of x"
