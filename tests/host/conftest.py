"""The plugin host against real distributions on disk: tests/dists holds one folder per thing that can go wrong."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from helora_core.host.manager import PluginFailure, PluginManager

DISTS = Path(__file__).parents[1] / "dists"

AddToPath = Callable[[Path], None]
Discover = Callable[..., PluginManager]
WriteDist = Callable[[Path, str, str], None]
FailuresOf = Callable[[PluginManager, str], list[PluginFailure]]
FailureOf = Callable[[PluginManager, str], PluginFailure]
KeepsWorking = Callable[[PluginManager], bool]


@pytest.fixture
def add_to_path(monkeypatch: pytest.MonkeyPatch) -> Iterator[AddToPath]:
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
def discover(add_to_path: AddToPath) -> Discover:
    """Discover with the named folders of tests/dists installed besides what is."""

    def run(*folders: str, **environ: str) -> PluginManager:
        for folder in folders:
            add_to_path(DISTS / folder)
        return PluginManager.discover(environ=environ)

    return run


@pytest.fixture(scope="session")
def write_dist() -> WriteDist:
    """``write_dist(folder, plugin, code)`` installs a plugin of one module in a folder."""

    def write(folder: Path, plugin: str, code: str) -> None:
        info = folder / f"{plugin}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {plugin}\nVersion: 1.0\n", encoding="utf-8")
        (info / "entry_points.txt").write_text(f"[helora]\n{plugin} = {plugin}_module\n", encoding="utf-8")
        (folder / f"{plugin}_module.py").write_text(code, encoding="utf-8")

    return write


@pytest.fixture(scope="session")
def failures_of() -> FailuresOf:
    """What went wrong with a plugin, by its name."""
    return lambda manager, plugin: [failure for failure in manager.failures if failure.plugin == plugin]


@pytest.fixture(scope="session")
def failure_of(failures_of: FailuresOf) -> FailureOf:
    """The one failure of a plugin, which must say what happened and what to do."""

    def one(manager: PluginManager, plugin: str) -> PluginFailure:
        (failure,) = failures_of(manager, plugin)
        assert failure.code
        assert failure.reason
        assert failure.next_step
        return failure

    return one


@pytest.fixture(scope="session")
def keeps_working(failures_of: FailuresOf) -> KeepsWorking:
    """Whether the healthy plugin and core still offer what they have."""

    def check(manager: PluginManager) -> bool:
        load = manager.load_backend("fake"), manager.load_packing("fake_packing")
        return None not in load and "rank_bsgs" in manager.packings() and not failures_of(manager, "healthy")

    return check
