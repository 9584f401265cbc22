"""The plugin host against real distributions on disk: tests/dists holds one folder per thing that can go wrong."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import helora_core.manager
from helora_core.errors import BackendUnavailable, HeloraError, PackingUnavailable, PluginConflict, PluginLoadError
from helora_core.manager import PluginFailure, PluginManager, get_manager
from helora_core.plugin_loading import CORE, choose

DISTS = Path(__file__).parent / "dists"
ALL_DISTS = sorted(folder.name for folder in DISTS.iterdir() if folder.is_dir() and folder.name != "__pycache__")
REPOSITORY = Path(helora_core.manager.__file__).parents[1]

Discover = Callable[..., PluginManager]


@pytest.fixture
def add_to_path(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], None]]:
    """Put a folder on ``sys.path``; afterwards, forget it and the modules imported from it."""
    folders: list[Path] = []

    def add(folder: Path) -> None:
        folders.append(folder)
        monkeypatch.syspath_prepend(str(folder))

    yield add
    for name, module in list(sys.modules.items()):
        if Path(getattr(module, "__file__", None) or "/").parent in folders:
            del sys.modules[name]


@pytest.fixture
def discover(add_to_path: Callable[[Path], None]) -> Discover:
    """Discover with the named folders of tests/dists installed besides what is."""

    def run(*folders: str, **environ: str) -> PluginManager:
        for folder in folders:
            add_to_path(DISTS / folder)
        return PluginManager.discover(environ=environ)

    return run


def write_dist(folder: Path, plugin: str, code: str) -> None:
    """Install a plugin of one module in a folder."""
    info = folder / f"{plugin}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {plugin}\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[helora]\n{plugin} = {plugin}_module\n", encoding="utf-8")
    (folder / f"{plugin}_module.py").write_text(code, encoding="utf-8")


def failures_of(manager: PluginManager, plugin: str) -> list[PluginFailure]:
    return [failure for failure in manager.failures if failure.plugin == plugin]


def failure_of(manager: PluginManager, plugin: str) -> PluginFailure:
    (failure,) = failures_of(manager, plugin)
    assert failure.code
    assert failure.reason
    assert failure.next_step
    return failure


def keeps_working(manager: PluginManager) -> bool:
    """Whether the healthy plugin and core still offer what they have."""
    load = manager.load_backend("fake"), manager.load_packing("fake_packing")
    return None not in load and "rank_bsgs" in manager.packings() and not failures_of(manager, "healthy")


# A plugin in order


def test_a_healthy_plugin_offers_everything_it_has(discover: Discover) -> None:
    manager = discover("healthy")
    assert manager.backends()["fake"].spec.summary == "stands in for a backend"
    assert manager.packings()["fake_packing"].spec.target == "fake_healthy_backend:FakePacking"
    assert "fake-command" in {command.name for command in manager.cli_commands()}
    assert sys.modules["fake_healthy"].events.append in manager.telemetry_sinks()
    assert keeps_working(manager)


def test_what_is_registered_says_where_it_comes_from(discover: Discover) -> None:
    backend = discover("healthy").backends()["fake"]
    assert (backend.plugin, backend.distribution, backend.version) == ("healthy", "fake-healthy", "1.2")
    assert str(backend.origin) == "fake-healthy 1.2 (plugin 'healthy')"


def test_the_library_version_is_that_of_the_installed_library(discover: Discover) -> None:
    backends = discover("healthy", "missing_library", "broken_target").backends()
    assert backends["fake"].library_version
    assert backends["no_library"].library_version is None
    assert backends["broken"].library_version is None


def test_listing_imports_no_target(discover: Discover) -> None:
    manager = discover("healthy")
    assert manager.backends()["fake"].availability is None
    assert "fake_healthy_backend" not in sys.modules


def test_a_backend_and_a_packing_are_made_once(discover: Discover) -> None:
    manager = discover("healthy")
    assert manager.load_backend("fake") is manager.load_backend("fake")
    assert manager.load_packing("fake_packing") is manager.load_packing("fake_packing")


def test_threads_that_load_at_once_get_the_same_backend(discover: Discover) -> None:
    manager, together = discover("healthy"), threading.Barrier(4)

    def load(_: int) -> object:
        together.wait()
        return manager.load_backend("fake")

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(load, range(4)))) == 1


def test_observers_see_the_plan_itself(discover: Discover) -> None:
    manager, plan = discover("healthy"), SimpleNamespace(digest="0")
    manager.notify_plan_compiled(plan)
    assert sys.modules["fake_healthy"].plans == [plan]


def test_a_distribution_twice_on_the_path_counts_once(
    discover: Discover, add_to_path: Callable[[Path], None], tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    write_dist(copy, "Fake_Healthy", "raise RuntimeError('the first on the path hides this one')")
    add_to_path(copy)
    manager = discover("healthy")
    assert keeps_working(manager)
    assert not failures_of(manager, "Fake_Healthy")


# Core


def test_core_is_there_without_installed_metadata() -> None:
    manager = PluginManager.discover([], environ={})
    assert [origin.plugin for origin in manager.plugins] == ["core"]
    assert manager.packings()["rank_bsgs"].distribution == "helora-core"


def test_core_is_loaded_once_when_its_metadata_is_installed() -> None:
    installed = EntryPoint(name=CORE.name, value=CORE.value, group=CORE.group)
    manager = PluginManager.discover([installed], environ={})
    assert [origin.plugin for origin in manager.plugins] == ["core"]
    assert manager.failures == ()


def test_a_plugin_cannot_take_the_place_of_a_core_packing(discover: Discover) -> None:
    manager = discover("takes_core_packing", "healthy")
    failure = failure_of(manager, "takes_core_packing")
    assert (failure.stage, failure.code) == ("register", "plugin-conflict")
    assert manager.packings()["rank_bsgs"].plugin == "core"
    assert keeps_working(manager)


def test_a_plugin_cannot_take_the_place_of_core(discover: Discover) -> None:
    manager = discover("takes_core_plugin", "healthy")
    failure = failure_of(manager, "core")
    assert (failure.distribution, failure.stage, failure.code) == (
        "fake-takes-core-plugin",
        "discover",
        "plugin-conflict",
    )
    assert "fake_takes_core_plugin" not in sys.modules
    assert keeps_working(manager)


# Import


def test_a_plugin_that_raises_importerror_is_reported_and_the_rest_keeps_working(discover: Discover) -> None:
    manager = discover("raises_import_error", "healthy")
    failure = failure_of(manager, "raises_import_error")
    assert (failure.stage, failure.code) == ("import", "plugin-load-error")
    assert "fake_library_that_nobody_has" in failure.reason
    assert "fake-raises-import-error" in failure.next_step
    assert keeps_working(manager)


def test_a_plugin_that_raises_oserror_is_reported_and_the_rest_keeps_working(discover: Discover) -> None:
    manager = discover("raises_oserror", "healthy")
    failure = failure_of(manager, "raises_oserror")
    assert failure.stage == "import"
    assert "libfake_acme.so.3" in failure.reason
    assert isinstance(failure.error.__cause__, OSError)
    assert keeps_working(manager)


def test_a_plugin_that_exits_the_interpreter_is_reported_and_the_rest_keeps_working(discover: Discover) -> None:
    manager = discover("raises_system_exit", "healthy")
    failure = failure_of(manager, "raises_system_exit")
    assert failure.stage == "import"
    assert "SystemExit: this processor has no AVX-512" in failure.reason
    assert keeps_working(manager)


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("def broken(:", "SyntaxError"),
        ("raise RuntimeError", "RuntimeError"),
        ("raise MemoryError('no room')", "MemoryError"),
        ("class PanicException(BaseException): pass\nraise PanicException('index out of bounds')", "PanicException"),
    ],
)
def test_whatever_an_import_raises_is_reported_and_the_rest_keeps_working(
    discover: Discover, add_to_path: Callable[[Path], None], tmp_path: Path, code: str, name: str
) -> None:
    write_dist(tmp_path, "fake_any", code)
    add_to_path(tmp_path)
    manager = discover("healthy")
    failure = failure_of(manager, "fake_any")
    assert failure.stage == "import"
    assert f"raised {name}" in failure.reason
    assert keeps_working(manager)


def test_ctrl_c_during_an_import_is_the_users(
    discover: Discover, add_to_path: Callable[[Path], None], tmp_path: Path
) -> None:
    write_dist(tmp_path, "fake_any", "raise KeyboardInterrupt")
    add_to_path(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        discover("healthy")


# Metadata


def test_unreadable_metadata_is_reported_and_the_rest_keeps_working(discover: Discover) -> None:
    manager = discover("damaged_metadata", "healthy")
    (failure,) = (failure for failure in manager.failures if failure.distribution == "fake-damaged-metadata")
    assert failure.stage == "discover"
    assert str(DISTS / "damaged_metadata") in failure.reason
    assert isinstance(failure.error.__cause__, TypeError)
    assert failure.next_step
    assert keeps_working(manager)


def test_metadata_that_is_not_text_is_reported_and_the_rest_keeps_working(
    discover: Discover, add_to_path: Callable[[Path], None], tmp_path: Path
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
    add_to_path: Callable[[Path], None],
    tmp_path: Path,
    backported: bool,
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


def test_two_distributions_with_one_entry_point_name_are_both_refused(discover: Discover) -> None:
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


def test_a_misspelt_hook_fails_its_plugin_alone_and_the_right_name_is_suggested(discover: Discover) -> None:
    manager = discover("misspelt_hook", "healthy")
    failure = failure_of(manager, "misspelt_hook")
    assert (failure.stage, failure.code) == ("validate", "plugin-load-error")
    assert "helora_backend," in failure.reason
    assert "Did you mean 'helora_backends'?" in failure.next_step
    assert keeps_working(manager)


def test_a_hook_without_its_marker_is_reported_and_not_passed_over(discover: Discover) -> None:
    manager = discover("unmarked_hook", "healthy")
    failure = failure_of(manager, "unmarked_hook")
    assert failure.stage == "validate"
    assert "@hookimpl" in failure.next_step
    assert keeps_working(manager)


def test_a_hook_of_a_wrong_signature_fails_its_plugin_alone(discover: Discover) -> None:
    manager = discover("wrong_signature", "healthy")
    failure = failure_of(manager, "wrong_signature")
    assert failure.stage == "validate"
    assert "helora_backends(config)" in failure.reason
    assert keeps_working(manager)


@pytest.mark.parametrize("code", ["", "thing = None"])
def test_a_plugin_without_hooks_is_reported(
    discover: Discover, add_to_path: Callable[[Path], None], tmp_path: Path, code: str
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
    discover: Discover, add_to_path: Callable[[Path], None], tmp_path: Path
) -> None:
    code = "from helora_core.hookspecs import hookimpl\n@hookimpl(optionalhook=True)\ndef helora_later(): return ()"
    write_dist(tmp_path, "fake_any", code)
    add_to_path(tmp_path)
    manager = discover()
    assert "fake_any" in {origin.plugin for origin in manager.plugins}
    assert not failures_of(manager, "fake_any")


def test_hooks_that_raise_are_reported_each_and_the_rest_keeps_working(discover: Discover) -> None:
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


def test_payloads_of_a_wrong_type_are_reported_each_and_the_rest_keeps_working(discover: Discover) -> None:
    manager = discover("wrong_payloads", "healthy")
    commands, sinks = manager.cli_commands(), manager.telemetry_sinks()
    backends, packings, nameless, no_sink = (failure.reason for failure in failures_of(manager, "wrong_payloads"))
    assert backends.endswith("gave dict, not a BackendSpec with a name")
    assert packings.endswith("raised TypeError: 'int' object is not iterable")
    assert nameless.endswith("gave Command, not a Command with a name")
    assert no_sink.endswith("gave NoneType, not a callable")
    assert None not in {*(command.name for command in commands), *sinks}
    assert keeps_working(manager)


# Names


def test_a_backend_name_that_two_plugins_claim_is_refused_to_both(discover: Discover) -> None:
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


def test_the_pin_that_a_conflict_suggests_settles_it(discover: Discover) -> None:
    manager = discover("same_backend_left", "same_backend_right", "healthy")
    suggested = failure_of(manager, "left").next_step.partition("HELORA_PLUGINS=")[2].rstrip(".")
    assert "core" not in suggested.split(",")
    settled = PluginManager.discover(environ={"HELORA_PLUGINS": suggested})
    assert settled.backends()["shared"].plugin == "left"
    assert keeps_working(settled)


def test_a_plugin_that_offers_one_name_twice_is_told_so(
    discover: Discover, add_to_path: Callable[[Path], None], tmp_path: Path
) -> None:
    code = (DISTS / "same_backend_left" / "fake_left.py").read_text(encoding="utf-8")
    write_dist(tmp_path, "fake_any", code.replace("yield BackendSpec(", "yield from 2 * (BackendSpec(").rstrip() + ",)")
    add_to_path(tmp_path)
    failure = failure_of(discover(), "fake_any")
    assert failure.stage == "register"
    assert "twice" in failure.next_step


# Availability and loading


def test_a_missing_library_is_a_reason_in_words_and_no_failure(discover: Discover) -> None:
    manager = discover("missing_library", "healthy")
    assert manager.backends()["no_library"].availability == "the library fake-absent-library is not installed"
    assert not failures_of(manager, "missing_library")
    with pytest.raises(BackendUnavailable, match="fake-absent-library is not installed") as refusal:
        manager.load_backend("no_library")
    assert "pip install fake-absent-library" in refusal.value.hint


@pytest.mark.parametrize("name", ["check_raises", "check_answers_true", "check_answers_nothing_said"])
def test_a_broken_availability_check_is_reported_and_the_backend_is_not_usable(discover: Discover, name: str) -> None:
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


def test_a_backend_whose_target_fails_to_import_is_reported_with_its_cause(discover: Discover) -> None:
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


# The environment


def test_pins_load_the_named_plugins_and_core(discover: Discover) -> None:
    manager = discover("healthy", "missing_library", "raises_oserror", HELORA_PLUGINS=" healthy , missing_library,")
    assert [origin.plugin for origin in manager.plugins] == ["core", "healthy", "missing_library"]
    assert manager.failures == ()
    assert "fake_raises_oserror" not in sys.modules


def test_an_empty_pin_means_core_alone(discover: Discover) -> None:
    manager = discover("healthy", "raises_oserror", HELORA_PLUGINS="")
    assert [origin.plugin for origin in manager.plugins] == ["core"]
    assert manager.failures == ()


def test_a_pin_that_is_not_installed_is_reported(discover: Discover) -> None:
    manager = discover("healthy", HELORA_PLUGINS="healthy,helthy")
    failure = failure_of(manager, "helthy")
    assert failure.stage == "discover"
    assert "Did you mean 'healthy'?" in failure.next_step
    assert keeps_working(manager)


def test_the_environment_is_read_on_discovery(discover: Discover, monkeypatch: pytest.MonkeyPatch) -> None:
    discover("healthy")
    monkeypatch.setenv("HELORA_PLUGINS", "healthy")
    assert [origin.plugin for origin in PluginManager.discover().plugins] == ["core", "healthy"]


def test_the_process_has_one_manager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HELORA_PLUGINS", "")
    get_manager.cache_clear()
    try:
        assert get_manager() is get_manager()
    finally:
        get_manager.cache_clear()


def test_a_trace_tells_what_was_loaded_and_what_was_not(discover: Discover, capsys: pytest.CaptureFixture[str]) -> None:
    discover("healthy", "raises_oserror", HELORA_TRACE_PLUGINS="1")
    trace = capsys.readouterr().err
    assert "helora: fake-healthy 1.2 (plugin 'healthy') loaded in " in trace
    assert "helora: fake-raises-oserror 1.0 (plugin 'raises_oserror') failed to import in " in trace


@pytest.mark.parametrize("environ", [{}, {"HELORA_TRACE_PLUGINS": "0"}, {"HELORA_TRACE_PLUGINS": ""}])
def test_without_a_trace_nothing_is_printed(
    discover: Discover, capsys: pytest.CaptureFixture[str], environ: dict[str, str]
) -> None:
    discover("healthy", "raises_oserror", **environ)
    assert capsys.readouterr() == ("", "")


# Everything at once


def test_with_every_broken_plugin_installed_at_once_the_rest_keeps_working(discover: Discover) -> None:
    manager = discover(*ALL_DISTS)
    manager.cli_commands()
    manager.telemetry_sinks()
    manager.notify_plan_compiled(SimpleNamespace())
    broken = ["no_library", "check_raises", "check_answers_true", "broken", "shared", "twin_one", "half_offered"]
    for name in broken:
        with pytest.raises(HeloraError):
            manager.load_backend(name)
    for failure in manager.failures:
        assert failure.code in {"plugin-load-error", "plugin-conflict"}
        for text in (failure.reason, failure.next_step):
            assert text == " ".join(text.split())
            assert text
    assert keeps_working(manager)


@given(
    installed=st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(["m", "n"]))),
    pins=st.none() | st.sets(st.sampled_from("abcde")),
)
def test_every_plugin_is_loaded_or_reported_or_left_out_by_the_pins(
    installed: list[tuple[str, str]], pins: set[str] | None
) -> None:
    chosen, failures = choose([EntryPoint(name, value, "helora") for name, value in installed], pins)
    names = [entry_point.name for entry_point in chosen]
    reported = {failure.plugin for failure in failures}
    assert names[0] == "core"
    assert names[1:] == sorted(set(names[1:]))
    assert not reported & set(names)
    assert {*names[1:], *reported} == ({name for name, _ in installed} if pins is None else pins)


# A fresh process


def run_python(code: str, *folders: str) -> str:
    """What the code prints in a fresh interpreter that has the folders of tests/dists installed."""
    path = os.pathsep.join([str(REPOSITORY), *(str(DISTS / folder) for folder in folders)])
    environ = {name: value for name, value in os.environ.items() if not name.startswith("HELORA_")}
    process = subprocess.run(
        [sys.executable, "-c", code],
        env={**environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return process.stdout.strip()


def test_a_fresh_process_survives_every_broken_plugin_on_its_path() -> None:
    code = (
        "from helora_core.manager import get_manager; manager = get_manager();"
        "print(type(manager.load_backend('fake')).__name__, len(manager.failures) > 10)"
    )
    assert run_python(code, *ALL_DISTS) == "FakeBackend True"


def test_neither_importing_the_host_nor_listing_imports_anything_heavy() -> None:
    code = (
        "import sys; from helora_core.manager import PluginManager;"
        "manager = PluginManager.discover(environ={'HELORA_PLUGINS': 'healthy'});"
        "assert 'fake' in manager.backends() and 'rank_bsgs' in manager.packings();"
        "heavy = {'click', 'numpy', 'tenseal', 'Pyfhel', 'openfhe', 'desilofhe', 'cupy', 'safetensors'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    assert run_python(code, "healthy") == "[]"
