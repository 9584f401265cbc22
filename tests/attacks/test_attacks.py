"""Every attack succeeds where its protection is off, and fails where it is on."""

from __future__ import annotations

import pytest
from attackers.cases import CASES, Case, Lab

from helora_core.backend.protocol import Backend


@pytest.fixture(scope="module")
def lab(tenseal: Backend) -> Lab:
    return Lab(tenseal)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_attack_succeeds_unprotected_and_fails_protected(case: Case, lab: Lab) -> None:
    unprotected, protected = case.unprotected(lab), case.protected(lab)
    print(f"{case.statistic}: {unprotected:.3f} unprotected, {protected:.3f} protected; threshold {case.threshold:.3f}")
    assert unprotected > case.threshold, f"the attack fails though {case.off}"
    assert protected <= case.threshold
