"""The automatic choice against a search written here, and its promises for all requirements."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from helora_core.errors import InsecureParameters, InvalidParameters, SlotOverflow
from helora_core.params.choose import MAX_SCALE_BITS, Requirement, choose_params, required_scale_bits
from helora_core.params.ckks import MAX_PRIME_BITS, CKKSParams
from helora_core.params.noise import NoiseModel, keyswitch_worst_std, rescale_std
from helora_core.params.security import TABLES, load_table, require_secure

Refused = Callable[..., AbstractContextManager[None]]

TYPICAL: dict[str, Any] = {"depth": 2, "slots": 4096, "rotates": True}
ROTATION_FREE: dict[str, Any] = {"depth": 1, "slots": 2048, "rotates": False}

COLUMNS = [(table, level) for table in TABLES for level in load_table(table).levels]
"""What each table has limits for."""

REQUIREMENTS = st.sampled_from(COLUMNS).flatmap(
    lambda column: st.builds(
        Requirement,
        depth=st.integers(0, 12),
        slots=st.one_of(st.integers(1, 9000), st.integers(1, 40000)),
        rotates=st.booleans(),
        precision_bits=st.floats(0, 26),
        longest_prime_bits=st.sampled_from([MAX_PRIME_BITS, 50, 45]),
        reserves_special=st.booleans(),
        noise_model=st.builds(NoiseModel, centred_digits=st.booleans()),
        table=st.just(column[0]),
        security_bits=st.just(column[1]),
    )
)


def requirement(**changes: Any) -> Requirement:
    return Requirement(**(TYPICAL | changes))


def choice(wanted: Requirement) -> CKKSParams | None:
    """The parameters chosen, or None where no ring will do."""
    try:
        return choose_params(wanted)
    except InvalidParameters:
        return None


def lengths(wanted: Requirement, scale: int, *, alone: bool = False) -> tuple[tuple[int, ...], int]:
    """A chain at this scale: a base prime of 3 more bits, one prime a level; and a special prime of 8 more."""
    special = min(scale + 11, wanted.longest_prime_bits) if wanted.rotates else 0 if alone else 20
    return (scale + 3, *[scale] * wanted.depth), special


def modulus_bits(wanted: Requirement, scale: int, *, alone: bool = False) -> int:
    data, special = lengths(wanted, scale, alone=alone)
    return sum(data) + special


def noise_bits(wanted: Requirement, ring: int, scale: int) -> float:
    """32 standard deviations of a rescale, and of a key switch in its worst slot."""
    std = rescale_std(ring)
    if wanted.rotates:
        data, special = lengths(wanted, min(scale, MAX_SCALE_BITS))
        centred = wanted.noise_model.centred_digits
        std = max(std, keyswitch_worst_std(ring, data, special, centred=centred))
    return math.log2(32 * std)


def largest_scale(wanted: Requirement) -> int:
    return min(MAX_SCALE_BITS, wanted.longest_prime_bits - 3)


def fits(wanted: Requirement, ring: int) -> bool:
    limit = load_table(wanted.table).limit(ring, wanted.security_bits)
    scales = range(required_scale_bits(wanted, ring), largest_scale(wanted) + 1)
    alone = not wanted.reserves_special
    return ring // 2 >= wanted.slots and any(modulus_bits(wanted, scale, alone=alone) <= limit for scale in scales)


class TestTheChoice:
    def test_depth_two_takes_ring_8192_for_modules_up_to_4096(self) -> None:
        assert choose_params(requirement()) == CKKSParams(
            ring_degree=8192, data_bits=(47, 44, 44), special_bits=(55,), scale_bits=44
        )

    def test_8192_slots_take_ring_16384(self) -> None:
        assert choose_params(requirement(slots=4097)).ring_degree == 16384
        assert choose_params(requirement(slots=8192)).ring_degree == 16384

    def test_depth_one_without_rotations_takes_ring_4096(self) -> None:
        assert choose_params(Requirement(**ROTATION_FREE)).ring_degree == 4096
        assert choose_params(Requirement(**ROTATION_FREE | {"slots": 2049})).ring_degree == 8192

    def test_rotations_need_a_special_prime_longer_than_the_base(self) -> None:
        turning, still = (choose_params(requirement(rotates=rotates)) for rotates in (True, False))
        assert turning.special_bits == (turning.data_bits[0] + 8,)
        assert still.special_bits == (20,)

    def test_no_prime_is_longer_than_a_library_is_fast_with(self) -> None:
        assert choose_params(requirement(longest_prime_bits=50)).special_bits == (50,)
        short = choose_params(requirement(longest_prime_bits=45))
        assert (short.data_bits, short.special_bits) == ((45, 42, 42), (45,))

    def test_a_library_that_reserves_no_special_prime_has_none_where_that_saves_a_ring(self) -> None:
        still = {"slots": 1, "rotates": False, "precision_bits": 15.0, "reserves_special": False}
        alone = choose_params(requirement(**still))
        assert (alone.ring_degree, alone.data_bits, alone.special_bits) == (4096, (37, 34, 34), ())
        assert choose_params(requirement(**still, depth=1)).special_bits == (20,)
        assert choose_params(requirement(reserves_special=False)).special_bits == (55,)

    @pytest.mark.parametrize(("level", "ring", "scale_bits"), [(128, 8192, 44), (192, 8192, 33), (256, 16384, 44)])
    def test_higher_security_takes_a_smaller_scale_or_a_larger_ring(
        self, level: int, ring: int, scale_bits: int
    ) -> None:
        params = choose_params(requirement(security_bits=level))
        assert (params.ring_degree, params.scale_bits) == (ring, scale_bits)
        assert require_secure(params, security_bits=level).secure

    def test_the_table_matters(self) -> None:
        """Depth 4 takes 213 bits at scale 2^38, and 5 more for each bit: ring 8192 allows 214, 218, 202 or 165."""
        wanted: dict[str, Any] = {"depth": 4, "slots": 1, "rotates": False, "precision_bits": 9.0}
        chosen = {table: choose_params(requirement(**wanted, table=table)).scale_bits for table in TABLES}
        assert chosen == {
            "guidelines-2024": 38,
            "he-standard-2018": 39,
            "he-standard-2018-quantum": 35,
            "adps16-quantum": 28,
        }

    @given(REQUIREMENTS, st.floats(0, 10))
    def test_it_is_the_smallest_ring_that_fits_with_the_largest_scale(self, wanted: Requirement, more: float) -> None:
        """The noisiest operation then leaves the precision asked for: 32 standard deviations of a rescale, and of a key
        switch in its worst slot, under values of up to one.
        """
        table, params = load_table(wanted.table), choice(wanted)
        rings = table.rings(wanted.security_bits)
        assert (params and params.ring_degree) == next((ring for ring in rings if fits(wanted, ring)), None)
        finer = choice(msgspec.structs.replace(wanted, precision_bits=wanted.precision_bits + more))
        assert finer is None or (params is not None and finer.ring_degree >= params.ring_degree)
        assume(params is not None)
        assert params is not None
        assert choose_params(msgspec.structs.replace(wanted, ring_degree=params.ring_degree)) == params
        assert require_secure(params, security_bits=wanted.security_bits, table=wanted.table).secure
        limit = table.limit(params.ring_degree, wanted.security_bits)
        alone = not params.special_bits
        assert params.modulus_bits == modulus_bits(wanted, params.scale_bits, alone=alone) <= limit
        larger = modulus_bits(wanted, params.scale_bits + 1, alone=alone)
        assert params.scale_bits == largest_scale(wanted) or larger > limit
        if alone:  # only where a reserved special prime would not have fitted
            assert not wanted.reserves_special
            assert modulus_bits(wanted, required_scale_bits(wanted, params.ring_degree)) > limit
        assert params.slots >= wanted.slots
        assert params.max_level == wanted.depth
        assert set(params.data_bits[1:]) <= {params.scale_bits}
        assert max(*params.data_bits, *params.special_bits, 0) <= wanted.longest_prime_bits
        noise = noise_bits(wanted, params.ring_degree, params.scale_bits)
        assert params.scale_bits - noise >= wanted.precision_bits - 1e-9


class TestTheScale:
    @pytest.mark.parametrize("ring", [4096, 16384])
    def test_a_bit_of_precision_costs_a_bit_of_scale(self, ring: int) -> None:
        scales = [required_scale_bits(requirement(precision_bits=bits), ring) for bits in (8.0, 9.0, 12.0)]
        assert scales == [scales[0], scales[0] + 1, scales[0] + 4]

    @given(REQUIREMENTS, st.sampled_from([1024, 8192, 65536]))
    def test_it_is_the_smallest_that_32_standard_deviations_allow(self, wanted: Requirement, ring: int) -> None:
        scale = required_scale_bits(wanted, ring)
        assert wanted.precision_bits + noise_bits(wanted, ring, scale) <= scale
        assert scale == 1 or wanted.precision_bits + noise_bits(wanted, ring, scale - 1) > scale - 1

    def test_without_rotations_the_rescale_decides(self) -> None:
        """32 times its noise is 2^15.4 at N=8192, and twice that at twice the ring: 11.9 + 15.4 → 28."""
        still = requirement(rotates=False, precision_bits=11.9)
        assert [required_scale_bits(still, ring) for ring in (4096, 8192, 16384)] == [27, 28, 29]

    def test_with_rotations_the_key_switch_decides(self) -> None:
        """With digits 2^8 below the special prime, its worst slot passes the rescale's noise from N=8192 on."""
        assert [required_scale_bits(requirement(), ring) for ring in (4096, 8192, 16384)] == [27, 29, 30]
        assert [required_scale_bits(requirement(rotates=False), ring) for ring in (4096, 8192, 16384)] == [27, 28, 29]


class TestAForcedRing:
    def test_a_larger_ring_than_needed_is_taken(self) -> None:
        assert choose_params(requirement(ring_degree=32768)).ring_degree == 32768

    def test_too_few_slots_are_refused_with_a_ring_that_works(self, refused: Refused) -> None:
        for slots in (1025, 1536, 2048):
            with refused(SlotOverflow, "2048 has 1024 slots", f"needs {slots}", hint="at least 4096"):
                choose_params(Requirement(**ROTATION_FREE | {"slots": slots, "ring_degree": 2048}))
        assert choose_params(Requirement(**ROTATION_FREE | {"ring_degree": 4096})).ring_degree == 4096

    def test_too_few_slots_in_any_ring_are_refused_as_such(self, refused: Refused) -> None:
        with refused(SlotOverflow, "needs 40000", hint="No ring degree"):
            choose_params(requirement(slots=40000, ring_degree=8192))

    def test_too_little_modulus_is_refused_in_terms_of_security(self, refused: Refused) -> None:
        """At 12 bits of precision; at 29, where the scale just reaches the largest there is."""
        wanted: dict[str, Any] = {"slots": 2048, "ring_degree": 4096}
        with refused(InsecureParameters, "guidelines-2024", "<= 106", "4096", "128-bit", "122 bits", hint="is 8192"):
            choose_params(requirement(**wanted))
        assert required_scale_bits(requirement(**wanted, precision_bits=29.0), 4096) == MAX_SCALE_BITS
        with refused(InsecureParameters, "<= 106", "190 bits"):
            choose_params(requirement(**wanted, precision_bits=29.0))

    @pytest.mark.parametrize("ring", [0, 512, 3000, 131072])
    def test_a_ring_that_the_table_does_not_have_is_refused(self, refused: Refused, ring: int) -> None:
        with refused(InvalidParameters, "guidelines-2024", str(ring), hint="1024, 2048, 4096"):
            choose_params(requirement(ring_degree=ring))

    def test_too_much_noise_for_the_precision_is_refused_even_where_a_smaller_ring_would_do(
        self, refused: Refused
    ) -> None:
        wanted: dict[str, Any] = {"slots": 1, "precision_bits": 24.0}
        assert choose_params(requirement(**wanted)).ring_degree == 8192
        with refused(InvalidParameters, "65536", "24 bits", "2^45", "2^44", hint="smaller ring"):
            choose_params(requirement(**wanted, ring_degree=65536))

    def test_a_scale_beyond_any_prime_is_refused_in_terms_of_precision(self, refused: Refused) -> None:
        with refused(InvalidParameters, "50 bits of precision", hint="less precision"):
            choose_params(requirement(precision_bits=50.0, ring_degree=8192))

    @given(REQUIREMENTS, st.sampled_from([1024, 4096, 8192, 16384, 32768]))
    def test_it_is_taken_exactly_if_it_fits(self, wanted: Requirement, ring: int) -> None:
        forced = msgspec.structs.replace(wanted, ring_degree=ring)
        try:
            assert choose_params(forced).ring_degree == ring
        except (SlotOverflow, InsecureParameters, InvalidParameters):
            assert not fits(wanted, ring)
        else:
            assert fits(wanted, ring)


class TestTheImpossible:
    @pytest.mark.parametrize("changes", [{"slots": 32769}, {"depth": 60}, {"precision_bits": 30.0}])
    def test_what_no_ring_meets_is_refused(self, refused: Refused, changes: dict[str, Any]) -> None:
        wanted = requirement(**changes)
        with refused(
            InvalidParameters,
            "guidelines-2024",
            f"{wanted.slots} slots",
            f"depth {wanted.depth}",
            f"{wanted.precision_bits:g} bits",
            "128-bit",
            hint="less precision",
        ):
            choose_params(wanted)

    @pytest.mark.parametrize("precision", [-1.0, math.nan, math.inf, -math.inf])
    def test_a_precision_that_is_no_number_of_bits_is_refused(self, refused: Refused, precision: float) -> None:
        with refused(InvalidParameters, f"{precision:g} bits", hint="12 bits"):
            choose_params(requirement(precision_bits=precision))

    @pytest.mark.parametrize("changes", [{"security_bits": 100}, {"table": "none"}])
    def test_unknown_levels_and_tables_are_refused(self, changes: dict[str, Any]) -> None:
        with pytest.raises(InvalidParameters):
            choose_params(requirement(**changes))
