"""The two presets keep what their names promise, by every table."""

from __future__ import annotations

import pytest

from helora_core.params.presets import FAST, SAFE
from helora_core.params.security import TABLES, load_table, security_verdict

STRICTER = {"adps16-quantum": (0, 128)}
"""By the strictest of tables FAST has no security that counts, and SAFE what FAST has by the others."""


@pytest.mark.parametrize("table", TABLES)
def test_fast_has_128_bits_and_safe_256_by_all_tables_but_the_strictest(table: str) -> None:
    found = (security_verdict(FAST, table=table).security_bits, security_verdict(SAFE, table=table).security_bits)
    assert found == STRICTER.get(table, (128, 256))


def test_both_have_depth_two_and_one_scale_throughout() -> None:
    for preset in (FAST, SAFE):
        assert preset.max_level == 2
        assert preset.modulus_bits == 190
        assert set(preset.data_bits[1:]) == {preset.scale_bits} == {40}
        assert max(preset.special_bits) >= max(preset.data_bits) + 8


@pytest.mark.parametrize("table", [table for table in TABLES if table not in STRICTER])
def test_no_smaller_ring_would_do(table: str) -> None:
    for preset, level in ((FAST, 128), (SAFE, 256)):
        assert load_table(table).smallest_ring(preset.modulus_bits, level) == preset.ring_degree
