"""Errors are an interface: codes are matched on by scripts, hints are read by people."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest

from helora_core import errors
from helora_core.errors import HeloraError

KINDS: list[Any] = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)

DESIGNED = """
    PluginLoadError PluginConflict BackendUnavailable CapabilityMissing InsecureParameters SlotOverflow ScaleMismatch
    LevelExhausted MissingRotationKey ForeignCiphertext CorruptPayload AdapterFormatError BudgetExceeded PrecisionLost
    LeakageRefused
"""


def test_every_refusal_of_the_design_exists() -> None:
    assert {kind.__name__ for kind in KINDS} >= set(DESIGNED.split())


def test_codes_are_unique() -> None:
    assert len({kind.code for kind in KINDS}) == len(KINDS)


@every_kind
def test_every_error_is_a_helora_error(kind: type[HeloraError]) -> None:
    assert issubclass(kind, HeloraError)


@every_kind
def test_the_code_is_the_name_in_kebab_case(kind: type[HeloraError]) -> None:
    assert kind.code == re.sub(r"(?<=[a-z])(?=[A-Z])", "-", kind.__name__).lower()


@every_kind
def test_every_error_says_in_its_own_docstring_what_is_refused(kind: type[HeloraError]) -> None:
    assert vars(kind).get("__doc__", "").strip()


@every_kind
def test_the_text_has_message_code_and_hint(kind: type[HeloraError]) -> None:
    error = kind("It broke.", hint="Mend it.")
    assert (error.message, error.hint) == ("It broke.", "Mend it.")
    assert str(error) == f"It broke. [{kind.code}] Hint: Mend it."
    assert error.args == ("It broke.",)


@every_kind
def test_a_hint_cannot_be_left_out(kind: type[HeloraError]) -> None:
    with pytest.raises(TypeError, match="hint"):
        kind("It broke.")  # type: ignore[call-arg]
