"""Errors are an interface: codes are matched on by scripts, hints are read by people."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest

from helora_core import errors
from helora_core.errors import HeloraError

KINDS: list[Any] = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]

DESIGNED = """
    PluginLoadError PluginConflict BackendUnavailable CapabilityMissing InsecureParameters SlotOverflow ScaleMismatch
    LevelExhausted MissingRotationKey ForeignCiphertext CorruptPayload AdapterFormatError BudgetExceeded PrecisionLost
    LeakageRefused
"""


def test_every_refusal_of_the_design_exists() -> None:
    assert {kind.__name__ for kind in KINDS} >= set(DESIGNED.split())


def test_codes_are_unique() -> None:
    assert len({kind.code for kind in KINDS}) == len(KINDS)


def test_each_has_its_name_as_code_a_docstring_and_a_text_with_the_hint() -> None:
    for kind in KINDS:
        assert issubclass(kind, HeloraError), kind
        assert kind.code == re.sub(r"(?<=[a-z])(?=[A-Z])", "-", kind.__name__).lower()
        assert vars(kind).get("__doc__", "").strip(), f"{kind} says in no docstring of its own what is refused"
        error = kind("It broke.", hint="Mend it.")
        assert (error.message, error.hint) == ("It broke.", "Mend it.")
        assert str(error) == f"It broke. [{kind.code}] Hint: Mend it."
        assert error.args == ("It broke.",)
        with pytest.raises(TypeError, match="hint"):
            kind("It broke.")
