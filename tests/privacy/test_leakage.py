"""Leakage classes are ordered, stable words."""

from __future__ import annotations

import pytest

from helora_core.privacy.leakage import Leakage, LeakageClass


def test_classes_stand_from_least_to_most() -> None:
    assert [each.value for each in LeakageClass] == ["nothing", "masked z", "z", "products"]


@pytest.mark.parametrize(
    ("reveals", "needs_sanitize", "label"),
    [
        (LeakageClass.NOTHING, True, "nothing*"),
        (LeakageClass.NOTHING, False, "nothing"),
        (LeakageClass.PRODUCTS, False, "products"),
    ],
)
def test_an_asterisk_marks_what_holds_for_sanitised_results_only(
    reveals: LeakageClass, needs_sanitize: bool, label: str
) -> None:
    assert Leakage(key_holder=reveals, needs_sanitize=needs_sanitize, explanation="…").label == label


def test_leakage_cannot_be_talked_down_afterwards() -> None:
    leakage = Leakage(key_holder=LeakageClass.PRODUCTS, needs_sanitize=False, explanation="…")
    with pytest.raises(AttributeError):
        leakage.key_holder = LeakageClass.NOTHING  # type: ignore[misc]
