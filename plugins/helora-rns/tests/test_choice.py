"""The kernel set that runs: the fastest there is, or the one that is asked for and no other."""

from __future__ import annotations

import pytest

from helora_core.errors import BackendUnavailable
from helora_rns import choice, compiled, info


def test_the_fastest_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(choice.VARIABLE, raising=False)
    assert choice.chosen() == choice.available()[-1]
    assert choice.available()[:1] == ("numpy",)


def test_each_can_be_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in choice.available():
        monkeypatch.setenv(choice.VARIABLE, name)
        assert choice.chosen() == name


def test_what_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "supported", lambda: ("scalar",))
    for name in ("avx2", "avx512ifma", "sse9"):
        monkeypatch.setenv(choice.VARIABLE, name)
        with pytest.raises(BackendUnavailable, match=name) as refused:
            choice.chosen()
        assert "scalar" in refused.value.hint


def test_without_a_library_numpy_says_that_it_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "supported", tuple)
    monkeypatch.delenv(choice.VARIABLE, raising=False)
    choice._made.cache_clear()
    with pytest.warns(choice.SlowKernelsWarning, match="C\\+\\+"):
        assert choice.kernels(1024, (1073707009,)).name == "numpy"
    choice._made.cache_clear()


def test_info_names_what_runs_and_tests_it(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(choice.VARIABLE, raising=False)
    assert info.main() == 0
    told = capsys.readouterr().out
    assert f"kernels    {choice.chosen()}" in told
    assert told.count("passed") == len(choice.available())
    monkeypatch.setenv("HELORA_THREADS", "none")
    assert info.main() == 1
    monkeypatch.setenv(choice.VARIABLE, "sse9")
    assert info.main() == 1
