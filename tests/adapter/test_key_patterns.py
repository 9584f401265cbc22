"""Keys of PEFT's patterns: what PEFT matches is matched, and nothing takes longer than is allowed."""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from helora_core.adapter.key_patterns import LONGEST_NAME, Budget, KeyPattern, PatternRefused
from helora_core.adapter.peft import load_peft
from helora_core.adapter.peft_config import MOST_KEY_CHARACTERS, PEFTConfig
from helora_core.errors import AdapterFormatError

Q3 = "model.layers.3.self_attn.q_proj"
CATASTROPHES = [
    r"(a+)+b",
    r"(a|a)*b",
    r"(a|aa)+b",
    r"(.*)*b",
    r"(a*)*(a*)*b",
    r"(.*.*.*.*.*.*.*.*)b",
    r"(a?){40}a{40}",
    r"((a{1,9}){1,9}){1,9}b",
    "(a|a)" * 60 + "b",
    r"(x+x+)+y|(a|\w)*b",
]


def means(key: str, name: str) -> bool:
    return KeyPattern(key).matches(name, Budget())


def peft_means(key: str, name: str) -> bool:
    """The line of ``peft.utils.other.get_pattern_key`` in 0.21.2."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return re.match(rf"(.*\.)?({key})$", name) is not None


# What a key may be made of. Short ones: it is PEFT's own engine, and its time, that they are held against.
_ATOMS = st.sampled_from(
    ["a", "b", ".", "0", r"\.", r"\d", r"\w", r"\s", r"\D", r"\W", "[ab]", "[^a]", r"[a-b\d]", "^", "$", r"\b", r"\B",
     "", r"\Z", r"\A", "\n", "é", "²"]
)  # fmt: skip
_KEYS = st.recursive(
    _ATOMS,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map("|".join),
        inner.map("({})".format),
        inner.map("(?:{})".format),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,2}", "{,2}", "*?", "+?", "??"])).map(
            lambda parts: f"(?:{parts[0]}){parts[1]}"
        ),
    ),
    max_leaves=6,
)
_NAMES = st.text(st.sampled_from("ab.0_ \néA²"), max_size=7)


@given(_KEYS, _NAMES)
@example("a|b", "a.b")
@example(")|(a", "b")
@example("a)|(b", "aX")
@example("a)(b", "x.ab")
@example("a", "a\n")
@example("^a", "b.a")
@example("(|a)+", "aa")
def test_what_peft_matches_is_matched(key: str, name: str) -> None:
    try:
        expected = peft_means(key, name)
    except re.error:
        with pytest.raises(PatternRefused):
            KeyPattern(key)
        return
    assert means(key, name) is expected


@given(st.text(st.sampled_from("ab.*+?[]()^$|\\0{1,}-"), max_size=10), _NAMES)
def test_whatever_the_key_it_is_peft_or_a_refusal(key: str, name: str) -> None:
    assume(sum(map(key.count, "*+{")) < 4)
    try:
        found = means(key, name)
    except PatternRefused:
        return
    assert found is peft_means(key, name)


@pytest.mark.parametrize(
    "key",
    [r"(a)\1", "(?=a)a", "(?!a)b", "(?<=a)b", "(?<!a)b", "(a)?(?(1)b|c)", "(?i:a)", "(", "a{99999999999}", "a{5000}"],
)
def test_what_no_automaton_can_do_is_refused(key: str) -> None:
    with pytest.raises(PatternRefused):
        KeyPattern(key)


@pytest.mark.parametrize("key", CATASTROPHES)
def test_what_takes_a_backtracking_engine_for_ever_is_matched_at_once(key: str) -> None:
    start = time.process_time()
    assert not means(key, "a" * (LONGEST_NAME - 1) + "!")
    assert not means(key, "a." * 400 + "!")
    assert time.process_time() - start < 5  # a few ms each, on a machine that may be busy


@pytest.mark.parametrize("key", CATASTROPHES)
def test_an_adapter_with_such_a_key_loads(peft_directory: Callable[..., Path], key: str) -> None:
    name = "a" * 40 + "!"
    tensors = {f"base_model.model.{name}.lora_{side}.weight": _matrix(side) for side in "AB"}
    start = time.process_time()
    adapter = load_peft(peft_directory({"rank_pattern": {key: 7}, "alpha_pattern": {key: 9}}, tensors))
    assert name in adapter.modules
    assert time.process_time() - start < 5


def _matrix(side: str) -> Any:
    return ("F32", (2, 3) if side == "A" else (4, 2), bytes(24 if side == "A" else 32))


def test_steps_are_spent_for_all_modules_of_an_adapter_together() -> None:
    budget = Budget(1000)
    pattern = KeyPattern(r".*(q|k)_proj")
    for layer in range(5):
        pattern.matches(f"model.layers.{layer}.q_proj", budget)
    names = (f"model.layers.{layer}.q_proj" for layer in range(1000))
    with pytest.raises(PatternRefused, match="too long"):
        all(pattern.matches(name, budget) for name in names)


def test_keys_that_take_too_long_together_are_refused_by_a_typed_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("helora_core.adapter.peft_config.Budget", lambda: Budget(10))
    config = PEFTConfig(r=8, lora_alpha=16, alpha_pattern={".*x|.*y": 2})
    with pytest.raises(AdapterFormatError, match="alpha_pattern"):
        config.scaling_of(Q3)


def test_names_too_long_to_match_are_refused() -> None:
    with pytest.raises(AdapterFormatError, match="characters"):
        PEFTConfig(r=8, lora_alpha=16, rank_pattern={"q": 2}).rank_of("a" * (LONGEST_NAME + 1))


def test_too_much_text_in_keys_is_refused(peft_directory: Callable[..., Path]) -> None:
    patterns = {f"{'a' * 1000}{number}": 2 for number in range(MOST_KEY_CHARACTERS // 1000)}
    with pytest.raises(AdapterFormatError, match="characters"):
        load_peft(peft_directory({"rank_pattern": patterns}))


def test_adapters_of_thousands_of_named_modules_stay_within_the_budget() -> None:
    """As EVA saves them: every module by name in both patterns."""
    names = [f"model.layers.{layer}.mlp.experts.{expert}.up" for layer in range(30) for expert in range(10)]
    config = PEFTConfig(
        r=8, lora_alpha=8, rank_pattern=dict.fromkeys(names, 2), alpha_pattern=dict.fromkeys(names, 3.0)
    )
    assert all(config.scaling_of(name) == 1.5 for name in names)
