"""Installed plugins and the command line, tested in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from helora_core.cli.main import main
from helora_core.conformance import absence
from helora_core.conformance.runner import conform
from helora_core.errors import BackendUnavailable
from helora_core.host.manager import get_manager

pytest_plugins = ["pytester"]

PLUGIN = """
    from importlib.util import find_spec

    from helora_core.hookspecs import hookimpl
    from helora_core.specs import BackendSpec

    def by_looking():
        return None if find_spec("fakelib") else "the library fakelib is not installed"

    def by_using():
        import fakelib

    def by_hoping():
        return None

    def not_here():
        return "the library fakelib needs a processor with more qubits"

    {imports}

    @hookimpl
    def helora_backends():
        yield BackendSpec(
            name="fake", target="fake_backend:Fake", summary="A double.", library="fakelib",
            provides_security={secure}, availability={availability},
        )
"""

BACKEND = """
    from doubles import DOUBLES, HonestBackend
    from doubles.drawing import DrawsAlikeInEveryProcess

    class Fake({base}):
        name = "fake"
"""


class Installed:
    """A folder on ``sys.path`` with two distributions: a plugin for the backend ``fake``, and its library."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._write("fakelib.py", "")
        self._distribution("fakelib")

    def plugin(
        self,
        availability: str = "by_looking",
        *,
        imports: str = "",
        double: str = "",
        base: str = "",
        secure: bool = True,
    ) -> None:
        """With this availability, these imports, and the fault of this double, or with that base class."""
        self._write("fake_plugin.py", PLUGIN.format(availability=availability, imports=imports, secure=secure))
        base = base or (f"type(DOUBLES[{double!r}].factory())" if double else "HonestBackend")
        self._write("fake_backend.py", BACKEND.format(base=base))
        self._distribution("helora-fake", "[helora]\nfake = fake_plugin\n", needs='fakelib; extra == "native"')

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """``python -m …`` in a process of its own."""
        path = os.pathsep.join([str(self.folder), str(Path(__file__).parent)])
        return subprocess.run(
            [sys.executable, "-m", *command],
            cwd=self.folder, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=120,
        )  # fmt: skip

    def _write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(textwrap.dedent(text), encoding="utf-8")

    def _distribution(self, name: str, entry_points: str = "", needs: str = "") -> None:
        info = self.folder / f"{name.replace('-', '_')}-1.2.dist-info"
        info.mkdir()
        needed = f"Requires-Dist: {needs}\n" if needs else ""
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n{needed}", encoding="utf-8")
        (info / "entry_points.txt").write_text(entry_points, encoding="utf-8")
        (info / "top_level.txt").write_text(name.replace("-", "_"), encoding="utf-8")


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installed]:
    """The plugin host finds what this test installs, and forgets it afterwards."""
    folder = tmp_path / "installed"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    get_manager.cache_clear()
    yield Installed(folder)
    get_manager.cache_clear()
    for module in ("fake_plugin", "fake_backend", "fakelib"):
        sys.modules.pop(module, None)


WORDS = "test_where_its_library_is_missing_it_says_so_in_words"
LAZY = "test_listing_the_backend_imports_none_of_its_code"


def test_a_plugin_that_looks_for_its_library_keeps_the_laws_about_plugins(
    installed: Installed, capsys: pytest.CaptureFixture[str]
) -> None:
    installed.plugin()
    assert conform("fake", keyword=f"{WORDS} or {LAZY}") == 0
    shown = capsys.readouterr().out
    assert "2 passed" in shown
    assert "  fake: helora-fake 1.2, fakelib 1.2\n" in shown


@pytest.mark.parametrize("availability", ["by_hoping", "by_using"])
def test_a_plugin_that_does_not_look_or_raises_is_caught(installed: Installed, availability: str) -> None:
    installed.plugin(availability)
    assert conform("fake", keyword=WORDS) == pytest.ExitCode.TESTS_FAILED


def test_a_plugin_that_imports_its_backend_is_caught(installed: Installed) -> None:
    installed.plugin(imports="import fake_backend")
    assert conform("fake", keyword=LAZY) == pytest.ExitCode.TESTS_FAILED


@pytest.mark.parametrize(
    ("base", "status"),
    [("HonestBackend", pytest.ExitCode.OK), ("DrawsAlikeInEveryProcess", pytest.ExitCode.TESTS_FAILED)],
)
def test_a_generator_that_every_process_starts_alike_is_caught(
    installed: Installed, base: str, status: pytest.ExitCode
) -> None:
    installed.plugin(base=base)
    assert conform("fake", keyword="two_processes_do_not_draw_alike") == status


def test_an_emulation_is_called_one_and_is_spared_the_laws_of_secrecy(
    installed: Installed, capsys: pytest.CaptureFixture[str]
) -> None:
    installed.plugin(secure=False, double="sends its values in the clear")
    assert conform("fake", keyword="the_bytes_do_not_contain") == 0
    shown = capsys.readouterr().out
    assert "  laws about abilities that it does not claim, not run: " in shown
    assert "SKIPPED" not in shown
    assert "  fake: helora-fake 1.2, fakelib 1.2; an emulation, which hides nothing\n" in shown


def test_a_broken_law_makes_the_command_fail(installed: Installed) -> None:
    installed.plugin(double="rotates to the right")
    shown = CliRunner().invoke(main, ["conform", "fake", "-k", "slot_one_to_slot_zero"])
    assert shown.exit_code == 1
    assert "test_rotate_brings_slot_one_to_slot_zero" in shown.stdout


Run = Callable[..., pytest.RunResult]


@pytest.fixture
def run_class(pytester: pytest.Pytester) -> Run:
    """Run one law through the test class of a plugin."""

    def run(backend: str, *arguments: str) -> pytest.RunResult:
        pytester.makepyfile(f"""
            from helora_core.conformance.base import BackendConformance


            class TestFake(BackendConformance):
                backend = {backend!r}
        """)
        return pytester.runpytest_inprocess(
            "-rsE", "-p", "no:cacheprovider", "-p", "no:unraisableexception", "-k", "slot_one_to_slot_zero", *arguments
        )

    return run


def test_where_the_library_is_missing_the_class_is_skipped_with_the_reason(
    installed: Installed, run_class: Run
) -> None:
    installed.plugin("not_here")
    result = run_class("fake")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["SKIPPED*the library fakelib needs a processor with more qubits*"])


def test_a_library_that_is_required_must_be_there(installed: Installed, run_class: Run) -> None:
    installed.plugin("not_here")
    result = run_class("fake", "--helora-require")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*BackendUnavailable*the library fakelib needs a processor with more qubits*"])


@pytest.mark.parametrize("name", ["fkae", ""])
def test_a_name_that_nobody_registered_is_an_error(installed: Installed, run_class: Run, name: str) -> None:
    installed.plugin()
    result = run_class(name)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines([f"*BackendUnavailable*no loaded plugin offers the backend {name!r}*"])


def test_the_kit_costs_other_projects_nothing(installed: Installed) -> None:
    """pytest loads the kit's plugin wherever helora-core is installed; without laws, it imports nothing heavy."""
    (installed.folder / "test_other.py").write_text(
        "import sys\n\n\ndef test_nothing_heavy():\n"
        "    heavy = {'numpy', 'msgspec', 'helora_core.host.manager', 'helora_core.conformance.base', 'tenseal'}\n"
        "    assert not heavy & sys.modules.keys()\n    assert 'helora_core.conformance.plugin' in sys.modules\n",
        encoding="utf-8",
    )
    # Hypothesis, which this environment has, imports NumPy by itself where it is installed.
    shown = installed.run("pytest", "-q", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", "test_other.py")
    assert "1 passed" in shown.stdout, shown.stdout


# The command.


def test_the_command_answers_with_pytests_status(capsys: pytest.CaptureFixture[str]) -> None:
    assert conform("numpy", keyword="slot_one_to_slot_zero") == 0
    assert "1 passed" in capsys.readouterr().out
    assert conform("numpy", keyword="no_law_is_called_so") == pytest.ExitCode.NO_TESTS_COLLECTED


def test_the_command_ignores_the_configuration_that_lies_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --no-such-option\n", encoding="utf-8")
    (tmp_path / "conftest.py").write_text("raise RuntimeError\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert conform("numpy", keyword="slot_one_to_slot_zero", json_path=Path("report.json"), quiet=True) == 0
    assert (tmp_path / "report.json").is_file()


def test_an_unknown_backend_is_refused_before_anything_runs() -> None:
    with pytest.raises(BackendUnavailable, match="'numpi'"):
        conform("numpi")
    assert CliRunner().invoke(main, ["conform", "numpi"]).exit_code != 0


def test_without_its_extra_the_kit_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BackendUnavailable) as refused:
        conform("numpy")
    assert "[conformance]" in refused.value.hint


def test_a_library_that_comes_with_its_plugin_cannot_be_missing() -> None:
    assert absence.modules_of(get_manager().backends()["numpy"]) == []


assert np  # imported here: pytester forgets what a run imported first, and NumPy can be imported once only
