"""Names come out of files: looking at one must not take more than linear time, however it is made."""

from __future__ import annotations

import time

import pytest

from helora_core.adapter.features import feature_of
from helora_core.adapter.peft import parse_key

PIECES = [
    ".lora_A",
    ".lora_B.x",
    ".base_layer",
    "..",
    ".modules_to_save",
    ".hada_w1_a.x",
    "lora_E.",
    ".oft_r",
    "_lora1.down",
]


@pytest.mark.parametrize("ending", ["", "!\n", ".weight"])
@pytest.mark.parametrize("piece", PIECES)
def test_long_names_take_linear_time(piece: str, ending: str) -> None:
    name = piece * (100_000 // len(piece)) + ending
    start = time.process_time()
    feature_of(name)
    parse_key(name)
    assert time.process_time() - start < 5  # quadratic time would be minutes
