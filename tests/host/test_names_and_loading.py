"""Backends and packings by name: who may claim one, and what loading it says when it cannot be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from helora_core.errors import BackendUnavailable, PackingUnavailable, PluginConflict, PluginLoadError
from helora_core.host.manager import PluginFailure, PluginManager

DISTS = Path(__file__).parents[1] / "dists"

Discover = Callable[..., PluginManager]
AddToPath = Callable[[Path], None]
WriteDist = Callable[[Path, str, str], None]
FailuresOf = Callable[[PluginManager, str], list[PluginFailure]]
FailureOf = Callable[[PluginManager, str], PluginFailure]
KeepsWorking = Callable[[PluginManager], bool]


# Names


def test_a_backend_name_that_two_plugins_claim_is_refused_to_both(
    discover: Discover, failure_of: FailureOf, keeps_working: KeepsWorking
) -> None:
    manager = discover("same_backend_left", "same_backend_right", "healthy")
    for plugin in ("left", "right"):
        failure = failure_of(manager, plugin)
        assert (failure.stage, failure.code) == ("register", "plugin-conflict")
        assert "fake-left 1.0 (plugin 'left') and by fake-right 2.0 (plugin 'right')" in failure.reason
        assert "Uninstall all but one of them, for instance fake-right" in failure.next_step
    assert "shared" not in manager.backends()
    with pytest.raises(PluginConflict, match=r"fake-left 1\.0"):
        manager.load_backend("shared")
    assert keeps_working(manager)


def test_the_pin_that_a_conflict_suggests_settles_it(
    discover: Discover, failure_of: FailureOf, keeps_working: KeepsWorking
) -> None:
    manager = discover("same_backend_left", "same_backend_right", "healthy")
    suggested = failure_of(manager, "left").next_step.partition("HELORA_PLUGINS=")[2].rstrip(".")
    assert "core" not in suggested.split(",")
    settled = PluginManager.discover(environ={"HELORA_PLUGINS": suggested})
    assert settled.backends()["shared"].plugin == "left"
    assert keeps_working(settled)


def test_a_plugin_that_offers_one_name_twice_is_told_so(
    discover: Discover, add_to_path: AddToPath, tmp_path: Path, failure_of: FailureOf, write_dist: WriteDist
) -> None:
    code = (DISTS / "same_backend_left" / "fake_left.py").read_text(encoding="utf-8")
    write_dist(tmp_path, "fake_any", code.replace("yield BackendSpec(", "yield from 2 * (BackendSpec(").rstrip() + ",)")
    add_to_path(tmp_path)
    failure = failure_of(discover(), "fake_any")
    assert failure.stage == "register"
    assert "twice" in failure.next_step


# Availability and loading


def test_a_missing_library_is_a_reason_in_words_and_no_failure(discover: Discover, failures_of: FailuresOf) -> None:
    manager = discover("missing_library", "healthy")
    assert manager.backends()["no_library"].availability == "the library fake-absent-library is not installed"
    assert not failures_of(manager, "missing_library")
    with pytest.raises(BackendUnavailable, match="fake-absent-library is not installed") as refusal:
        manager.load_backend("no_library")
    assert "fake-absent-library" in refusal.value.hint
    assert "pip install" not in refusal.value.hint  # no name of an index is made up


@pytest.mark.parametrize("name", ["check_raises", "check_answers_true", "check_answers_nothing_said"])
def test_a_broken_availability_check_is_reported_and_the_backend_is_not_usable(
    discover: Discover, name: str, failures_of: FailuresOf, failure_of: FailureOf, keeps_working: KeepsWorking
) -> None:
    manager = discover("broken_availability", "healthy")
    assert not failures_of(manager, "broken_availability")
    assert manager.backends()[name].availability
    assert manager.backends()[name].availability == manager.backends()[name].availability
    failure = failure_of(manager, "broken_availability")
    assert failure.stage == "availability"
    assert name in failure.reason
    with pytest.raises(BackendUnavailable):
        manager.load_backend(name)
    assert keeps_working(manager)


def test_a_backend_whose_target_fails_to_import_is_reported_with_its_cause(
    discover: Discover, failure_of: FailureOf, keeps_working: KeepsWorking
) -> None:
    manager = discover("broken_target", "healthy")
    with pytest.raises(PluginLoadError, match=r"libfake_acme\.so\.3") as refusal:
        manager.load_backend("broken")
    assert isinstance(refusal.value.__cause__, OSError)
    failure = failure_of(manager, "broken_target")
    assert (failure.stage, failure.error) == ("load", refusal.value)
    assert keeps_working(manager)


def test_a_target_that_names_nothing_is_refused(discover: Discover) -> None:
    manager = discover("broken_target")
    with pytest.raises(PluginLoadError, match="NoSuchClass"):
        manager.load_packing("broken_packing")


def test_an_unknown_name_is_refused_with_the_known_and_the_nearest(discover: Discover) -> None:
    manager = discover("healthy")
    with pytest.raises(BackendUnavailable, match=r"'fakee'.*there are:.*fake") as backend_refusal:
        manager.load_backend("fakee")
    assert "Did you mean 'fake'?" in backend_refusal.value.hint
    with pytest.raises(PackingUnavailable, match=r"rank_bsgs") as packing_refusal:
        manager.load_packing("rank_bsg")
    assert "Did you mean 'rank_bsgs'?" in packing_refusal.value.hint


def test_the_refusal_of_an_unknown_backend_names_the_plugin_that_broke(discover: Discover) -> None:
    manager = discover("raises_oserror")
    with pytest.raises(BackendUnavailable, match=r"fake-raises-oserror.*libfake_acme\.so\.3"):
        manager.load_backend("acme")


def test_the_refusal_of_an_unknown_backend_leaves_out_what_has_nothing_to_do_with_it(discover: Discover) -> None:
    manager = discover("broken_availability")
    assert manager.backends()["check_raises"].availability
    with pytest.raises(BackendUnavailable) as refusal:
        manager.load_backend("acme")
    assert "libfake_acme" not in refusal.value.message
