"""The tables are the published ones, entry by entry, and what they do not allow is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import pairwise

import msgspec
import pytest

from helora_core.errors import InsecureParameters, InvalidParameters
from helora_core.params.ckks import CKKSParams
from helora_core.params.security import (
    DEFAULT_TABLE,
    TABLES,
    SecurityTable,
    load_table,
    require_secure,
    security_verdict,
)

Refused = Callable[..., AbstractContextManager[None]]

RINGS = (1024, 2048, 4096, 8192, 16384, 32768, 65536)
PUBLISHED: dict[str, dict[int, tuple[int | None, ...]]] = {
    # Bossuat et al., IACR CiC 1(4), 2025: ternary secret, classical attacks.
    "guidelines-2024": {
        128: (26, 53, 106, 214, 430, 868, 1747),
        192: (None, 36, 73, 147, 297, 597),
        256: (None, 27, 56, 114, 230, 462),
    },
    # Albrecht et al., HomomorphicEncryption.org, 2018: ternary secret, classical attacks.
    "he-standard-2018": {
        128: (27, 54, 109, 218, 438, 881),
        192: (19, 37, 75, 152, 305, 611),
        256: (14, 29, 58, 118, 237, 476),
    },
    # The same, quantum attacks; as in Microsoft SEAL's hestdparms.h, SEAL_HE_STD_PARMS_*_TQ.
    "he-standard-2018-quantum": {
        128: (25, 51, 101, 202, 411, 827),
        192: (17, 35, 70, 141, 284, 571),
        256: (13, 27, 54, 109, 220, 443),
    },
    # Apple, swift-homomorphic-encryption, maxLog2CoefficientModulus: ternary secret, quantum128; without its 1024.
    "adps16-quantum": {
        128: (None, 41, 83, 165, 330, 660),
    },
}
every_table = pytest.mark.parametrize("name", TABLES)


def with_modulus(ring: int, total: int) -> CKKSParams:
    """Parameters whose primes, without special ones, have ``total`` bits together."""
    primes = -(-total // 60)
    short, longer = divmod(total, primes)
    bits = (short + 1,) * longer + (short,) * (primes - longer)
    return CKKSParams(ring_degree=ring, data_bits=bits, special_bits=(), scale_bits=10)


def test_the_guidelines_are_the_default() -> None:
    assert DEFAULT_TABLE == "guidelines-2024"
    assert security_verdict(with_modulus(8192, 200)).table == "guidelines-2024"


def entries(name: str) -> list[tuple[int, int, int]]:
    """Level, ring and limit of each published entry."""
    rows = ((level, zip(RINGS, limits, strict=False)) for level, limits in PUBLISHED[name].items())
    return [(level, ring, limit) for level, row in rows for ring, limit in row if limit is not None]


@every_table
def test_a_table_has_the_published_entries_and_no_others(name: str) -> None:
    table = load_table(name).max_modulus_bits
    assert [(level, *entry) for level, limits in table.items() for entry in limits.items()] == entries(name)


@every_table
def test_a_table_says_where_it_comes_from(name: str) -> None:
    table = load_table(name)
    assert table.name == name
    assert table.schema == 1
    assert table.secret == "ternary"
    assert table.title
    assert re.search(r"\b20\d\d\b", table.source), "no year"
    assert "ternary" in table.source
    assert f"{table.attacks} attacks" in table.source
    assert table.attacks == ("quantum" if name.endswith("quantum") else "classical")
    assert re.fullmatch(r"20\d\d-[01]\d-[0-3]\d", table.read)


@every_table
def test_a_larger_ring_allows_more_and_a_higher_level_less(name: str) -> None:
    table = load_table(name)
    assert table.levels == ((128,) if name == "adps16-quantum" else (128, 192, 256))
    for level in table.levels:
        assert all(
            table.limit(small, level) < table.limit(large, level) for small, large in pairwise(table.rings(level))
        )
    for low, high in pairwise(table.levels):
        assert all(table.limit(ring, low) > table.limit(ring, high) for ring in table.rings(high))


@every_table
def test_the_limit_itself_is_secure_and_one_bit_more_takes_a_larger_ring(name: str) -> None:
    table = load_table(name)
    for level, ring, limit in entries(name):
        verdict = require_secure(with_modulus(ring, limit), security_bits=level, table=name)
        assert (verdict.table, verdict.asked_bits, verdict.security_bits) == (name, level, level)
        assert verdict.modulus_bits == verdict.limit_bits == limit
        with pytest.raises(InsecureParameters):
            require_secure(with_modulus(ring, limit + 1), security_bits=level, table=name)
        assert table.smallest_ring(limit, level) == ring
        assert table.smallest_ring(limit + 1, level) == next((n for n in table.rings(level) if n > ring), None)


def test_the_refusal_names_table_limit_what_was_asked_and_the_ring_that_would_do(refused: Refused) -> None:
    with refused(
        InsecureParameters, "guidelines-2024", "<= 147", "8192", "192-bit", "200 bits", hint="200 bits is 16384"
    ):
        require_secure(with_modulus(8192, 200), security_bits=192)


def test_the_refusal_says_so_when_no_ring_would_do(refused: Refused) -> None:
    with refused(InsecureParameters, "<= 1747", hint="No ring degree of the table"):
        require_secure(with_modulus(65536, 1748))


def test_a_ring_without_an_entry_is_allowed_nothing(refused: Refused) -> None:
    assert load_table().limit(1024, 192) == 0
    with refused(InsecureParameters, "<= 0 bits", "1024", hint="2048"):
        require_secure(with_modulus(1024, 20), security_bits=192)


def test_the_2018_table_can_be_selected_and_is_more_lenient() -> None:
    params = with_modulus(8192, 218)
    assert require_secure(params, table="he-standard-2018").secure
    assert not security_verdict(params).secure


@pytest.mark.parametrize(("stricter", "than"), [
    ("guidelines-2024", "he-standard-2018"),
    ("he-standard-2018-quantum", "guidelines-2024"),
    ("adps16-quantum", "he-standard-2018-quantum"),
])  # fmt: skip
def test_tables_come_from_lenient_to_strict(stricter: str, than: str) -> None:
    strict, lenient = load_table(stricter), load_table(than)
    for level in strict.levels:
        assert all(
            strict.limit(ring, level) <= lenient.limit(ring, level)
            for ring in strict.rings(level)
            if ring in lenient.rings(level)
        )


def test_where_a_quantum_table_has_no_entry_nothing_is_allowed(refused: Refused) -> None:
    with refused(InsecureParameters, "adps16-quantum", "<= 0 bits", hint="2048"):
        require_secure(with_modulus(1024, 20), table="adps16-quantum")
    with refused(InvalidParameters, "adps16-quantum", "192 bits", hint="128"):
        require_secure(with_modulus(8192, 100), security_bits=192, table="adps16-quantum")


def test_special_primes_count() -> None:
    without = with_modulus(8192, 200)
    assert require_secure(without).secure
    special = msgspec.structs.replace(without, special_bits=(15,))
    verdict = security_verdict(special)
    assert (verdict.modulus_bits, verdict.secure) == (215, False)
    with pytest.raises(InsecureParameters):
        require_secure(special)


def test_the_verdict_names_the_highest_level_met_whatever_was_asked() -> None:
    met = {total: security_verdict(with_modulus(8192, total)).security_bits for total in (114, 115, 147, 148, 214, 215)}
    assert met == {114: 256, 115: 192, 147: 192, 148: 128, 214: 128, 215: 0}
    assert security_verdict(with_modulus(8192, 150), security_bits=256).security_bits == 128


@pytest.mark.parametrize("name", ["", "guidelines", "../tables/guidelines-2024", "he-standard-2017", "quantum"])
def test_an_unknown_table_is_refused(refused: Refused, name: str) -> None:
    with refused(InvalidParameters, repr(name), hint="guidelines-2024, he-standard-2018"):
        load_table(name)


@pytest.mark.parametrize("level", [0, 80, 129, 512])
def test_an_unknown_level_is_refused(refused: Refused, level: int) -> None:
    with refused(InvalidParameters, "guidelines-2024", f"{level} bits", hint="128, 192, 256"):
        require_secure(with_modulus(8192, 100), security_bits=level)


def test_levels_and_rings_ascend_whatever_the_order_of_the_data() -> None:
    limits = {192: {4096: 2, 1024: 1}, 128: {2048: 4, 4096: 5, 1024: 3}}
    table = msgspec.structs.replace(load_table(), max_modulus_bits=limits)
    assert table.levels == (128, 192)
    assert table.rings(128) == (1024, 2048, 4096)
    assert table.smallest_ring(4, 128) == 2048


def test_a_table_with_fields_of_its_own_is_refused() -> None:
    fields = msgspec.to_builtins(load_table(), str_keys=True)
    assert msgspec.convert(fields, SecurityTable, strict=False) == load_table()
    with pytest.raises(msgspec.ValidationError, match="quantum"):
        msgspec.convert(fields | {"quantum": True}, SecurityTable, strict=False)
