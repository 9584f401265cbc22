"""Every command that writes looks at the place before the work, and replaces what is there only with --force."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helora_core.adapter.lora import LoRAAdapter, ModuleShape
from helora_core.adapter.npz import save_npz
from helora_core.adapter.synthetic import synthetic_activations, synthetic_module

SHAPE = ModuleShape.parse("37:20:3")
RUN = ("run", "--adapter", "adapter.npz", "--input", "x.npy", "--backend", "numpy")
SERVE = ("run", "--artifact", "served", "--input", "x.npy", "--backend", "numpy")
COMPILE = ("compile", "--adapter", "adapter.npz", "--packing", "rank_bsgs")
CALIBRATE = ("calibrate", "--backend", "numpy", "--ring", "4096", "--rounds", "1")
CONFORM = ("conform", "numpy")

FILES: dict[str, tuple[tuple[str, ...], str, str]] = {
    "run": ((*RUN, "--module", "q_proj"), "--output", "delta.npy"),
    "run several": (RUN, "--output", "delta.npy"),
    "serve": ((*SERVE, "--module", "q_proj"), "--output", "delta.npy"),
    "calibrate": (CALIBRATE, "--output", "profile.json"),
    "conform json": (CONFORM, "--json", "report.json"),
    "conform html": (CONFORM, "--html", "report.html"),
}
"""For each command that writes files: its line, the option that names one, and a name."""


@pytest.fixture(autouse=True)
def _inputs(tmp_path: Path, helora: Callable[..., Any], request: pytest.FixtureRequest) -> None:
    modules = [synthetic_module(SHAPE, seed=i, name=f"layers.0.{name}") for i, name in enumerate(("q_proj", "v_proj"))]
    save_npz(LoRAAdapter.from_modules(modules, source="test"), tmp_path / "adapter.npz")
    np.save(tmp_path / "x.npy", synthetic_activations(SHAPE, 3, seed=1))
    if "serve" in request.node.name:
        assert helora(*COMPILE, "--out", "served").exit_code == 0


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail if anything is computed."""
    for name in ("parties.adapter_run.run_adapter", "planning.calibrate.calibrate", "conformance.runner.conform"):
        monkeypatch.setattr(f"helora_core.{name}", lambda *_, **__: pytest.fail("it was computed all the same"))


def written(name: str) -> list[str]:
    """The files that a command writes."""
    file = FILES[name][2]
    return [f"delta.layers.0.{part}.npy" for part in ("q_proj", "v_proj")] if name == "run several" else [file]


def parts(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*.part")]


every_command = pytest.mark.parametrize("name", FILES)


@every_command
def test_a_file_that_is_there_is_refused_before_any_work(
    helora: Callable[..., Any], no_work: None, tmp_path: Path, name: str
) -> None:
    line, option, file = FILES[name]
    target = tmp_path / written(name)[-1]
    target.write_bytes(b"old")
    shown = helora(*line, option, file)
    assert shown.exit_code == 1
    assert "invalid-input" in shown.output
    assert "--force" in shown.output
    assert target.read_bytes() == b"old"
    assert not parts(tmp_path)


@every_command
@pytest.mark.parametrize("file", ["missing/it.npy", "adapter.npz/it.npy"])
def test_a_place_that_cannot_be_is_refused_before_any_work(
    helora: Callable[..., Any], no_work: None, tmp_path: Path, name: str, file: str
) -> None:
    line, option, _ = FILES[name]
    shown = helora(*line, option, file)
    assert shown.exit_code == 1
    assert "invalid-input" in shown.output
    assert not parts(tmp_path)


@every_command
def test_a_directory_in_its_place_is_no_file(
    helora: Callable[..., Any], no_work: None, tmp_path: Path, name: str
) -> None:
    line, option, file = FILES[name]
    (tmp_path / written(name)[0]).mkdir()
    shown = helora(*line, option, file, "--force")
    assert shown.exit_code in (1, 2)
    assert (tmp_path / written(name)[0]).is_dir()


def _report(*_: Any, json_path: Path | None, html_path: Path | None, **__: Any) -> int:
    """Stands in for the kit."""
    for path in filter(None, (json_path, html_path)):
        path.write_bytes(b"report")
    return 0


@every_command
def test_with_force_it_is_replaced(
    helora: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    monkeypatch.setattr("helora_core.conformance.runner.conform", _report)
    line, option, file = FILES[name]
    for each in written(name):
        (tmp_path / each).write_bytes(b"old")
    shown = helora(*line, option, file, "--force")
    assert shown.exit_code == 0, shown.output
    assert all((tmp_path / each).read_bytes() != b"old" for each in written(name))
    assert not parts(tmp_path)


@every_command
def test_what_fails_late_leaves_the_old_file(
    helora: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    for target in ("parties.report.result_row", "planning.profile_files.dump_profile", "conformance.runner.conform"):
        monkeypatch.setattr(f"helora_core.{target}", fail)
    line, option, file = FILES[name]
    for each in written(name):
        (tmp_path / each).write_bytes(b"old")
    assert helora(*line, option, file, "--force").exit_code == 1
    assert all((tmp_path / each).read_bytes() == b"old" for each in written(name))
    assert not parts(tmp_path)


def test_what_is_not_precise_enough_leaves_the_old_file(helora: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "delta.npy").write_bytes(b"old")
    faint = synthetic_module(SHAPE, seed=9, name="faint")
    modules = [type(faint)(faint.name, faint.down, faint.up * 1e-9, faint.scaling)]
    save_npz(LoRAAdapter.from_modules(modules, source="test"), tmp_path / "adapter.npz")
    monkey = helora(*RUN, "--output", "delta.npy", "--force", "--min-bits", "45")
    assert monkey.exit_code == 1
    assert (tmp_path / "delta.npy").read_bytes() == b"old"
    assert not parts(tmp_path)


def test_names_that_would_meet_in_one_file_get_two(helora: Callable[..., Any], tmp_path: Path) -> None:
    modules = [synthetic_module(SHAPE, seed=i, name=name) for i, name in enumerate(("a/b", "a%2Fb"))]
    save_npz(LoRAAdapter.from_modules(modules, source="test"), tmp_path / "adapter.npz")
    assert helora(*RUN, "--output", "d.npy").exit_code == 0
    assert {path.name for path in tmp_path.glob("d.*")} == {"d.a%2Fb.npy", "d.a%252Fb.npy"}


class TestCompile:
    def test_the_place_is_looked_at_before_anything_is_compiled(
        self, helora: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(
            "helora_core.compiler.compile.compile_plan", lambda *_, **__: pytest.fail("it was compiled all the same")
        )
        (tmp_path / "taken").mkdir()
        (tmp_path / "taken" / "thesis.txt").write_text("x", encoding="utf-8")
        for target in ("taken", "missing/out", "adapter.npz", "adapter.npz/out", "x" * 300):
            shown = helora(*COMPILE, "--out", target, "--force")
            assert (shown.exit_code, "invalid-input" in shown.output) == (1, True), shown.output
        assert (tmp_path / "taken" / "thesis.txt").exists()

    def test_an_artifact_stays_when_a_later_one_fails(
        self, helora: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        assert helora(*COMPILE, "--out", "served").exit_code == 0
        before = (tmp_path / "served" / "manifest.json").read_bytes()

        def fail(*_: Any, **__: Any) -> Any:
            raise KeyboardInterrupt

        monkeypatch.setattr("helora_core.artifact.write.write_constants", fail)
        assert helora(*COMPILE, "--out", "served", "--force").exit_code == 1
        assert (tmp_path / "served" / "manifest.json").read_bytes() == before
        assert not parts(tmp_path)

    def test_what_came_meanwhile_is_kept_and_so_is_the_artifact(
        self, helora: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        import helora_core.artifact.write as module

        real = module.write_constants

        def and_meanwhile(*arguments: Any, **options: Any) -> Any:
            (tmp_path / "served").mkdir(exist_ok=True)
            (tmp_path / "served" / "thesis.txt").write_text("x", encoding="utf-8")
            return real(*arguments, **options)

        monkeypatch.setattr(module, "write_constants", and_meanwhile)
        shown = helora(*COMPILE, "--out", "served")
        assert shown.exit_code == 1
        assert "the new artifact is in" in shown.output
        assert [path.name for path in (tmp_path / "served").iterdir()] == ["thesis.txt"]
        (kept,) = parts(tmp_path)
        assert (tmp_path / kept / "manifest.json").is_file()

    def test_weights_that_are_not_private_are_said_to_be_so(self, helora: Callable[..., Any]) -> None:
        assert "WEIGHTS NOT PRIVATE" not in helora(*COMPILE, "--out", "a").stderr
        assert "WEIGHTS NOT PRIVATE" in helora(*COMPILE, "--out", "b", "--no-private-weights", "--json").stderr
        assert "fewer than 40" in helora(*COMPILE, "--out", "c", "--sanitize", "20").stderr


@pytest.mark.usefixtures("on_seal")
class TestServe:
    def test_what_is_sanitised_too_little_is_refused(
        self, helora: Callable[..., Any], refusal: Callable[..., Any]
    ) -> None:
        assert helora(*COMPILE, "--out", "a", "--sanitize", "20").exit_code == 0
        line = ("run", "--artifact", "a", "--input", "x.npy", "--output", "d.npy", "--backend", "numpy")
        error = refusal(*line)
        assert error["code"] == "leakage-refused"
        assert "20 bits; 40 are asked for" in error["message"]
        assert helora(*line, "--sanitize", "20").exit_code == 0

    def test_the_security_table_is_insisted_on(self, helora: Callable[..., Any], refusal: Callable[..., Any]) -> None:
        assert helora(*COMPILE, "--out", "a").exit_code == 0
        line = ("run", "--artifact", "a", "--input", "x.npy", "--output", "d.npy", "--backend", "numpy")
        assert refusal(*line, "--security-table", "adps16-quantum")["code"] == "insecure-parameters"
        assert helora(*COMPILE, "--out", "b", "--security-table", "adps16-quantum").exit_code == 0
        line = ("run", "--artifact", "b", "--input", "x.npy", "--output", "d.npy", "--backend", "numpy")
        assert helora(*line, "--security-table", "adps16-quantum").exit_code == 0
