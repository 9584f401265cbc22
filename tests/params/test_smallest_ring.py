"""The walk over a table's rings: from the smallest, past those of too few slots, to the first that has a chain."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helora_core.errors import InvalidParameters, SlotOverflow
from helora_core.params.ckks import CKKSParams
from helora_core.params.security import DEFAULT_TABLE, load_table
from helora_core.params.smallest_ring import FloodRequirement, RingRequirement, no_modulus_holds, smallest_ring

RINGS = load_table(DEFAULT_TABLE).rings(128)

ChainOf = Callable[[int, int], CKKSParams | None]


def chain(ring_degree: int) -> CKKSParams:
    return CKKSParams(ring_degree=ring_degree, data_bits=(20,), special_bits=(), scale_bits=10)


def walk(asked: list[tuple[int, int]], first_with_a_chain: int) -> ChainOf:
    """Rings from one on have a chain; ``asked`` takes down what was asked for."""

    def chain_of(ring_degree: int, limit_bits: int) -> CKKSParams | None:
        asked.append((ring_degree, limit_bits))
        return chain(ring_degree) if ring_degree >= first_with_a_chain else None

    return chain_of


@given(first=st.sampled_from([*RINGS, 2 * RINGS[-1]]), slots=st.sampled_from([1, *(ring // 2 for ring in RINGS)]))
def test_it_is_the_smallest_that_has_the_slots_and_a_chain(first: int, slots: int) -> None:
    asked: list[tuple[int, int]] = []
    params = smallest_ring(RingRequirement(slots=slots), walk(asked, first))
    roomy = [ring for ring in RINGS if ring // 2 >= slots]
    assert (params and params.ring_degree) == next((ring for ring in roomy if ring >= first), None)
    assert [ring for ring, _ in asked] == [ring for ring in roomy if params is None or ring <= params.ring_degree]


@pytest.mark.parametrize("security_bits", [128, 192, 256])
def test_a_chain_is_made_for_the_table_s_limit(security_bits: int) -> None:
    asked: list[tuple[int, int]] = []
    smallest_ring(RingRequirement(slots=1, security_bits=security_bits), walk(asked, 2 * RINGS[-1]))
    table = load_table(DEFAULT_TABLE)
    assert asked == [(ring, table.limit(ring, security_bits)) for ring in table.rings(security_bits)]


def test_only_the_ring_that_is_asked_for_is_looked_at() -> None:
    asked: list[tuple[int, int]] = []
    assert smallest_ring(RingRequirement(slots=1, ring_degree=4096), walk(asked, 8192)) is None
    assert [ring for ring, _ in asked] == [4096]


def test_a_requirement_that_cannot_be_is_refused_before_any_chain_is_made() -> None:
    asked: list[tuple[int, int]] = []
    for requirement, error in (
        (RingRequirement(slots=1, precision_bits=float("inf")), InvalidParameters),
        (RingRequirement(slots=1, ring_degree=3000), InvalidParameters),
        (RingRequirement(slots=4096, ring_degree=4096), SlotOverflow),
    ):
        with pytest.raises(error) as caught:
            smallest_ring(requirement, walk(asked, 0))
        assert caught.value.hint
    assert not asked


@pytest.mark.parametrize(
    ("flood_bits", "ring_degree", "end"),
    [
        (0, None, "holds two primes."),
        (40, None, "holds two primes under a flood of 40 bits."),
        (0, 4096, "holds two primes at ring degree 4096."),
        (40, 4096, "holds two primes under a flood of 40 bits at ring degree 4096."),
    ],
)
def test_the_refusal_says_what_was_asked_for_and_no_more(flood_bits: int, ring_degree: int | None, end: str) -> None:
    requirement = FloodRequirement(slots=1, flood_bits=flood_bits, ring_degree=ring_degree)
    assert no_modulus_holds(requirement, "two primes").message.endswith(end)
