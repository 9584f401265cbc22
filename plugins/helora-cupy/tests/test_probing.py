"""Why the backend cannot run is said in words, found out in a child process, and never by a crash."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from helora_core.errors import BackendUnavailable
from helora_core.host.manager import PluginManager
from helora_core.installing import install_line
from helora_core.planning.selection import select_backend
from helora_cupy import memory, probing, running

SAYS = "import json; print(json.dumps(dict({})))"


@pytest.mark.parametrize(
    ("probe", "words"),
    [
        (SAYS.format("reason='a CUDA driver, but no card'"), "a CUDA driver, but no card"),
        (SAYS.format("card='GTX 1080', capability=[6, 1], reason='whatever'"), "GTX 1080 has compute capability 6.1"),
        ("import os; os.abort()", "ended with -6"),
        ("raise SystemExit('no luck')", "ended with 1: no luck"),
        ("import time; time.sleep(60)", "did not answer within 1"),
        ("print('nonsense')", "gave no answer"),
        ("", "gave no answer"),
    ],
)
def test_whatever_the_driver_does_is_a_reason_in_words(probe: str, words: str) -> None:
    assert words in (probing.asked(probe, seconds=1 if "sleep" in probe else 20).reason or "")


def test_a_card_that_answers_is_described() -> None:
    found = probing.asked(SAYS.format("card='NVIDIA H100', capability=[9, 0], driver=13000, cupy='14.2'"))
    assert found == probing.Answer(None, "NVIDIA H100", (9, 0), 13000, "14.2")


def test_the_probe_itself_ends_with_an_answer() -> None:
    assert probing.asked().reason


def test_importing_the_plugin_starts_nothing_and_imports_no_array_library() -> None:
    program = "import sys, helora_cupy.plugin; print(sorted({'numpy', 'cupy', 'ctypes'} & set(sys.modules)))"
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert child.stdout.strip() == "[]"


@pytest.mark.parametrize(("name", "words"), [("", install_line("cuda12")), ("gpu", "is 'gpu'")])
def test_without_cupy_or_under_an_unknown_name_it_is_unavailable(
    monkeypatch: pytest.MonkeyPatch, name: str, words: str
) -> None:
    monkeypatch.setenv(probing.VARIABLE, name)
    monkeypatch.setattr(probing, "card", lambda: probing.Answer(reason=probing.not_installed()))
    assert words in (probing.availability() or "")
    with pytest.raises(BackendUnavailable, match="helora-cupy"):
        running.chosen()


def test_the_shim_runs_only_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(probing.VARIABLE, probing.SHIM)
    found = PluginManager.discover(environ={"HELORA_PLUGINS": "cupy"})
    assert found.backends()["cupy"].availability is None
    with pytest.raises(BackendUnavailable, match="cupy: HELORA_CUPY_DEVICE=shim is for tests"):
        select_backend(found, environ={}, allow_emulation=True)
    assert select_backend(found, "cupy", environ={}).secure


@pytest.mark.parametrize(("said", "size"), [("", None), ("512", 512), ("3k", 3 << 10), ("24GiB", 24 << 30)])
def test_a_limit_is_a_number_of_bytes(monkeypatch: pytest.MonkeyPatch, said: str, size: int | None) -> None:
    monkeypatch.setenv(memory.VARIABLE, said)
    assert memory.stated_limit() == size


@pytest.mark.parametrize("said", ["much", "-1", "0", "1.5G", "G"])
def test_any_other_limit_is_refused(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setenv(memory.VARIABLE, said)
    with pytest.raises(BackendUnavailable, match=memory.VARIABLE):
        memory.stated_limit()


def test_the_library_version_says_what_it_runs_on() -> None:
    program = textwrap.dedent(
        """
        from helora_cupy.backend import CupyBackend
        print(CupyBackend().library_version)
        """
    )
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "for tests" in child.stdout
