"""Weights in one file or several, and in 16 bits, are the same model to pages and clients; others are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helora_core.adapter.safetensors_io import StoredTensor, write_safetensors
from helora_core.errors import InvalidInput
from helora_core.files.safetensors import read_tensors
from helora_serve.base.convert import MANIFEST, convert
from helora_serve.split.ends import Ends
from helora_serve.split.stored import INDEX, SINGLE, Stored

HEAD = "lm_head.weight"


def sharded(folder: Path, dtype: Any, shards: int) -> dict[str, Any]:
    """The model of a folder, saved anew as transformers does; and its weights by their names."""
    tensors = {
        name: StoredTensor(each.dtype, each.shape, each.data) for name, each in read_tensors(folder / SINGLE)[0].items()
    }
    weights = {name: each.widened() for name, each in tensors.items()}
    names = sorted(weights)
    files = (
        [f"model-{number + 1:05}-of-{shards:05}.safetensors" for number in range(shards)] if shards > 1 else [SINGLE]
    )
    (folder / SINGLE).unlink()
    for number, file in enumerate(files):
        with (folder / file).open("wb") as out:
            write_safetensors(out, {name: weights[name] for name in names[number::shards]}, dtype)
    if shards > 1:
        where = {name: files[number % shards] for number, name in enumerate(names)}
        (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": where}))
    return weights


@pytest.fixture
def model(folder: Path, tmp_path: Path) -> Path:
    """A copy of the base model, of a fixed name."""
    target = tmp_path / "model"
    target.mkdir()
    for each in folder.iterdir():
        (target / each.name).write_bytes(each.read_bytes())
    return target


@pytest.mark.parametrize("part", ["whole", "ends"])
def test_several_files_are_the_same_to_a_page_as_one(model: Path, tmp_path: Path, part: Any) -> None:
    one = convert(model, tmp_path / "one", part=part)
    sharded(model, "f32", 3)
    several = convert(model, tmp_path / "several", part=part)
    assert (several.pieces, several.tensors) == (one.pieces, one.tensors)
    assert (tmp_path / "several" / MANIFEST).is_file()


@pytest.mark.parametrize(("dtype", "bits"), [("bf16", 8), ("f16", 11), ("f32", 24), ("f64", 24)])
@pytest.mark.parametrize("shards", [1, 2])
def test_numbers_are_those_that_were_stored(model: Path, dtype: Any, bits: int, shards: int) -> None:
    weights = sharded(model, dtype, shards)
    stored = Stored(model)
    for name, right in weights.items():
        found = stored.matrix(name)
        assert (found.dtype, found.shape) == (np.float32, right.shape)
        assert (abs(found - right) <= 2.0**-bits * abs(right) + 2.0**-25).all()
    ends = Ends.of(model)
    assert (ends.head == stored.matrix(HEAD)).all()
    assert convert(model, model.parent / "out", weights="f32").bytes > 0


def _damaged_index(model: Path) -> None:
    (model / INDEX).write_text("{")


def _elsewhere(model: Path) -> None:
    (model / INDEX).write_text(json.dumps({"weight_map": {HEAD: "../model.safetensors"}}))


def _missing(model: Path) -> None:
    for each in model.glob("model-*-of-*.safetensors"):
        each.unlink()


def _cut_short(model: Path) -> None:
    for each in model.glob("model-*-of-*.safetensors"):
        each.write_bytes(each.read_bytes()[:-1])


def _without(model: Path) -> None:
    index = json.loads((model / INDEX).read_text())
    del index["weight_map"][HEAD]
    (model / INDEX).write_text(json.dumps(index))


def _of_bytes(model: Path) -> None:
    (model / INDEX).unlink()
    header = json.dumps({HEAD: {"dtype": "I8", "shape": [2], "data_offsets": [0, 2]}}).encode()
    (model / SINGLE).write_bytes(len(header).to_bytes(8, "little") + header + b"ab")


def _none(model: Path) -> None:
    (model / INDEX).unlink()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_damaged_index, INDEX),
        (_elsewhere, "no safetensors file of the folder"),
        (_missing, "could not be read (No such file"),
        (_cut_short, "not a whole safetensors file"),
        (_without, f"it has no {HEAD}"),
        (_of_bytes, "stored as I8"),
        (_none, f"no {SINGLE}, and no {INDEX}"),
    ],
)
def test_what_is_no_such_model_is_refused_by_what_is_wrong(
    model: Path, refused: Callable[..., Any], damage: Callable[[Path], None], words: str
) -> None:
    sharded(model, "bf16", 2)
    damage(model)
    with refused(InvalidInput, words):
        Stored(model).matrix(HEAD)
