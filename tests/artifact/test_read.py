"""Whatever is wrong with an artifact is found before anything of it is used, and said by the file's name."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

from helora_core.artifact import manifest as manifest_module
from helora_core.artifact.read import Artifact
from helora_core.compiler.compiled import CompiledModule
from helora_core.errors import ArtifactInvalid, ArtifactUnsupported, InvalidInput

Read = Callable[..., Artifact]
Forge = Callable[..., None]
FILES = ("manifest.json", "parameters.json", "modules/0001.safetensors", "plan")


@pytest.fixture(params=FILES)
def file(request: pytest.FixtureRequest, artifact: Path, plan_name: str) -> Path:
    """Each kind of file in turn."""
    name: str = request.param
    return artifact / (plan_name if name == "plan" else name)


def test_what_was_written_is_read(artifact: Path, modules: list[CompiledModule], read: Read) -> None:
    found = read(artifact)
    assert [module.name for module in found.modules] == [each.module.name for each in modules]
    for module, each in zip(found.modules, modules, strict=True):
        assert module.plan.digest == each.plan.digest
        assert module.shape == each.module.shape
        assert (module.plan.program, module.plan.values) == (each.plan.program, each.plan.values)
        assert module.exponent == each.plan.for_module(each.module).exponent
        made = dict(each.plan.layout.constants(each.plan.normalized(each.module)))
        for name, vector in module.vectors(module.plan):
            np.testing.assert_array_equal(vector, made[name])


def test_modules_are_selected_as_an_adapters_are(artifact: Path, read: Read, refused: Any) -> None:
    found = read(artifact)
    assert found.select("all") == found.modules
    assert [each.name for each in found.select("q_proj")] == ["layers.0.q_proj", "layers.1.q_proj"]
    assert [each.name for each in found.select("layers.1.*")] == ["layers.1.q_proj", "layers.1.v_proj"]
    with refused(InvalidInput, "'q_prj'", hint="q_proj"):
        found.select("q_prj")


def test_a_missing_file_is_named(file: Path, artifact: Path, read: Read, refused: Any) -> None:
    file.unlink()
    with refused(ArtifactInvalid, file.name):
        read(artifact)


@pytest.mark.parametrize("file", FILES[1:], indirect=True)
def test_a_changed_byte_is_found_and_the_file_named(file: Path, artifact: Path, read: Read, refused: Any) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with refused(ArtifactInvalid, file.name, "SHA-256"):
        read(artifact)


def test_a_link_is_refused_even_to_the_right_bytes(
    file: Path, artifact: Path, tmp_path: Path, read: Read, refused: Any
) -> None:
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    with refused(ArtifactInvalid, file.name):
        read(artifact)


def test_a_linked_directory_is_refused(artifact: Path, tmp_path: Path, read: Read, refused: Any) -> None:
    (artifact / "plans").rename(tmp_path / "elsewhere")
    (artifact / "plans").symlink_to(tmp_path / "elsewhere")
    with refused(ArtifactInvalid, "plans"):
        read(artifact)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_refused_and_not_waited_for(artifact: Path, read: Read, refused: Any) -> None:
    (artifact / "manifest.json").unlink()
    os.mkfifo(artifact / "manifest.json")
    with refused(ArtifactInvalid, "manifest.json"):
        read(artifact)


@pytest.mark.parametrize("name", ["extra.txt", "modules/0009.safetensors", "plans/extra.json"])
def test_files_that_are_not_listed_are_refused(artifact: Path, read: Read, refused: Any, name: str) -> None:
    (artifact / name).write_bytes(b"")
    with refused(ArtifactInvalid, name.rpartition("/")[2], "not in the manifest"):
        read(artifact)


def test_directories_that_have_no_business_there_are_refused(artifact: Path, read: Read, refused: Any) -> None:
    (artifact / "extra").mkdir()
    with refused(ArtifactInvalid, "extra"):
        read(artifact)
    (artifact / "extra").rmdir()
    (artifact / "plans" / "deep").mkdir()
    with refused(ArtifactInvalid, "deep"):
        read(artifact)


def test_a_directory_that_is_none_is_refused(tmp_path: Path, read: Read, refused: Any) -> None:
    with refused(ArtifactInvalid, "nowhere"):
        read(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[1]", b'{"format": "other", "schema": 1}', b"\xff\xfe", b"[" * 100_000]
)
def test_foreign_manifests_are_refused(artifact: Path, read: Read, refused: Any, content: bytes) -> None:
    (artifact / "manifest.json").write_bytes(content)
    with refused(ArtifactInvalid, "manifest.json", "helora artifact"):
        read(artifact)


def test_an_enormous_manifest_is_not_read(
    artifact: Path, read: Read, refused: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("helora_core.artifact.read.MANIFEST_BYTES", 100)
    with refused(ArtifactInvalid, "manifest.json", "at most 100"):
        read(artifact)


@pytest.mark.parametrize("schema", [manifest_module.SCHEMA - 1, manifest_module.SCHEMA_OF_SEVERAL + 1])
def test_other_schemas_are_refused_as_such(artifact: Path, read: Read, forge: Forge, refused: Any, schema: int) -> None:
    known = f"schema {manifest_module.SCHEMA} and {manifest_module.SCHEMA_OF_SEVERAL}"
    forge("manifest.json", lambda content: content.update(schema=schema, novelty="unknown"))
    with refused(ArtifactUnsupported, f"schema {schema}", known, hint="compile the adapter again"):
        read(artifact)


def _rename(content: Any, name: str) -> None:
    content["files"][name] = content["files"].pop("modules/0001.safetensors")
    content["modules"][1]["constants"] = name


MANIFEST_LIES: dict[str, Callable[[Any], object]] = {
    "a path that climbs out": lambda content: _rename(content, "../../etc/passwd"),
    "an absolute path": lambda content: _rename(content, "/etc/passwd"),
    "a path with a dot": lambda content: _rename(content, "modules/./0001.safetensors"),
    "a path with a backslash": lambda content: _rename(content, "modules\\0001.safetensors"),
    "an unknown field": lambda content: content.update(run="rm"),
    "a field too few": lambda content: content.pop("plans"),
    "a wrong type": lambda content: content.update(modules="all"),
    "no module": lambda content: content.update(modules=[]),
    "two of a name": lambda content: content["modules"][1].update(name=content["modules"][0]["name"]),
    "an unprintable name": lambda content: content["modules"][0].update(name="\x1b[2J"),
    "an empty part": lambda content: content["modules"][0]["parts"][0].update(name=""),
    "parts of another width": lambda content: content["modules"][0]["parts"][0].update(d_out=21),
    "a plan that is not there": lambda content: content["modules"][0].update(plan="0" * 64),
    "a negative size": lambda content: content["files"]["parameters.json"].update(bytes=-1),
    "half a hash": lambda content: content["files"]["parameters.json"].update(sha256="ab"),
    "no exponent": lambda content: content["modules"][0].pop("exponent"),
    "half an exponent": lambda content: content["modules"][0].update(exponent=0.5),
    "an exponent beyond any module's": lambda content: content["modules"][0].update(exponent=5000),
    "another packing": lambda content: content.update(packings={"rank_bsgs": 9}),
    "one file for two modules": lambda content: content["modules"][0].update(constants="modules/0001.safetensors"),
    "plans exchanged": lambda content: content.update(
        plans=dict(zip(content["plans"], reversed(content["plans"].values()), strict=True))
    ),
}


@pytest.mark.parametrize("lie", MANIFEST_LIES, ids=lambda name: name.replace(" ", "-").replace("'", ""))
def test_manifests_that_contradict_themselves_are_refused(
    artifact: Path, read: Read, forge: Forge, refused: Any, lie: str
) -> None:
    forge("manifest.json", MANIFEST_LIES[lie])
    with refused(ArtifactInvalid, "manifest.json"):
        read(artifact)


def test_parameters_are_those_of_the_plans(artifact: Path, read: Read, forge: Forge, refused: Any) -> None:
    forge("parameters.json", lambda content: content[0]["rotation_steps"].append(4095))
    with refused(ArtifactInvalid, "parameters.json"):
        read(artifact)


CONSTANT_LIES: dict[str, Callable[[Any], object]] = {
    "one too few": lambda tensors: tensors.pop("up.0.0"),
    "one too many": lambda tensors: tensors.update({"more": np.ones(4)}),
    "a NaN": lambda tensors: tensors.update({"up.0.0": np.full(4096, np.nan)}),
    "another type": lambda tensors: tensors.update({"up.0.0": np.ones(4096, dtype=np.int64)}),
    "a matrix": lambda tensors: tensors.update({"up.0.0": np.ones((64, 64))}),
    "nothing": lambda tensors: tensors.update({"up.0.0": np.ones(0)}),
    "more than slots": lambda tensors: tensors.update({"up.0.0": np.ones(4097)}),
    "a column of nothing": lambda tensors: tensors.update({"up.0.0": np.ones((0, 1))}),
    "a column that does not fit": lambda tensors: tensors.update({"up.0.0": np.ones((3, 1))}),
    "half a float": lambda tensors: tensors.update({"up.0.0": np.ones(3, dtype=np.float32)}),
}


@pytest.mark.parametrize("lie", CONSTANT_LIES, ids=lambda name: name.replace(" ", "-"))
def test_plaintexts_must_be_those_of_the_plan(artifact: Path, read: Read, forge: Forge, refused: Any, lie: str) -> None:
    name = "modules/0000.safetensors"
    tensors = load((artifact / name).read_bytes())
    CONSTANT_LIES[lie](tensors)
    forge(name, save(tensors))
    with refused(ArtifactInvalid, "0000.safetensors"):
        read(artifact)


def test_files_larger_than_any_plan_needs_are_not_read(artifact: Path, read: Read, forge: Forge, refused: Any) -> None:
    name = "modules/0000.safetensors"
    forge(name, (artifact / name).read_bytes() + bytes(1 << 20))
    with refused(ArtifactInvalid, "0000.safetensors", "at most"):
        read(artifact)


def test_plaintexts_that_change_later_are_found_when_they_are_used(artifact: Path, read: Read, refused: Any) -> None:
    module = read(artifact).modules[0]
    path = artifact / "modules/0000.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with refused(ArtifactInvalid, "0000.safetensors"):
        list(module.vectors(module.plan))


def test_plaintexts_are_for_one_plan(artifact: Path, read: Read, refused: Any) -> None:
    modules = read(artifact).modules
    with refused(InvalidInput, "plan"):
        list(modules[0].vectors(modules[2].plan))


def test_the_digest_covers_everything(artifact: Path, read: Read, forge: Forge) -> None:
    before = read(artifact).digest
    forge("manifest.json", lambda content: content.update(helora="0.0.1"))
    assert read(artifact).digest != before
    assert json.loads((artifact / "manifest.json").read_bytes())["format"] == "helora-artifact"
