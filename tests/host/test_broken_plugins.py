"""Plugins that break while they are imported, read or called are reported, and the rest keeps working."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from helora_core.host.manager import PluginFailure, PluginManager

DISTS = Path(__file__).parents[1] / "dists"

Discover = Callable[..., PluginManager]
AddToPath = Callable[[Path], None]
WriteDist = Callable[[Path, str, str], None]
FailuresOf = Callable[[PluginManager, str], list[PluginFailure]]
FailureOf = Callable[[PluginManager, str], PluginFailure]
KeepsWorking = Callable[[PluginManager], bool]


# Import


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("import fake_library_that_nobody_has", "ModuleNotFoundError: No module named 'fake_library_that_nobody_has'"),
        ("raise OSError('libfake_acme.so.3: no such file')", "OSError: libfake_acme.so.3"),
        ("raise SystemExit('this processor has no AVX-512')", "SystemExit: this processor has no AVX-512"),
        ("def broken(:", "SyntaxError"),
        ("raise RuntimeError", "RuntimeError"),
        ("raise MemoryError('no room')", "MemoryError"),
        ("class PanicException(BaseException): pass\nraise PanicException('index out of bounds')", "PanicException"),
    ],
)
def test_whatever_an_import_raises_is_reported_and_the_rest_keeps_working(
    discover: Discover,
    add_to_path: AddToPath,
    tmp_path: Path,
    code: str,
    name: str,
    failure_of: FailureOf,
    keeps_working: KeepsWorking,
    write_dist: WriteDist,
) -> None:
    write_dist(tmp_path, "fake_any", code)
    add_to_path(tmp_path)
    manager = discover("healthy")
    failure = failure_of(manager, "fake_any")
    assert (failure.stage, failure.code) == ("import", "plugin-load-error")
    assert f"raised {name}" in failure.reason
    assert "fake_any" in failure.next_step
    assert failure.error.__cause__ is not None
    assert keeps_working(manager)


def test_ctrl_c_during_an_import_is_the_users(
    discover: Discover, add_to_path: AddToPath, tmp_path: Path, write_dist: WriteDist
) -> None:
    write_dist(tmp_path, "fake_any", "raise KeyboardInterrupt")
    add_to_path(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        discover("healthy")


# Metadata


def test_unreadable_metadata_is_reported_and_the_rest_keeps_working(
    discover: Discover, keeps_working: KeepsWorking
) -> None:
    manager = discover("damaged_metadata", "healthy")
    (failure,) = (failure for failure in manager.failures if failure.distribution == "fake-damaged-metadata")
    assert failure.stage == "discover"
    assert str(DISTS / "damaged_metadata") in failure.reason
    assert isinstance(failure.error.__cause__, TypeError)
    assert failure.next_step
    assert keeps_working(manager)


def test_metadata_that_is_not_text_is_reported_and_the_rest_keeps_working(
    discover: Discover, add_to_path: AddToPath, tmp_path: Path, keeps_working: KeepsWorking, write_dist: WriteDist
) -> None:
    write_dist(tmp_path, "fake_any", "")
    for file in (tmp_path / "fake_any-1.0.dist-info").iterdir():
        file.write_bytes(b"[helora]\n\xff\xfe = \xff\n")
    add_to_path(tmp_path)
    manager = discover("healthy")
    (failure,) = (failure for failure in manager.failures if str(tmp_path) in failure.reason)
    assert (failure.stage, failure.distribution) == ("discover", None)
    assert keeps_working(manager)


@pytest.mark.parametrize("backported", [False, True], ids=["importlib.metadata", "importlib_metadata"])
def test_distributions_without_a_name_are_loaded_all_the_same(
    discover: Discover,
    add_to_path: AddToPath,
    tmp_path: Path,
    backported: bool,
    failure_of: FailureOf,
    write_dist: WriteDist,
) -> None:
    if backported:  # importing it replaces the finder, and its metadata raise where the standard library's are empty
        pytest.importorskip("importlib_metadata")
    for plugin in ("fake_any", "fake_other"):
        write_dist(tmp_path, plugin, "raise RuntimeError")
        (tmp_path / f"{plugin}-1.0.dist-info" / "METADATA").unlink()
    add_to_path(tmp_path)
    manager = discover()
    for plugin in ("fake_any", "fake_other"):
        failure = failure_of(manager, plugin)
        assert (failure.stage, failure.distribution, failure.version) == ("import", None, None)
        assert f"the unnamed distribution of plugin '{plugin}'" in failure.next_step


def test_two_distributions_with_one_entry_point_name_are_both_refused(
    discover: Discover, failures_of: FailuresOf, keeps_working: KeepsWorking
) -> None:
    manager = discover("same_entry_point_one", "same_entry_point_two", "healthy")
    failures = failures_of(manager, "twin")
    assert {failure.distribution for failure in failures} == {"fake-twin-one", "fake-twin-two"}
    for failure in failures:
        assert (failure.stage, failure.code) == ("discover", "plugin-conflict")
        assert "fake-twin-one 1.0" in failure.reason
        assert "fake-twin-two 2.0" in failure.reason
        assert "Uninstall all but one of them, for instance fake-twin" in failure.next_step
    assert not {"twin_one", "twin_two"} & set(manager.backends())
    assert keeps_working(manager)


# Hooks


def test_a_misspelt_hook_fails_its_plugin_alone_and_the_right_name_is_suggested(
    discover: Discover, failure_of: FailureOf, keeps_working: KeepsWorking
) -> None:
    manager = discover("misspelt_hook", "healthy")
    failure = failure_of(manager, "misspelt_hook")
    assert (failure.stage, failure.code) == ("validate", "plugin-load-error")
    assert "helora_backend," in failure.reason
    assert "Did you mean 'helora_backends'?" in failure.next_step
    assert keeps_working(manager)


def test_a_hook_without_its_marker_is_reported_and_not_passed_over(
    discover: Discover, failure_of: FailureOf, keeps_working: KeepsWorking
) -> None:
    manager = discover("unmarked_hook", "healthy")
    failure = failure_of(manager, "unmarked_hook")
    assert failure.stage == "validate"
    assert "@hookimpl" in failure.next_step
    assert keeps_working(manager)


def test_a_hook_of_a_wrong_signature_fails_its_plugin_alone(
    discover: Discover, failure_of: FailureOf, keeps_working: KeepsWorking
) -> None:
    manager = discover("wrong_signature", "healthy")
    failure = failure_of(manager, "wrong_signature")
    assert failure.stage == "validate"
    assert "helora_backends(config)" in failure.reason
    assert keeps_working(manager)


@pytest.mark.parametrize("code", ["", "thing = None"])
def test_a_plugin_without_hooks_is_reported(
    discover: Discover, add_to_path: AddToPath, tmp_path: Path, code: str, failure_of: FailureOf, write_dist: WriteDist
) -> None:
    write_dist(tmp_path, "fake_any", code)
    if code:
        entry_points = tmp_path / "fake_any-1.0.dist-info" / "entry_points.txt"
        entry_points.write_text("[helora]\nfake_any = fake_any_module:thing\n", encoding="utf-8")
    add_to_path(tmp_path)
    failure = failure_of(discover(), "fake_any")
    assert failure.stage == "validate"
    assert "no hook" in failure.reason


def test_a_hook_from_a_later_helora_may_be_declared_optional(
    discover: Discover, add_to_path: AddToPath, tmp_path: Path, failures_of: FailuresOf, write_dist: WriteDist
) -> None:
    code = "from helora_core.hookspecs import hookimpl\n@hookimpl(optionalhook=True)\ndef helora_later(): return ()"
    write_dist(tmp_path, "fake_any", code)
    add_to_path(tmp_path)
    manager = discover()
    assert "fake_any" in {origin.plugin for origin in manager.plugins}
    assert not failures_of(manager, "fake_any")


def test_hooks_that_raise_are_reported_each_and_the_rest_keeps_working(
    discover: Discover, failures_of: FailuresOf, keeps_working: KeepsWorking
) -> None:
    manager = discover("hook_raises", "healthy")
    assert manager.cli_commands()
    assert manager.telemetry_sinks()
    manager.notify_plan_compiled(SimpleNamespace())
    failures = failures_of(manager, "hook_raises")
    assert [failure.reason.split()[0] for failure in failures] == [
        "helora_backends",
        "helora_packings",
        "helora_cli_commands",
        "helora_telemetry_sinks",
        "helora_plan_compiled",
    ]
    assert {failure.stage for failure in failures} == {"call"}
    assert "half_offered" not in manager.backends()
    assert len(sys.modules["fake_healthy"].plans) == 1
    assert keeps_working(manager)


def test_an_observer_that_always_raises_is_reported_once(discover: Discover) -> None:
    manager = discover("hook_raises", "healthy")
    before = len(manager.failures)
    for _ in range(3):
        manager.notify_plan_compiled(SimpleNamespace())
    assert len(manager.failures) == before + 1
    assert len(sys.modules["fake_healthy"].plans) == 3


def test_payloads_of_a_wrong_type_are_reported_each_and_the_rest_keeps_working(
    discover: Discover, failures_of: FailuresOf, keeps_working: KeepsWorking
) -> None:
    manager = discover("wrong_payloads", "healthy")
    commands, sinks = manager.cli_commands(), manager.telemetry_sinks()
    backends, packings, nameless, no_sink = (failure.reason for failure in failures_of(manager, "wrong_payloads"))
    assert backends.endswith("gave dict, not a BackendSpec with a name")
    assert packings.endswith("raised TypeError: 'int' object is not iterable")
    assert nameless.endswith("gave Command, not a Command with a name")
    assert no_sink.endswith("gave NoneType, not a callable")
    assert None not in {*(command.name for command in commands), *sinks}
    assert keeps_working(manager)
