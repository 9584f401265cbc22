"""An artifact appears whole or not at all, replaces nothing but an artifact, and is the same bytes each time."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open

from helora_core.artifact.write import write_artifact
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.compiled import CompiledModule
from helora_core.errors import InsecureParameters, InvalidInput, InvalidProgram
from helora_core.host.manager import get_manager
from helora_core.params.ckks import CKKSParams


def contents(directory: Path) -> dict[str, bytes]:
    files = (path for path in sorted(directory.rglob("*")) if path.is_file())
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in files}


def test_the_files_are_those_documented(artifact: Path, modules: list[CompiledModule]) -> None:
    digests = {each.plan.digest for each in modules}
    assert set(contents(artifact)) == {
        "manifest.json",
        "parameters.json",
        *(f"plans/{digest}.json" for digest in digests),
        *(f"modules/{number:04d}.safetensors" for number in range(3)),
    }


def test_plaintexts_are_the_packings_own_for_any_reader(artifact: Path, modules: list[CompiledModule]) -> None:
    first = modules[0]
    file: Any
    with safe_open(artifact / "modules/0000.safetensors", framework="numpy") as file:
        stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    made = dict(first.plan.layout.constants(first.plan.normalized(first.module)))
    assert set(stored) == set(first.plan.constant_specs)
    for name, vector in stored.items():
        assert vector.dtype == np.float64
        if vector.ndim == 2:
            assert vector.shape == (first.plan.params.slots // first.plan.tokens_per_run, 1)
            vector = np.repeat(vector[:, 0], first.plan.tokens_per_run)
        np.testing.assert_array_equal(vector, made[name])


def test_equal_inputs_give_equal_bytes(artifact: Path, modules: list[CompiledModule], tmp_path: Path) -> None:
    again = write_artifact(tmp_path / "again", modules)
    assert contents(tmp_path / "again") == contents(artifact)
    assert again.bytes == sum(map(len, contents(artifact).values()))


SCRIPT = """
import sys
from pathlib import Path
from helora_core.adapter.lora import ModuleShape
from helora_core.adapter.synthetic import synthetic_module
from helora_core.compiler.compiled import CompiledModule, Part
from helora_core.artifact.write import write_artifact
from helora_core.compiler.compile import compile_plan
from helora_core.host.manager import get_manager

shapes = [ModuleShape.parse(text) for text in ("37:20:3", "24:8:2", "9:9:1")]
packing = get_manager().load_packing("rank_bsgs")
modules = [
    CompiledModule(synthetic_module(s, seed=i, name=f"m{i}"), (Part(name=f"m{i}", d_out=s.d_out),),
             compile_plan(s, packing, tokens=5, sanitize_bits=None if i else 40, private_weights=False))
    for i, s in enumerate(shapes)
]
print(write_artifact(Path(sys.argv[1]), modules).digest)
"""


def test_bytes_do_not_depend_on_the_process(tmp_path: Path) -> None:
    digests = {
        subprocess.run(
            [sys.executable, "-c", SCRIPT, str(tmp_path / seed)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1
    assert contents(tmp_path / "1") == contents(tmp_path / "2")


@pytest.mark.parametrize("replace", [False, True])
def test_what_is_no_artifact_is_never_replaced(
    modules: list[CompiledModule], tmp_path: Path, refused: Any, replace: bool
) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "thesis.txt").write_text("five years", encoding="utf-8")
    with refused(InvalidInput, "there"):
        write_artifact(tmp_path / "there", modules, replace=replace)
    assert contents(tmp_path / "there") == {"thesis.txt": b"five years"}


def test_an_artifact_with_something_else_in_it_is_not_replaced(
    artifact: Path, modules: list[CompiledModule], refused: Any
) -> None:
    (artifact / "notes.txt").write_text("mine", encoding="utf-8")
    with refused(InvalidInput, "notes.txt"):
        write_artifact(artifact, modules, replace=True)
    assert (artifact / "notes.txt").exists()


def test_an_artifact_is_replaced_only_when_asked(artifact: Path, modules: list[CompiledModule], refused: Any) -> None:
    with refused(InvalidInput, "not empty", hint="--force"):
        write_artifact(artifact, modules[:1])
    write_artifact(artifact, modules[:1], replace=True)
    assert not (artifact / "modules/0001.safetensors").exists()
    assert [path.name for path in artifact.parent.iterdir()] == [artifact.name]


def test_an_empty_directory_is_filled(modules: list[CompiledModule], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    write_artifact(tmp_path / "empty", modules[:1])
    assert (tmp_path / "empty" / "manifest.json").exists()


@pytest.mark.parametrize("kind", ["file", "link", "no parent"])
def test_places_that_cannot_be_written_are_refused(
    modules: list[CompiledModule], tmp_path: Path, refused: Any, kind: str
) -> None:
    target = tmp_path / ("absent/target" if kind == "no parent" else "target")
    if kind == "file":
        target.write_text("", encoding="utf-8")
    if kind == "link":
        target.symlink_to(tmp_path)
    with refused(InvalidInput, "target"):
        write_artifact(target, modules, replace=True)


class HalfWay(Exception):
    """Stands for whatever ends a process."""


@pytest.mark.parametrize("replace", [False, True])
def test_nothing_is_left_of_what_was_not_finished(
    artifact: Path, modules: list[CompiledModule], tmp_path: Path, replace: bool
) -> None:
    def fail(count: int) -> None:
        raise HalfWay

    before = contents(artifact)
    with pytest.raises(HalfWay):
        write_artifact(artifact if replace else tmp_path / "new", modules[:1], replace=replace, on_constant=fail)
    assert contents(artifact) == before
    assert [path.name for path in tmp_path.iterdir()] == ["artifact"]


@pytest.mark.parametrize("packing", ["zero_moai"])
def test_packings_whose_client_needs_the_adapter_are_refused(
    modules: list[CompiledModule], tmp_path: Path, refused: Any, packing: str
) -> None:
    module = modules[0].module
    plan = compile_plan(module.shape, get_manager().load_packing(packing), private_weights=False)
    with refused(InvalidInput, packing, "in the clear", hint="--adapter"):
        write_artifact(tmp_path / "new", [CompiledModule(module, modules[0].parts, plan)])
    assert list(tmp_path.iterdir()) == []


def test_insecure_parameters_are_refused(modules: list[CompiledModule], tmp_path: Path, refused: Any) -> None:
    params = CKKSParams(ring_degree=4096, data_bits=(60, 40, 40), special_bits=(60,), scale_bits=40)
    module = modules[0].module
    plan = compile_plan(module.shape, get_manager().load_packing("rank_bsgs"), params=params, private_weights=False)
    with refused(InsecureParameters, "4096"):
        write_artifact(tmp_path / "new", [CompiledModule(module, modules[0].parts, plan)])


def test_a_packing_that_makes_too_few_plaintexts_is_at_fault(
    modules: list[CompiledModule], tmp_path: Path, refused: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = type(modules[0].plan.layout)
    whole: Callable[..., Any] = layout.constants
    monkeypatch.setattr(layout, "constants", lambda self, module: list(whole(self, module))[1:])
    with refused(InvalidProgram, "there is no constant"):
        write_artifact(tmp_path / "new", modules[:1])
    assert list(tmp_path.iterdir()) == []
