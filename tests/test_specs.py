"""What plugins hand over is checked when it is made, in the plugin's own hook."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helora_core.specs import BackendSpec, PackingSpec, needs

backend_spec = partial(BackendSpec, target="acme.backend:Acme", summary="", provides_security=True)
packing_spec = partial(PackingSpec, target="acme.packing:Acme", summary="")
both = pytest.mark.parametrize("spec", [backend_spec, packing_spec], ids=["backend", "packing"])


@both
@given(name=st.from_regex(r"[a-z][a-z0-9_]{0,31}", fullmatch=True))
def test_lower_case_names_of_at_most_32_characters_are_taken(spec: Any, name: str) -> None:
    assert spec(name=name).name == name


@both
@pytest.mark.parametrize("name", ["", "Acme", "acme-fhe", "2fast", "_acme", "acme ", "acme\n", "é", "a" * 33])
def test_other_names_are_refused(spec: Any, name: str) -> None:
    with pytest.raises(ValueError, match="is not lower-case letters"):
        spec(name=name)


@both
@pytest.mark.parametrize(
    "target", ["", "acme", "acme:", ":Acme", "acme..x:Acme", "acme.:Acme", ".acme:Acme", "a:b:c", "a:b.c"]
)
def test_other_targets_are_refused(spec: Any, target: str) -> None:
    with pytest.raises(ValueError, match=r"not of the form 'package\.module:attribute'"):
        spec(name="acme", target=target)


def test_a_backend_must_say_whether_it_provides_security() -> None:
    with pytest.raises(TypeError, match="provides_security"):
        BackendSpec(name="acme", target="acme:Acme", summary="")


@pytest.mark.parametrize("promise", ["no", "True", 1, None, object()])
def test_security_is_promised_by_true_alone(promise: Any) -> None:
    with pytest.raises(ValueError, match="not a bool"):
        backend_spec(name="acme", provides_security=promise)


@pytest.mark.parametrize("preference", ["high", 1.5, True, None])
def test_a_preference_is_a_whole_number(preference: Any) -> None:
    with pytest.raises(ValueError, match="not an int"):
        backend_spec(name="acme", preference=preference)


def test_a_library_is_looked_for_and_not_imported() -> None:
    """``antigravity`` opens a browser when it is imported."""
    assert needs("antigravity", "pip install it")() is None
    assert "antigravity" not in sys.modules
    assert needs("no_such_library", "pip install 'helora-acme[native]'")() == (
        "the library no_such_library is not installed: pip install 'helora-acme[native]'"
    )
