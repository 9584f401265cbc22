"""Chains that are never rescaled: they hold all scales, are no larger than they need be, and secure."""

from __future__ import annotations

import itertools
import math
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from helora_core.errors import HeloraError, InvalidParameters, SlotOverflow
from helora_core.params.ckks import MAX_PRIME_BITS, CKKSParams
from helora_core.params.flat import (
    HEADROOM_BITS,
    LARGEST_INPUT_BITS,
    LARGEST_WEIGHT_BITS,
    FlatRequirement,
    FlatScales,
    choose_flat,
)
from helora_core.params.flat import reserved_special_bits as reserved
from helora_core.params.noise import encryption_std, keyswitch_worst_std
from helora_core.params.security import DEFAULT_TABLE, load_table


def requirement(
    noise_bits: int, down_bits: int, up_bits: int = 0, *, rotates: bool = False, mask_bits: int = 0, **fields: Any
) -> FlatRequirement:
    """Scales so far above the noise of input and key switches; masks so far above both, and larger in larger rings."""

    def least(ring_degree: int, data_bits: tuple[int, ...], special_bits: tuple[int, ...]) -> FlatScales:
        std = encryption_std(ring_degree)
        if rotates:
            std = max(std, keyswitch_worst_std(ring_degree, data_bits, sum(special_bits)))
        return FlatScales(input_bits=noise_bits + math.ceil(math.log2(std)), down_bits=down_bits, up_bits=up_bits)

    def mask(ring_degree: int) -> int:
        return mask_bits + ring_degree.bit_length() if mask_bits else 0

    return FlatRequirement(**{"slots": 1, "rotates": rotates, "least": least, "mask_bits": mask, **fields})


REQUIREMENTS = st.builds(
    requirement,
    st.integers(5, 90),
    st.integers(5, 55),
    st.integers(5, 55) | st.just(0),
    rotates=st.booleans(),
    mask_bits=st.integers(1, 60) | st.just(0),
    longest_prime_bits=st.sampled_from([MAX_PRIME_BITS, 50]),
    reserves_special=st.booleans(),
    slots=st.sampled_from([1, 512, 2048, 8192]),
    security_bits=st.sampled_from([128, 192, 256]),
)

CHEETAH = requirement(13, 18)


def choice(wanted: FlatRequirement) -> tuple[CKKSParams, FlatScales]:
    """What is chosen; examples for which nothing is are none."""
    try:
        return choose_flat(wanted)
    except InvalidParameters:
        assume(False)
        raise


def held(wanted: FlatRequirement, ring_degree: int, scales: FlatScales) -> int:
    """Bits of modulus that the scales take."""
    mask_bits = wanted.mask_bits(ring_degree)
    return max(scales.total + HEADROOM_BITS, scales.input_bits + scales.down_bits + mask_bits if mask_bits else 0)


@given(REQUIREMENTS)
def test_the_modulus_holds_scales_headroom_and_masks_and_is_secure(wanted: FlatRequirement) -> None:
    params, scales = choice(wanted)
    assert params.slots >= wanted.slots
    assert params.modulus_bits <= load_table(DEFAULT_TABLE).limit(params.ring_degree, wanted.security_bits)
    assert held(wanted, params.ring_degree, scales) <= params.data_modulus_bits
    assert params.scale_bits == scales.input_bits


@given(REQUIREMENTS)
def test_no_scale_is_below_the_smallest_that_do_under_this_very_chain(wanted: FlatRequirement) -> None:
    params, scales = choice(wanted)
    least = wanted.least(params.ring_degree, params.data_bits, params.special_bits)
    assert scales.input_bits >= least.input_bits
    assert scales.down_bits >= least.down_bits
    assert scales.up_bits >= least.up_bits
    assert (scales.up_bits == 0) is (least.up_bits == 0)


@given(REQUIREMENTS)
def test_no_scale_could_be_larger_or_it_would_buy_nothing(wanted: FlatRequirement) -> None:
    params, scales = choice(wanted)
    for name, limit in (
        ("input_bits", LARGEST_INPUT_BITS),
        ("down_bits", LARGEST_WEIGHT_BITS),
        ("up_bits", LARGEST_WEIGHT_BITS if scales.up_bits else 0),
    ):
        larger = msgspec.structs.replace(scales, **{name: getattr(scales, name) + 1})
        full = held(wanted, params.ring_degree, larger) > params.data_modulus_bits
        assert full or getattr(larger, name) > limit, name


@given(REQUIREMENTS)
def test_the_modulus_is_no_larger_than_scales_can_use(wanted: FlatRequirement) -> None:
    params, scales = choice(wanted)
    least = wanted.least(params.ring_degree, params.data_bits, params.special_bits)
    most = max(least.input_bits, LARGEST_INPUT_BITS) + LARGEST_WEIGHT_BITS * (2 if scales.up_bits else 1)
    needed = max(most + HEADROOM_BITS, held(wanted, params.ring_degree, least))
    assert params.data_modulus_bits <= needed


@given(REQUIREMENTS)
def test_primes_are_of_about_one_length_and_the_special_one_no_shorter_where_keys_are_switched(
    wanted: FlatRequirement,
) -> None:
    params, _ = choice(wanted)
    assert max(params.data_bits) - min(params.data_bits) <= 1
    assert max(params.data_bits) <= wanted.longest_prime_bits
    if wanted.rotates:
        (special,) = params.special_bits
        assert max(params.data_bits) <= min(56, special)
        assert special <= wanted.longest_prime_bits
    elif len(params.data_bits) == 1:
        assert params.special_bits == ()
    else:
        assert params.special_bits in ((reserved(params.ring_degree),), *[()] * (not wanted.reserves_special))


def spare(wanted: FlatRequirement, ring: int, primes: int, special: tuple[int, ...]) -> int:
    """Bits of use beyond those that the smallest scales take, in so many primes as long as they may be."""
    longest = min(wanted.longest_prime_bits, 56, *special) if wanted.rotates else wanted.longest_prime_bits
    limit = load_table(DEFAULT_TABLE).limit(ring, wanted.security_bits)
    room = min(limit - sum(special), primes * longest)
    if room <= 0:
        return -1
    least = wanted.least(ring, tuple(room // primes + (i < room % primes) for i in range(primes)), special)
    needed = held(wanted, ring, least)
    weights = LARGEST_WEIGHT_BITS * (2 if least.up_bits else 1)
    return min(room, max(max(least.input_bits, LARGEST_INPUT_BITS) + weights + HEADROOM_BITS, needed)) - needed


@given(REQUIREMENTS)
def test_the_smallest_ring_is_taken_then_the_fewest_primes_then_the_special_one_that_leaves_most(
    wanted: FlatRequirement,
) -> None:
    params, _ = choice(wanted)
    chosen = spare(wanted, params.ring_degree, len(params.data_bits), params.special_bits)
    assert chosen >= 0
    for ring, primes in itertools.product(load_table(DEFAULT_TABLE).rings(wanted.security_bits), range(1, 7)):
        if ring // 2 < wanted.slots or (ring, primes) > (params.ring_degree, len(params.data_bits)):
            continue
        specials: list[tuple[int, ...]] = [(bits,) for bits in range(20, wanted.longest_prime_bits + 1)]
        if not wanted.rotates:
            specials = [()] if primes == 1 else [(reserved(ring),), *[()] * (not wanted.reserves_special)]
        found = [spare(wanted, ring, primes, special) for special in specials]
        if (ring, primes) != (params.ring_degree, len(params.data_bits)):
            assert max(found) < 0
        elif wanted.rotates:
            assert chosen == max(found)
            assert all(
                special <= params.special_bits for special, bits in zip(specials, found, strict=True) if bits == chosen
            )
        else:  # the one that suits every library, if it holds the scales
            assert params.special_bits == next(each for each, bits in zip(specials, found, strict=True) if bits >= 0)


def test_a_key_switch_without_a_noisy_slot_leaves_bits_that_save_a_prime() -> None:
    """The special prime takes what the noise allows: it is 10 bits longer than the data primes, or 4."""

    def least(centred: bool) -> Any:
        def bits(ring: int, data_bits: tuple[int, ...], special_bits: tuple[int, ...]) -> FlatScales:
            std = keyswitch_worst_std(ring, data_bits, sum(special_bits), centred=centred)
            return FlatScales(input_bits=69 + math.ceil(math.log2(std)), down_bits=34, up_bits=50)

        return bits

    def chain(centred: bool) -> CKKSParams:
        wanted = FlatRequirement(slots=1, ring_degree=8192, rotates=True, least=least(centred), mask_bits=lambda _: 53)
        return choose_flat(wanted)[0]

    assert chain(True).data_bits == (42, 42, 42, 42)
    assert chain(True).special_bits == (46,)
    assert len(chain(False).data_bits) == 5


def test_no_prime_is_longer_than_a_library_is_fast_with() -> None:
    wanted = requirement(13, 18, ring_degree=4096)
    assert choose_flat(wanted)[0].data_bits == (60,)
    assert choose_flat(msgspec.structs.replace(wanted, longest_prime_bits=50))[0].data_bits == (50,)
    rotating = requirement(60, 30, 30, rotates=True)
    params, _ = choose_flat(msgspec.structs.replace(rotating, longest_prime_bits=50))
    assert max(*params.data_bits, *params.special_bits) <= 50


def test_a_library_without_a_reserved_special_prime_gives_its_bits_to_the_data_where_that_saves_a_ring() -> None:
    narrow, wide = requirement(53, 18), requirement(58, 22)
    own = {"longest_prime_bits": 50, "reserves_special": False}
    portable, _ = choose_flat(msgspec.structs.replace(narrow, **own))
    assert (portable.ring_degree, portable.data_bits, portable.special_bits) == (4096, (45, 45), (16,))
    assert choose_flat(wide)[0].ring_degree == 8192
    tailored, _ = choose_flat(msgspec.structs.replace(wide, **own))
    assert (tailored.ring_degree, tailored.data_bits, tailored.special_bits) == (4096, (50, 50), ())


def test_data_primes_are_six_at_most() -> None:
    longest, _ = choose_flat(requirement(200, 45, 40, rotates=True))
    assert len(longest.data_bits) == 6
    with pytest.raises(InvalidParameters):
        choose_flat(requirement(300, 55, 55, rotates=True))


def test_scales_may_follow_the_longest_digit() -> None:
    """Where a key switch is noisier than all else, by the lengths of the primes that it switches."""

    def least(_: int, data_bits: tuple[int, ...], special_bits: tuple[int, ...]) -> FlatScales:
        return FlatScales(input_bits=40 + max(data_bits), down_bits=20, up_bits=0)

    params, scales = choose_flat(FlatRequirement(slots=1, rotates=True, least=least, mask_bits=lambda _: 0))
    assert scales.total + HEADROOM_BITS <= params.data_modulus_bits
    assert scales.input_bits >= 40 + max(params.data_bits)


@pytest.mark.parametrize("degree", [4096, 8192, 16384, 32768])
def test_the_special_prime_that_is_reserved_is_the_shortest_there_is(degree: int) -> None:
    candidates = (2 * degree * k + 1 for k in itertools.count(1))
    shortest = next(p for p in candidates if all(p % q for q in range(3, math.isqrt(p) + 1, 2)))
    assert reserved(degree) == shortest.bit_length()


def test_one_prime_in_a_ring_of_2048_does_for_coefficients_that_nobody_floods() -> None:
    """The guidelines allow 53 bits there, and without key switches no special prime has to share them."""
    params, scales = choose_flat(CHEETAH)
    assert (params.ring_degree, params.data_bits, params.special_bits) == (2048, (53,), ())
    assert scales == FlatScales(input_bits=26, down_bits=24, up_bits=0)


def test_a_flood_of_40_bits_over_coefficients_fits_a_ring_of_4096() -> None:
    params, _ = choose_flat(requirement(13 + 40, 18))
    assert (params.ring_degree, params.data_bits, params.special_bits) == (4096, (45, 45), (16,))


def test_what_is_to_spare_is_shared_out_evenly() -> None:
    _, scales = choose_flat(requirement(13, 18, 15, ring_degree=4096))
    least = requirement(13, 18, 15).least(4096, (), ())
    spare = [getattr(scales, name) - getattr(least, name) for name in ("input_bits", "down_bits", "up_bits")]
    assert min(spare) > 0
    assert max(spare) - min(spare) <= 1


def test_a_mask_over_other_slots_leaves_what_is_to_spare_to_up() -> None:
    """It stands beside input and ``down`` alone: they stay as they are, and a larger ``up`` costs nobody anything."""
    params, scales = choose_flat(requirement(50, 24, 10, rotates=True, mask_bits=60))
    least = requirement(50, 24, 10, rotates=True).least(params.ring_degree, params.data_bits, params.special_bits)
    mask = 60 + params.ring_degree.bit_length()
    assert scales.input_bits + scales.down_bits + mask == params.data_modulus_bits
    assert scales.up_bits == min(LARGEST_WEIGHT_BITS, mask - HEADROOM_BITS)
    assert scales.up_bits > least.up_bits


def test_a_ring_that_is_asked_for_is_taken_and_filled() -> None:
    params, _ = choose_flat(msgspec.structs.replace(CHEETAH, ring_degree=4096))
    assert (params.ring_degree, params.data_bits) == (4096, (60,))


@pytest.mark.parametrize(
    ("wanted", "fields", "error", "words"),
    [
        (CHEETAH, {"ring_degree": 1024}, InvalidParameters, "at ring degree 1024"),
        (requirement(53, 18), {"ring_degree": 2048, "flood_bits": 40}, InvalidParameters, "under a flood of 40 bits"),
        (CHEETAH, {"ring_degree": 2048, "slots": 2048}, SlotOverflow, "1024 slots"),
        (CHEETAH, {"ring_degree": 3000}, InvalidParameters, "no ring degree 3000"),
        (
            requirement(13, 5000),
            {"precision_bits": 11.5},
            InvalidParameters,
            "11.5 bits of precision without a rescale",
        ),
        (CHEETAH, {"precision_bits": -1.0}, InvalidParameters, "makes no sense"),
        (CHEETAH, {"flood_bits": -5}, InvalidParameters, "A flood of -5 bits makes no sense"),
    ],
)
def test_what_cannot_be_is_refused_in_words(
    wanted: FlatRequirement, fields: dict[str, Any], error: type[HeloraError], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        choose_flat(msgspec.structs.replace(wanted, **fields))
    assert caught.value.hint
