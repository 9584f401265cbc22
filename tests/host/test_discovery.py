"""What is discovered, and from where: plugins in order, core, pins and traces, and a whole path of broken ones."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import helora_core.host.manager
from helora_core.errors import HeloraError
from helora_core.host.loading import CORE, choose
from helora_core.host.manager import PluginFailure, PluginManager, get_manager

DISTS = Path(__file__).parents[1] / "dists"
ALL_DISTS = sorted(folder.name for folder in DISTS.iterdir() if folder.is_dir() and folder.name != "__pycache__")
REPOSITORY = Path(helora_core.host.manager.__file__).parents[1]

Discover = Callable[..., PluginManager]
AddToPath = Callable[[Path], None]
WriteDist = Callable[[Path, str, str], None]
FailuresOf = Callable[[PluginManager, str], list[PluginFailure]]
FailureOf = Callable[[PluginManager, str], PluginFailure]
KeepsWorking = Callable[[PluginManager], bool]


# A plugin in order


def test_a_healthy_plugin_offers_everything_it_has(discover: Discover, keeps_working: KeepsWorking) -> None:
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
    discover: Discover,
    add_to_path: AddToPath,
    tmp_path: Path,
    failures_of: FailuresOf,
    keeps_working: KeepsWorking,
    write_dist: WriteDist,
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


def test_a_plugin_cannot_take_the_place_of_a_core_packing(
    discover: Discover, failure_of: FailureOf, keeps_working: KeepsWorking
) -> None:
    manager = discover("takes_core_packing", "healthy")
    failure = failure_of(manager, "takes_core_packing")
    assert (failure.stage, failure.code) == ("register", "plugin-conflict")
    assert manager.packings()["rank_bsgs"].plugin == "core"
    assert keeps_working(manager)


def test_a_plugin_cannot_take_the_place_of_core(
    discover: Discover, failure_of: FailureOf, keeps_working: KeepsWorking
) -> None:
    manager = discover("takes_core_plugin", "healthy")
    failure = failure_of(manager, "core")
    assert (failure.distribution, failure.stage, failure.code) == (
        "fake-takes-core-plugin",
        "discover",
        "plugin-conflict",
    )
    assert "fake_takes_core_plugin" not in sys.modules
    assert keeps_working(manager)


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


def test_a_pin_that_is_not_installed_is_reported(
    discover: Discover, failure_of: FailureOf, keeps_working: KeepsWorking
) -> None:
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


def test_with_every_broken_plugin_installed_at_once_the_rest_keeps_working(
    discover: Discover, keeps_working: KeepsWorking
) -> None:
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
        "from helora_core.host.manager import get_manager; manager = get_manager();"
        "print(type(manager.load_backend('fake')).__name__, len(manager.failures) > 10)"
    )
    assert run_python(code, *ALL_DISTS) == "FakeBackend True"


def test_neither_importing_the_host_nor_listing_imports_anything_heavy() -> None:
    code = (
        "import sys; from helora_core.host.manager import PluginManager;"
        "manager = PluginManager.discover(environ={'HELORA_PLUGINS': 'healthy'});"
        "assert 'fake' in manager.backends() and 'rank_bsgs' in manager.packings();"
        "heavy = {'click', 'numpy', 'tenseal', 'Pyfhel', 'openfhe', 'desilofhe', 'cupy', 'safetensors'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    assert run_python(code, "healthy") == "[]"
