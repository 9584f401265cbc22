"""Chains that are never rescaled: they hold all scales, are no larger than they need be, and secure."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helora_core.errors import HeloraError, InvalidParameters, SlotOverflow
from helora_core.params.flat import (
    HEADROOM_BITS,
    LARGEST_INPUT_BITS,
    FlatRequirement,
    choose_flat_params,
    plaintext_bits,
    required_input_bits,
)
from helora_core.params.security import DEFAULT_TABLE, load_table

CHEETAH = FlatRequirement(weight_bits=18, slots=1, rotates=False, coefficients=True)
RANK_BSGS = FlatRequirement(weight_bits=52, slots=2048, rotates=True, flood_bits=40)


def replaced(requirement: FlatRequirement, **fields: Any) -> FlatRequirement:
    return msgspec.structs.replace(requirement, **fields)


REQUIREMENTS = st.builds(
    FlatRequirement,
    weight_bits=st.integers(10, 80),
    slots=st.sampled_from([1, 512, 2048, 8192]),
    rotates=st.booleans(),
    coefficients=st.booleans(),
    flood_bits=st.sampled_from([0, 30, 40, 64]),
    precision_bits=st.floats(0, 24),
    security_bits=st.sampled_from([128, 192, 256]),
)


@given(REQUIREMENTS)
def test_the_modulus_holds_input_plaintexts_and_headroom_and_is_secure(requirement: FlatRequirement) -> None:
    try:
        params = choose_flat_params(requirement)
    except InvalidParameters:
        return
    assert params.slots >= requirement.slots
    assert params.modulus_bits <= load_table(DEFAULT_TABLE).limit(params.ring_degree, requirement.security_bits)
    least = required_input_bits(requirement, params.ring_degree, sum(params.special_bits))
    assert least <= params.scale_bits <= max(least, LARGEST_INPUT_BITS)
    assert plaintext_bits(params) >= requirement.weight_bits
    assert params.scale_bits + plaintext_bits(params) + HEADROOM_BITS == params.data_modulus_bits
    if not requirement.coefficients:
        assert plaintext_bits(params) == requirement.weight_bits


@given(REQUIREMENTS)
def test_primes_are_of_about_one_length(requirement: FlatRequirement) -> None:
    try:
        params = choose_flat_params(requirement)
    except InvalidParameters:
        return
    assert max(params.data_bits) - min(params.data_bits) <= 1


def test_one_prime_in_a_ring_of_2048_does_for_coefficients_that_nobody_floods() -> None:
    """The guidelines allow 53 bits there, and without key switches no special prime has to share them."""
    params = choose_flat_params(CHEETAH)
    assert (params.ring_degree, params.data_bits, params.special_bits) == (2048, (53,), ())
    assert (params.scale_bits, plaintext_bits(params)) == (23, 22)


def test_a_flood_of_40_bits_over_coefficients_fits_a_ring_of_4096() -> None:
    params = choose_flat_params(replaced(CHEETAH, flood_bits=40))
    assert (params.ring_degree, params.data_bits, params.special_bits) == (4096, (45, 45), (16,))


def test_several_primes_have_a_special_one_beside_them_even_if_no_key_is_switched() -> None:
    params = choose_flat_params(replaced(CHEETAH, flood_bits=40))
    assert len(params.special_bits) == 1


def test_what_rotates_has_a_full_special_prime() -> None:
    params = choose_flat_params(RANK_BSGS)
    assert (params.ring_degree, params.special_bits) == (8192, (60,))
    assert choose_flat_params(replaced(RANK_BSGS, flood_bits=0)).special_bits == (60,)


def test_a_ring_that_is_asked_for_is_taken_and_filled() -> None:
    params = choose_flat_params(replaced(CHEETAH, ring_degree=4096))
    assert (params.ring_degree, params.data_bits) == (4096, (60,))


@pytest.mark.parametrize("flood_bits", [30, 40, 50])
def test_more_flooding_takes_a_larger_input_scale(flood_bits: int) -> None:
    before = required_input_bits(CHEETAH, 4096, 20)
    assert required_input_bits(replaced(CHEETAH, flood_bits=flood_bits), 4096, 20) == before + flood_bits


@pytest.mark.parametrize(
    ("fields", "error", "words"),
    [
        ({"ring_degree": 1024}, InvalidParameters, "at ring degree 1024"),
        ({"ring_degree": 2048, "flood_bits": 40}, InvalidParameters, "under a flood of 40 bits"),
        ({"ring_degree": 2048, "slots": 2048}, SlotOverflow, "1024 slots"),
        ({"ring_degree": 3000}, InvalidParameters, "no ring degree 3000"),
        ({"weight_bits": 5000}, InvalidParameters, "5000 bits"),
        ({"precision_bits": -1.0}, InvalidParameters, "makes no sense"),
        ({"flood_bits": -5}, InvalidParameters, "A flood of -5 bits makes no sense"),
    ],
)
def test_what_cannot_be_is_refused_in_words(fields: dict[str, Any], error: type[HeloraError], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        choose_flat_params(replaced(CHEETAH, **fields))
    assert caught.value.hint
