"""The two presets keep what their names promise, by both tables."""

from __future__ import annotations

import pytest

from helora_core.params.presets import FAST, SAFE
from helora_core.params.security import TABLES, security_verdict


@pytest.mark.parametrize("table", TABLES)
def test_fast_has_128_bits_and_safe_256_by_every_table(table: str) -> None:
    assert security_verdict(FAST, table=table).security_bits == 128
    assert security_verdict(SAFE, table=table).security_bits == 256


def test_both_have_depth_two_and_one_scale_throughout() -> None:
    for preset in (FAST, SAFE):
        assert preset.max_level == 2
        assert preset.modulus_bits == 200
        assert set(preset.data_bits[1:]) == {preset.scale_bits} == {40}
        assert max(preset.special_bits) >= max(preset.data_bits)


def test_no_smaller_ring_would_do() -> None:
    assert (FAST.ring_degree, SAFE.ring_degree) == (8192, 16384)
