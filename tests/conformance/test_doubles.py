"""Wrong backends test the kit: each is caught by the law it names, and the control by none.

By default every double is held to that law alone, and the controls to all but the costliest laws. With
``--helora-thorough`` each is held to the whole kit, slow laws included, which takes long and shows that every law
catches somebody.
"""

from __future__ import annotations

from collections import defaultdict

import pytest
from doubles import DOUBLES, HonestBackend
from doubles.controls import AutomaticBackend, LeastBackend, OneScaleBackend, SanitizingBackend
from doubles.table import DOCS, written
from trial import ALL, Trial, hold, hold_each

from helora_core.conformance.base import STANDARD_TESTS

NOT_FOR_DOUBLES = {
    "test_listing_the_backend_imports_none_of_its_code": "about plugins as installed: test_installed.py has them",
    "test_where_its_library_is_missing_it_says_so_in_words": "about plugins as installed: test_installed.py has them",
    "test_two_processes_do_not_draw_alike": "about plugins as installed: test_installed.py has them",
    "test_what_is_not_a_finite_real_vector_is_refused": "the sessions' own check, which no backend can break",
    "test_a_seed_is_refused_unless_it_is_claimed": "core's own check, which no backend can break",
    "test_a_public_key_is_refused_unless_it_is_claimed": "core's own check, which no backend can break",
}
"""Laws that catch no double, and why."""

COSTLY = frozenset({
    "test_a_thousand_encryptions_share_nothing",
    "test_a_thousand_public_key_encryptions_share_nothing",
    "test_delta_equals_the_plaintext_reference",
    "test_more_tokens_than_a_run_holds_are_all_right",
    "test_the_bound_holds_for_activations_of_any_size",
    "test_a_module_without_weights_gives_zero",
})  # fmt: skip
"""Laws that take most of a trial's time; the session `conformance` holds helora-numpy,
which the controls are made of, to them."""

OF_PROGRAMS = frozenset(
    {
        "test_a_program_gives_what_its_operations_give",
        "test_many_runs_at_once_are_each_as_if_alone",
    }
)
"""Costly as well; the honest backend is held to them, and other controls have its programs or none."""

PATIENT = {"adds up public zeros", "recycles old results"}
"""Doubles that take as long as a hundred others; their laws catch quicker ones as well."""

SLOW = frozenset(name for name, law in STANDARD_TESTS.items() if hasattr(law, "helora_slow"))


@pytest.fixture(scope="module")
def control(pytestconfig: pytest.Config) -> Trial:
    """The honest backend that all doubles are made of; costly and slow laws wait for ``--helora-thorough``."""
    thorough = pytestconfig.getoption("--helora-thorough")
    return hold(HonestBackend, ALL if thorough else ALL - COSTLY, thorough=thorough)


@pytest.fixture(scope="session")
def caught(request: pytest.FixtureRequest) -> dict[str, set[str]]:
    """Doubles by the law that caught them, as far as they were run."""
    return defaultdict(set)


def test_the_control_breaks_no_law(control: Trial, pytestconfig: pytest.Config) -> None:
    assert not control.caught()
    outcomes = {law: set(ends) for law, ends in control.outcomes.items() if set(ends) != {"passed"}}
    expected = {
        # What it does not claim, or does, and what only registered plugins have. All else ran.
        "test_a_public_key_is_refused_unless_it_is_claimed": {"skipped"},
        "test_a_fresh_ciphertext_travels_at_about_half_the_size": {"skipped"},
        "test_sanitised_results_are_random_anew_each_time": {"skipped"},
        "test_sanitising_many_gives_each_its_own": {"skipped"},
        "test_listing_the_backend_imports_none_of_its_code": {"skipped"},
        "test_where_its_library_is_missing_it_says_so_in_words": {"skipped"},
        "test_two_processes_do_not_draw_alike": {"skipped"},
        "test_centred_digits_make_no_slot_noisier_than_the_others": {"skipped"},
    }
    if pytestconfig.getoption("--helora-thorough"):
        # Packings that take a hundred thousand operations for a module that others take a hundred for.
        expected["test_delta_of_a_large_module_equals_the_plaintext_reference"] = {"passed", "skipped"}
    else:
        # Longer programs wait for it, whatever the law.
        outcomes = {law: ends for law, ends in outcomes.items() if law not in SLOW and ends != {"passed", "skipped"}}
    assert outcomes == expected
    left_out = set() if pytestconfig.getoption("--helora-thorough") else COSTLY
    assert control.outcomes.keys() >= STANDARD_TESTS.keys() - left_out


@pytest.mark.thorough  # and in the session ``conformance``
def test_the_control_breaks_no_slow_law() -> None:
    trial = hold(HonestBackend, SLOW, thorough=True)
    assert trial.outcomes.keys() == SLOW
    # What is skipped are packings that take a hundred thousand operations for a module that others take a hundred for.
    assert all("passed" in ends and {"passed", "skipped"} >= set(ends) for ends in trial.outcomes.values())


@pytest.mark.parametrize(
    "control",
    [
        LeastBackend,
        SanitizingBackend,
        pytest.param(AutomaticBackend, marks=pytest.mark.thorough),  # as openfhe_auto is, in the session `conformance`
        pytest.param(OneScaleBackend, marks=pytest.mark.thorough),
    ],
)
def test_a_backend_is_asked_for_what_it_claims_and_no_more(
    control: type[HonestBackend], pytestconfig: pytest.Config
) -> None:
    trial = hold(control, ALL if pytestconfig.getoption("--helora-thorough") else ALL - COSTLY - OF_PROGRAMS)
    assert not trial.caught()
    assert {end for ends in trial.outcomes.values() for end in ends} == {"passed", "skipped"}
    assert sum("passed" in ends for ends in trial.outcomes.values()) > 70


@pytest.fixture(scope="module")
def trials(request: pytest.FixtureRequest) -> dict[str, Trial]:
    """Of the doubles that are tested: each held to the law it names, in one run for all."""
    chosen = [
        DOUBLES[item.callspec.params["name"]]
        for item in request.session.items
        if isinstance(item, pytest.Function)
        and item.originalname == test_a_double_is_caught_by_the_law_it_names.__name__
    ]
    found: dict[str, Trial] = {}
    for slow in (False, True):
        some = [double for double in chosen if (double.law in SLOW) is slow]
        laws = {double.name: [double.law] for double in some}
        if some:
            found |= hold_each({double.name: double.factory for double in some}, laws, thorough=slow, briefly=True)
    return found


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.thorough) if name in PATIENT else name for name in DOUBLES]
)
def test_a_double_is_caught_by_the_law_it_names(
    name: str, caught: dict[str, set[str]], pytestconfig: pytest.Config, request: pytest.FixtureRequest
) -> None:
    double = DOUBLES[name]
    assert double.law in STANDARD_TESTS
    if pytestconfig.getoption("--helora-thorough"):
        trial = hold(double.factory, ALL, thorough=True)
    else:
        trial = request.getfixturevalue("trials")[name]
    ends = trial.outcomes[double.law]
    assert "failed" in ends, f"{double.law} ended {ends}: {double.fault}"
    # A fault shows in a law, never as an error in what is around it.
    assert not [law for law, ends in trial.outcomes.items() if "error" in ends]
    for law in trial.caught():
        caught[law].add(name)


def test_every_law_catches_a_double(caught: dict[str, set[str]], pytestconfig: pytest.Config) -> None:
    if not pytestconfig.getoption("--helora-thorough"):
        pytest.skip("only --helora-thorough holds every double to every law")
    assert set(STANDARD_TESTS) - caught.keys() == NOT_FOR_DOUBLES.keys()


def test_every_suite_has_a_double_of_its_own() -> None:
    suites = {STANDARD_TESTS[double.law].__module__ for double in DOUBLES.values()}
    assert suites == {law.__module__ for law in STANDARD_TESTS.values()}


def test_the_table_in_the_documentation_is_that_of_the_registry() -> None:
    assert DOCS.read_text(encoding="utf-8") == written(), "rewrite it: python tests/conformance/doubles/table.py"
