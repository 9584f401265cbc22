"""Lower primes to mask modulo, and one above them: they hold all scales, and no smaller ring would do."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from helora_core.errors import HeloraError, InvalidParameters, SlotOverflow
from helora_core.params.ckks import MAX_PRIME_BITS, CKKSParams
from helora_core.params.flat import HEADROOM_BITS
from helora_core.params.masked import MaskedRequirement, MaskedScales, choose_masked, masked_scales, scales_within
from helora_core.params.security import DEFAULT_TABLE, load_table

BEYOND_DOWN_BITS = 4
MOST_SPARE_BITS = 8


def requirement(z_bits: int, down_bits: int, up_bits: int, **fields: Any) -> MaskedRequirement:
    """The smallest scales; that of z grows with the ring, as a rescale's noise does."""

    def least(ring_degree: int) -> MaskedScales:
        grown = z_bits + round(math.log2(ring_degree) / 2)
        return MaskedScales(input_bits=0, z_bits=grown, down_bits=down_bits, up_bits=up_bits)

    return MaskedRequirement(**{"slots": 8, "least": least, **fields})


REQUIREMENTS = st.builds(
    requirement,
    st.integers(0, 120),
    st.integers(0, 70),
    st.integers(0, 60),
    longest_prime_bits=st.sampled_from([MAX_PRIME_BITS, 50]),
    reserves_special=st.booleans(),
    slots=st.sampled_from([1, 512, 2048, 8192]),
    security_bits=st.sampled_from([128, 192, 256]),
)


def choice(wanted: MaskedRequirement) -> tuple[CKKSParams, MaskedScales]:
    """What is chosen; where nothing is, the refusal is of the whole, and not of one of its primes."""
    try:
        return choose_masked(wanted)
    except InvalidParameters as error:
        assume("No modulus of security table" not in error.message)
        raise


@given(REQUIREMENTS)
def test_they_are_secure_and_hold_all_scales(wanted: MaskedRequirement) -> None:
    params, scales = choice(wanted)
    least = wanted.least(params.ring_degree)
    *lower, upper = params.data_bits
    assert params.slots >= wanted.slots
    assert params.modulus_bits <= load_table(DEFAULT_TABLE).limit(params.ring_degree, wanted.security_bits)
    assert min(scales.z_bits - least.z_bits, scales.down_bits - least.down_bits, scales.up_bits - least.up_bits) >= 0
    assert sum(lower) == scales.z_bits + scales.up_bits + HEADROOM_BITS
    assert scales.input_bits + scales.down_bits == scales.z_bits + upper
    assert upper >= scales.down_bits + BEYOND_DOWN_BITS
    assert params.scale_bits == scales.input_bits
    assert masked_scales(params, scales) == scales


@given(REQUIREMENTS)
def test_lower_primes_are_as_few_as_hold_them_and_of_about_one_length(wanted: MaskedRequirement) -> None:
    params, _ = choice(wanted)
    lower = params.data_bits[:-1]
    assert max(lower) - min(lower) <= 1
    assert len(lower) == -(-sum(lower) // wanted.longest_prime_bits)
    assert max(params.data_bits) <= wanted.longest_prime_bits
    assert len(params.special_bits) == 1 or not wanted.reserves_special


@given(REQUIREMENTS)
def test_what_is_to_spare_is_taken_as_far_as_it_costs_no_further_prime(wanted: MaskedRequirement) -> None:
    params, scales = choice(wanted)
    least = wanted.least(params.ring_degree)
    spare = scales.down_bits - least.down_bits
    assert 0 <= spare <= MOST_SPARE_BITS
    lower = sum(params.data_bits[:-1]) + 2
    limit = load_table(DEFAULT_TABLE).limit(params.ring_degree, wanted.security_bits)
    assert (
        spare == MOST_SPARE_BITS
        or params.modulus_bits + 3 > limit
        or lower > wanted.longest_prime_bits * (len(params.data_bits) - 1)
        or params.data_bits[-1] == wanted.longest_prime_bits
    )


@given(REQUIREMENTS)
def test_no_smaller_ring_holds_them(wanted: MaskedRequirement) -> None:
    params, _ = choice(wanted)
    table = load_table(DEFAULT_TABLE)
    for ring in table.rings(wanted.security_bits):
        if wanted.slots <= ring // 2 < params.slots:
            least = wanted.least(ring)
            # No prime is shorter than 20 bits, and special ones have 16 or 17 where there are any.
            lower = max(20, least.z_bits + least.up_bits + HEADROOM_BITS)
            upper = max(20, least.down_bits + BEYOND_DOWN_BITS)
            special = (16 if ring == 4096 else 17) if wanted.reserves_special else 0
            too_long = upper > wanted.longest_prime_bits
            assert too_long or lower + upper + special > table.limit(ring, wanted.security_bits)


def test_an_unsanitised_plan_of_twelve_bits_fits_a_ring_of_4096() -> None:
    params, scales = choose_masked(requirement(14, 22, 19))
    assert (params.ring_degree, params.data_bits, params.special_bits) == (4096, (56, 33), (16,))
    assert scales == MaskedScales(input_bits=31, down_bits=29, up_bits=26, z_bits=27)


def test_a_flooded_one_takes_two_primes_to_mask_modulo() -> None:
    params, _ = choose_masked(requirement(14 + 41, 22, 19))
    assert (params.ring_degree, len(params.data_bits)) == (8192, 3)


def test_a_library_without_a_reserved_special_prime_gives_its_bits_to_the_data_where_that_saves_a_ring() -> None:
    own = {"longest_prime_bits": 50, "reserves_special": False}
    portable, _ = choose_masked(requirement(14, 22, 19, **own))
    assert (portable.ring_degree, portable.data_bits, portable.special_bits) == (4096, (50, 30), (16,))
    wide = requirement(24, 32, 27)
    assert choose_masked(wide)[0].ring_degree == 8192
    tailored, _ = choose_masked(msgspec.structs.replace(wide, **own))
    assert (tailored.ring_degree, tailored.special_bits) == (4096, ())


def test_larger_rings_have_longer_special_primes() -> None:
    assert choose_masked(requirement(14, 22, 19, ring_degree=8192))[0].special_bits == (17,)


class TestPrimesThatAreThere:
    """Of parameters given, z gets all that ``up`` leaves of the lower primes, and the input follows."""

    LEAST = MaskedScales(input_bits=0, z_bits=20, down_bits=22, up_bits=18)

    @pytest.mark.parametrize("data_bits", [(41, 30), (46, 44), (60, 60), (30, 30, 44), (25, 25, 25, 40)])
    def test_scales_fill_them(self, data_bits: tuple[int, ...]) -> None:
        params = CKKSParams(ring_degree=8192, data_bits=data_bits, special_bits=(20,), scale_bits=30)
        scales = masked_scales(params, self.LEAST)
        assert (scales.down_bits, scales.up_bits) == (22, 18)
        assert scales.z_bits == sum(data_bits[:-1]) - 18 - HEADROOM_BITS
        assert scales.input_bits + 22 == scales.z_bits + data_bits[-1]

    @given(st.lists(st.integers(20, 60), min_size=2, max_size=4))
    def test_where_no_smallest_scales_are_known_z_and_up_share_them(self, data_bits: list[int]) -> None:
        params = CKKSParams(ring_degree=8192, data_bits=tuple(data_bits), special_bits=(20,), scale_bits=10)
        scales = scales_within(params)
        assert 0 <= scales.z_bits - scales.up_bits <= 1
        assert scales.z_bits + scales.up_bits + HEADROOM_BITS == sum(data_bits[:-1])
        assert scales.down_bits + BEYOND_DOWN_BITS == data_bits[-1]
        assert scales.input_bits == scales.z_bits + BEYOND_DOWN_BITS

    def test_a_single_prime_is_none_to_mask_under(self, refused: Any) -> None:
        params = CKKSParams(ring_degree=8192, data_bits=(60,), special_bits=(20,), scale_bits=10)
        with refused(InvalidParameters, "all data primes but the last", "at least 5 bits together", "[60]"):
            scales_within(params)

    @pytest.mark.parametrize("data_bits", [(60,), (40, 60), (20, 20, 60)])
    def test_too_few_bits_to_mask_modulo_are_refused(self, refused: Any, data_bits: tuple[int, ...]) -> None:
        params = CKKSParams(ring_degree=8192, data_bits=data_bits, special_bits=(20,), scale_bits=30)
        with refused(InvalidParameters, "all data primes but the last", "41 bits together", str(list(data_bits))):
            masked_scales(params, self.LEAST)


@pytest.mark.parametrize(
    ("fields", "error", "words"),
    [
        ({"ring_degree": 2048}, InvalidParameters, "at ring degree 2048"),
        ({"ring_degree": 2048, "flood_bits": 60}, InvalidParameters, "under a flood of 60 bits"),
        ({"ring_degree": 4096, "slots": 4096}, SlotOverflow, "2048 slots"),
        ({"ring_degree": 2048, "precision_bits": 20.0}, InvalidParameters, "20 bits of precision"),
        ({"precision_bits": -1.0}, InvalidParameters, "makes no sense"),
        ({"flood_bits": -5}, InvalidParameters, "A flood of -5 bits makes no sense"),
    ],
)
def test_what_cannot_be_is_refused_in_words(fields: dict[str, Any], error: type[HeloraError], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        choose_masked(msgspec.structs.replace(requirement(14, 22, 19), **fields))
    assert caught.value.hint
