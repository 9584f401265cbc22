"""Two primes for programs that mask: one short enough to mask modulo it, one long enough for noise and flood."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helora_core.backend.sanitize import MASK_MODULUS_BITS
from helora_core.errors import HeloraError, InvalidParameters, SlotOverflow
from helora_core.params.ckks import CKKSParams
from helora_core.params.masked import (
    HEADROOM_BITS,
    LARGEST_BASE_BITS,
    LEAST_HEADROOM_BITS,
    MaskedRequirement,
    choose_masked_params,
    masked_scales,
)
from helora_core.params.security import DEFAULT_TABLE, load_table

REQUIREMENTS = st.builds(
    MaskedRequirement,
    headroom_bits=st.sampled_from([HEADROOM_BITS, LEAST_HEADROOM_BITS]),
    slots=st.sampled_from([1, 512, 2048, 8192]),
    flood_bits=st.sampled_from([0, 30, 40]),
    precision_bits=st.floats(0, 14),
    security_bits=st.sampled_from([128, 192, 256]),
)


@given(REQUIREMENTS)
def test_they_are_secure_short_enough_to_mask_and_hold_all_scales(requirement: MaskedRequirement) -> None:
    try:
        params = choose_masked_params(requirement)
    except InvalidParameters:
        return
    base, upper = params.data_bits
    scales = masked_scales(params, requirement.headroom_bits)
    assert params.slots >= requirement.slots
    assert params.modulus_bits <= load_table(DEFAULT_TABLE).limit(params.ring_degree, requirement.security_bits)
    assert base <= LARGEST_BASE_BITS
    z_bits = scales.input_bits + scales.down_bits - upper
    assert z_bits + scales.up_bits + requirement.headroom_bits <= base
    assert min(z_bits, scales.up_bits) >= requirement.precision_bits
    assert upper + z_bits >= requirement.precision_bits + requirement.flood_bits
    assert params.scale_bits == scales.input_bits


def test_no_base_prime_is_longer_than_masks_are_made_for() -> None:
    assert LARGEST_BASE_BITS == MASK_MODULUS_BITS


@pytest.mark.parametrize(("flood_bits", "data", "special"), [(0, (46, 44), (16,)), (40, (44, 46), (16,))])
def test_twelve_bits_fit_a_ring_of_4096_even_under_a_flood_of_forty(
    flood_bits: int, data: tuple[int, ...], special: tuple[int, ...]
) -> None:
    params = choose_masked_params(MaskedRequirement(slots=8, flood_bits=flood_bits, headroom_bits=LEAST_HEADROOM_BITS))
    assert (params.ring_degree, params.data_bits, params.special_bits) == (4096, data, special)


def test_larger_rings_have_longer_special_primes() -> None:
    assert choose_masked_params(MaskedRequirement(slots=8, ring_degree=8192)).special_bits == (17,)


@pytest.mark.parametrize("data_bits", [(46,), (46, 44, 44), (47, 44)])
def test_other_chains_are_refused(data_bits: tuple[int, ...]) -> None:
    params = CKKSParams(ring_degree=8192, data_bits=data_bits, special_bits=(20,), scale_bits=30)
    with pytest.raises(InvalidParameters, match="two data primes, of at most 46 bits"):
        masked_scales(params)


@pytest.mark.parametrize(
    ("fields", "error", "words"),
    [
        ({"ring_degree": 2048}, InvalidParameters, "at ring degree 2048"),
        ({"ring_degree": 4096, "flood_bits": 60}, InvalidParameters, "under a flood of 60 bits"),
        ({"ring_degree": 4096, "slots": 4096}, SlotOverflow, "2048 slots"),
        ({"precision_bits": 20.0}, InvalidParameters, "20 bits of precision"),
        ({"precision_bits": -1.0}, InvalidParameters, "makes no sense"),
        ({"flood_bits": -5}, InvalidParameters, "A flood of -5 bits makes no sense"),
    ],
)
def test_what_cannot_be_is_refused_in_words(fields: dict[str, Any], error: type[HeloraError], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        choose_masked_params(msgspec.structs.replace(MaskedRequirement(slots=8), **fields))
    assert caught.value.hint
