from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helora_core.adapter.names import close_names, matches, natural_key

NAMES = st.text(alphabet="ab.0123456789", max_size=12)


def test_layer_2_comes_before_layer_10() -> None:
    names = ["layers.10.q_proj", "layers.2.v_proj", "layers.2.q_proj", "layers.1.q_proj", "embed"]
    assert sorted(names, key=natural_key) == [
        "embed",
        "layers.1.q_proj",
        "layers.2.q_proj",
        "layers.2.v_proj",
        "layers.10.q_proj",
    ]


@given(st.lists(NAMES, unique=True), st.randoms(use_true_random=False))
def test_order_does_not_depend_on_the_order_given(names: list[str], chance: random.Random) -> None:
    shuffled = names[:]
    chance.shuffle(shuffled)
    assert sorted(names, key=natural_key) == sorted(shuffled, key=natural_key)


@given(st.integers(0, 10**30), st.integers(0, 10**30))
def test_numbers_compare_by_value(a: int, b: int) -> None:
    assert (natural_key(f"h.{a}.x") < natural_key(f"h.{b}.x")) == (a < b)


def test_numbers_that_python_will_not_convert_still_compare() -> None:
    assert natural_key("h." + "9" * 10_000) < natural_key("h.1" + "0" * 10_000)


@pytest.mark.parametrize(
    ("pattern", "meant"),
    [
        ("q_proj", True),
        ("self_attn.q_proj", True),
        ("*.q_proj", True),
        ("layers.3.self_attn.q_proj", True),
        ("model.layers.3.self_attn.q_proj", True),
        ("layers.[0-3].*", True),
        ("*_proj", True),
        ("model.*", True),
        ("proj", False),
        ("Q_proj", False),
        ("layers.[0-2].*", False),
        ("self_attn", False),
        ("attn.q_proj", False),
        ("", False),
    ],
)
def test_patterns_match_the_name_or_its_end_after_a_dot(pattern: str, meant: bool) -> None:
    assert matches("model.layers.3.self_attn.q_proj", pattern) is meant


def test_close_names_are_endings_as_long_as_the_one_wanted() -> None:
    names = [f"model.layers.{i}.self_attn.{p}" for i in range(40) for p in ("q_proj", "v_proj")]
    assert close_names("q_prj", names)[0] == "q_proj"
    assert "layers.3.self_attn.q_proj" in close_names("layers.3.self_atn.q_proj", names)
    assert close_names("zzz", names) == []
