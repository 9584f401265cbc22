"""Whatever the bytes of an artifact are, it is read or refused by a HeloraError, though its hashes fit."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helora_core.artifact.read import read_artifact
from helora_core.artifact.write import write_artifact
from helora_core.compiler.compiled import CompiledModule
from helora_core.errors import ArtifactInvalid, HeloraError
from helora_core.host.manager import get_manager

_SCHEMA = re.compile(rb'"schema": [0-9]+')

VALUES = st.sampled_from(
    [None, True, False, 0, -1, 1, 2.5, 1e300, 2**40, 10**30, "", "x", "plans/../x", "rank_bsgs", [], [0], {}, {"a": 1}]
)


@pytest.fixture(scope="module")
def original(modules: list[CompiledModule], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("artifact")
    write_artifact(folder / "artifact", modules[:1])
    return folder / "artifact"


def resealed(original: Path, name: str, content: bytes) -> Path:
    """A copy with one file replaced, and the manifest made to fit."""
    copy = original.with_name("changed")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(original, copy)
    (copy / name).write_bytes(content)
    if name != "manifest.json":
        manifest = json.loads((copy / "manifest.json").read_bytes())
        manifest["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        (copy / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return copy


def files(original: Path) -> list[str]:
    return sorted(path.relative_to(original).as_posix() for path in original.rglob("*") if path.is_file())


def read(directory: Path) -> None:
    read_artifact(directory, get_manager().load_packing)


@given(st.data())
def test_changed_bytes(original: Path, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(files(original)))
    content = bytearray((original / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        # Near the beginning, where headers are, as often as anywhere.
        place = data.draw(st.integers(0, len(content)) | st.integers(0, min(300, len(content))))
        content[place : place + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=5))
    with suppress(HeloraError):
        read(resealed(original, name, bytes(content)))


def _places(value: Any) -> list[Any]:
    """Containers in a JSON document, itself first."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [value, *(place for each in inner for place in _places(each) if isinstance(place, dict | list))]


@given(st.data())
def test_changed_values(original: Path, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from([name for name in files(original) if name.endswith(".json")]))
    document = json.loads((original / name).read_bytes())
    place = data.draw(st.sampled_from([each for each in _places(document) if each]))
    key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
    place[key] = data.draw(VALUES)
    with suppress(HeloraError):
        read(resealed(original, name, json.dumps(document).encode()))


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:-2] + b', "schema": 1}\n',
        lambda text: text + b"{}",
        lambda text: _SCHEMA.sub(b'"schema": NaN', text),
        lambda text: _SCHEMA.sub(b'"schema": ' + b"[" * 100_000 + b"]" * 100_000, text),
        lambda text: _SCHEMA.sub(b'"schema": ' + b"1" * 5000, text),
        lambda text: text.replace(b'"helora": "', b'"helora": "\xff'),
        lambda text: b"\xef\xbb\xbf" + text,
    ],
    ids=["twice", "trailing", "nan", "deep", "huge", "utf-8", "mark"],
)
def test_manifests_that_can_be_read_in_two_ways_or_none(original: Path, change: Any) -> None:
    text = (original / "manifest.json").read_bytes()
    assert change(text) != text
    with pytest.raises(ArtifactInvalid):
        read(resealed(original, "manifest.json", change(text)))


def test_a_plan_with_a_key_twice_is_refused(original: Path) -> None:
    (name,) = [name for name in files(original) if name.startswith("plans/")]
    text = (original / name).read_bytes()
    with pytest.raises(ArtifactInvalid, match="twice"):
        read(resealed(original, name, text.rstrip()[:-1] + b',"sanitize_bits":1}'))
