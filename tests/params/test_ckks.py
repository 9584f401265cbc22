"""A parameter set is checked when it is made, and its moduli are sums of bits until the primes are known."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helora_core.errors import InvalidParameters
from helora_core.params.ckks import CKKSParams, SecretDistribution
from helora_core.params.security import load_table, security_verdict

Refused = Callable[..., AbstractContextManager[None]]

SOUND: dict[str, Any] = {"ring_degree": 8192, "data_bits": (60, 40, 40), "special_bits": (60,), "scale_bits": 40}

PRIMES = (12289, 40961, 18433)
"""Of 14, 16 and 15 bits, all 1 mod 2048; their product has 44 bits where the lengths add up to 45."""


def params(**changes: Any) -> CKKSParams:
    return CKKSParams(**(SOUND | changes))


def test_a_ring_of_degree_n_has_half_as_many_slots() -> None:
    assert params().slots == 4096


def test_each_data_prime_but_the_base_is_a_level() -> None:
    assert params().max_level == 2
    assert params(data_bits=(60,)).max_level == 0


def test_only_the_ternary_secret_is_offered() -> None:
    assert params().secret is SecretDistribution.TERNARY
    assert [secret.value for secret in SecretDistribution] == [load_table().secret] == ["ternary"]


@pytest.mark.parametrize("degree", [1 << exponent for exponent in range(10, 18)])
def test_rings_are_powers_of_two_from_1024_to_131072(degree: int) -> None:
    assert params(ring_degree=degree).ring_degree == degree


@pytest.mark.parametrize("degree", [-8192, 0, 1, 512, 1025, 8191, 12288, 262144])
def test_other_rings_are_refused(refused: Refused, degree: int) -> None:
    with refused(InvalidParameters, "CKKSParams", str(degree), "power of two", hint="8192"):
        params(ring_degree=degree)


def test_a_base_prime_is_needed(refused: Refused) -> None:
    with refused(InvalidParameters, "no data prime", hint="base prime"):
        params(data_bits=())


@pytest.mark.parametrize("field", ["data_bits", "special_bits"])
@pytest.mark.parametrize("bits", [-1, 0, 14, 61, 64])
def test_primes_that_no_ntt_in_machine_words_can_use_are_refused(refused: Refused, field: str, bits: int) -> None:
    with refused(InvalidParameters, f"{bits} bits", "N=8192", hint="15 to 60 bits"):
        params(**{field: (60, bits)})


@pytest.mark.parametrize(("degree", "shortest"), [(1024, 12), (8192, 15), (131072, 19)])
def test_the_shortest_prime_exceeds_2n(refused: Refused, degree: int, shortest: int) -> None:
    assert params(ring_degree=degree, data_bits=(60, shortest)).max_level == 1
    with refused(InvalidParameters, hint=f"{shortest} to 60 bits"):
        params(ring_degree=degree, data_bits=(60, shortest - 1))


def test_special_primes_can_be_left_out() -> None:
    assert params(special_bits=()).modulus_bits == 140


@pytest.mark.parametrize("scale", [-40, 0, 140, 200])
def test_a_scale_outside_the_data_modulus_is_refused(refused: Refused, scale: int) -> None:
    with refused(InvalidParameters, f"2^{scale}", "140 bits", hint="scale_bits"):
        params(scale_bits=scale)


def test_a_scale_inside_the_data_modulus_is_taken() -> None:
    assert [params(scale_bits=bits).scale_bits for bits in (1, 139)] == [1, 139]


def test_the_nominal_modulus_is_the_sum_of_all_bits() -> None:
    assert params().data_modulus_bits == 140
    assert params().modulus_bits == 200
    assert params(special_bits=(60, 50)).modulus_bits == 250


def test_each_rescale_drops_the_last_prime_left() -> None:
    chain = params(data_bits=(60, 40, 35))
    assert [chain.modulus_bits_at(level) for level in range(3)] == [60, 100, 135]


def test_with_primes_the_modulus_is_that_of_their_product() -> None:
    small: dict[str, Any] = {"ring_degree": 1024, "data_bits": (14, 16), "special_bits": (15,), "scale_bits": 10}
    assert params(**small).modulus_bits == 45
    real = params(**small, data_primes=PRIMES[:2], special_primes=PRIMES[2:])
    assert real.modulus_bits == math.prod(PRIMES).bit_length() == 44
    assert real.data_modulus_bits == (PRIMES[0] * PRIMES[1]).bit_length() == 29


def test_primes_of_the_data_alone_leave_the_whole_modulus_nominal() -> None:
    half = params(ring_degree=1024, data_bits=(14, 16), special_bits=(15,), scale_bits=10, data_primes=PRIMES[:2])
    assert (half.data_modulus_bits, half.modulus_bits) == (29, 45)


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"data_primes": (PRIMES[0],)}, "data"),
        ({"data_primes": (PRIMES[1], PRIMES[0])}, "data"),
        ({"special_primes": (PRIMES[0],)}, "special"),
        ({"special_primes": PRIMES}, "special"),
    ],
)
def test_primes_that_disagree_with_the_bits_are_refused(refused: Refused, changes: Any, kind: str) -> None:
    with refused(InvalidParameters, f"the {kind} primes", hint="resolve()"):
        params(**{"ring_degree": 1024, "data_bits": (14, 16), "special_bits": (15,), "scale_bits": 10} | changes)


bits = st.integers(19, 60)


@given(st.builds(params, data_bits=st.lists(bits, min_size=1, max_size=9).map(tuple), scale_bits=st.integers(1, 18)))
def test_parameters_are_plain_data(chosen: CKKSParams) -> None:
    assert msgspec.json.decode(msgspec.json.encode(chosen), type=CKKSParams) == chosen
    assert len({chosen, msgspec.structs.replace(chosen)}) == 1
    with pytest.raises(AttributeError):
        chosen.scale_bits = 3  # type: ignore[misc]


class TestWrapLimb:
    WRAPPED = params(ring_degree=8192, data_bits=(42, 42), special_bits=(), scale_bits=84, wrap_bits=64)

    def test_it_counts_for_the_modulus_and_for_security(self) -> None:
        wrapped = self.WRAPPED
        assert (wrapped.data_modulus_bits, wrapped.modulus_bits) == (148, 148)
        assert [wrapped.modulus_bits_at(level) for level in (0, 1)] == [106, 148]
        assert security_verdict(wrapped, security_bits=192).secure is False
        resolved = msgspec.structs.replace(wrapped, data_primes=(4398046472193, 4398046429189))
        assert resolved.modulus_bits == 148

    @pytest.mark.parametrize("bits", [-64, 1, 32, 63, 128])
    def test_it_is_a_machine_word_or_none(self, refused: Refused, bits: int) -> None:
        with refused(InvalidParameters, f"wrap limb of {bits} bits", hint="64"):
            params(wrap_bits=bits)

    def test_without_one_digests_are_as_before_there_were_any(self) -> None:
        """And files from then can be read."""
        plain = params(ring_degree=1024, data_bits=(14, 16), special_bits=(15,), scale_bits=10, data_primes=PRIMES[:2])
        before = (
            b'{"ring_degree":1024,"data_bits":[14,16],"special_bits":[15],"scale_bits":10,"secret":"ternary",'
            b'"data_primes":[' + b",".join(b"%d" % prime for prime in PRIMES[:2]) + b'],"special_primes":[]}'
        )
        assert bytes(plain.digested) == before
        assert msgspec.json.decode(before, type=CKKSParams) == plain
        assert b'"wrap_bits":64' in bytes(self.WRAPPED.digested)
