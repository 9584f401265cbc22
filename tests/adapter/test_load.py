"""Every container is read as what it is, or named: against what the software computes whose format it is."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helora_core.adapter.load import load_adapter
from helora_core.adapter.npz import save_npz
from helora_core.errors import AdapterFormatError

CONTAINERS = Path(__file__).parent / "fixtures" / "containers"


def zipped(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/").replace("_DOT_", "."), content)
    return file.getvalue()


def tarred() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        archive.addfile(tarfile.TarInfo("adapter_config.json"))
    return file.getvalue()


class TestAgainstTheirOwnSoftware:
    """Files and expected Δ were made by diffusers, mlx-lm and the gguf package: see fixtures/make_containers.py."""

    @pytest.mark.parametrize(
        ("name", "file", "tolerance"),
        [
            ("diffusers", "pytorch_lora_weights.safetensors", 1e-12),
            ("diffusers_lora_down", "pytorch_lora_weights.safetensors", 1e-12),
            ("diffusers_processor", "pytorch_lora_weights.safetensors", 1e-12),
            ("kohya", "pytorch_lora_weights.safetensors", 1e-12),
            ("mlx", "adapters.safetensors", 1e-5),  # MLX computes in float32
            ("gguf_f32", "lora.gguf", 1e-12),
            ("gguf_f16", "lora.gguf", 1e-12),
            ("gguf_bf16", "lora.gguf", 1e-12),
        ],
    )
    def test_delta_is_theirs(self, name: str, file: str, tolerance: float) -> None:
        adapter = load_adapter(CONTAINERS / name / file)
        with np.load(CONTAINERS / name / "expected.npz") as expected:
            assert {key.rpartition(".")[0] for key in expected} == set(adapter.modules)
            for module in adapter.modules.values():
                delta = module.reference_delta(expected[f"{module.name}.x"].astype(np.float64))
                np.testing.assert_allclose(delta, expected[f"{module.name}.delta"], rtol=0, atol=tolerance * 100)

    def test_quantised_matrices_are_refused_by_name(self, refused: Callable[..., Any]) -> None:
        with refused(AdapterFormatError, "lora.gguf", "Q8_0", "full precision", hint="--outtype f32"):
            load_adapter(CONTAINERS / "gguf_q8_0" / "lora.gguf")

    @pytest.mark.parametrize("name", ["diffusers", "diffusers_lora_down", "diffusers_processor", "mlx"])
    def test_a_directory_is_read_as_the_file_in_it(self, name: str) -> None:
        [file] = (CONTAINERS / name).glob("*.safetensors")
        assert load_adapter(CONTAINERS / name).digest == load_adapter(file).digest

    def test_content_tells_the_format_whatever_the_name(self, tmp_path: Path) -> None:
        for name, file in (("gguf_f32", "lora.gguf"), ("kohya", "pytorch_lora_weights.safetensors")):
            shutil.copy(CONTAINERS / name / file, tmp_path / "lora.bin")
            assert load_adapter(tmp_path / "lora.bin").digest == load_adapter(CONTAINERS / name / file).digest


def test_a_directory_is_pefts_and_an_npz_file_is_ours(peft_directory: Callable[..., Path], tmp_path: Path) -> None:
    from_peft = load_adapter(peft_directory())
    save_npz(from_peft, tmp_path / "a.npz")
    assert load_adapter(str(tmp_path / "a.npz")).digest == from_peft.digest
    assert load_adapter(tmp_path / "adapter_model.safetensors").digest == from_peft.digest


def test_nothing_there_is_refused(tmp_path: Path, refused: Callable[..., Any]) -> None:
    for name in ("adapter", "a.npz"):
        with refused(AdapterFormatError, str(tmp_path / name), "no such file"):
            load_adapter(tmp_path / name)


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_model.bin", "adapter.pt", "npz"])
def test_an_empty_file_is_called_empty(tmp_path: Path, refused: Callable[..., Any], name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    with refused(AdapterFormatError, name, "it is empty", hint="adapter_config.json"):
        load_adapter(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (zipped(archive__data_DOT_pkl=b"\x80\x02.", archive__data__0=b"1234"), "torch.save, a zip archive"),
        (pickle.dumps({"q.lora_A.weight": [1.0]}, 2), "pickle"),
        (pickle.dumps([1], 4), "pickle"),
        (zipped(notes=b"hello"), "zip archive"),
        (tarred(), "tar archive"),
        (gzip.compress(b"hello", mtime=0), "compressed"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "HDF5"),
        (b"algg" + bytes(100), "before GGUF"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", "git LFS"),
        (b"<!DOCTYPE html><html></html>", "web page"),
        (b'{"peft_type": "LORA"}', "JSON"),
    ],
)
def test_other_kinds_are_named_and_nothing_is_unpickled(tmp_path: Path, content: bytes, what: str) -> None:
    for name in ("adapter_model.bin", "a.pt", "a.pth", "a.ckpt", "a.safetensors", "a.npz"):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(AdapterFormatError) as caught:
            load_adapter(path)
        assert str(path) in caught.value.message
        # An archive is an .npz file to all appearances.
        assert what in caught.value.message or (name, what) == ("a.npz", "zip archive")
        for advice in ("allow_pickle", "torch.load", "pickle.load", "unsafe"):
            assert advice not in str(caught.value)


@pytest.mark.parametrize("name", ["adapter_model.bin", "pytorch_model.pt", "a.ckpt"])
@pytest.mark.parametrize("config", [True, False])
def test_a_directory_with_a_pickle_says_so(peft_directory: Callable[..., Path], name: str, config: bool) -> None:
    directory = peft_directory()
    (directory / "adapter_model.safetensors").rename(directory / name)
    if not config:
        (directory / "adapter_config.json").unlink()
    with pytest.raises(AdapterFormatError, match="pickle") as caught:
        load_adapter(directory)
    assert name in str(caught.value)
    assert "safetensors" in caught.value.hint


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
@pytest.mark.parametrize("name", ["adapter.safetensors", "adapter_config.json", "adapter_model.safetensors"])
def test_a_pipe_is_not_waited_for(peft_directory: Callable[..., Path], name: str) -> None:
    directory = peft_directory()
    (directory / name).unlink(missing_ok=True)
    os.mkfifo(directory / name)
    with pytest.raises(AdapterFormatError):
        load_adapter(directory / name)


def test_a_pickle_under_the_name_of_pefts_tensors_is_named(
    peft_directory: Callable[..., Path], refused: Callable[..., Any]
) -> None:
    path = peft_directory() / "adapter_model.safetensors"
    path.write_bytes(zipped(archive__data_DOT_pkl=b"\x80\x02."))
    with refused(AdapterFormatError, str(path), "torch.save"):
        load_adapter(path.parent)


@pytest.mark.parametrize(
    ("made", "what"),
    [
        ("global_step12", "checkpoint"),
        ("__0_0.distcp", "checkpoint"),
        ("adapter_model-00001-of-00002.safetensors", "parts"),
    ],
)
def test_shards_are_named(peft_directory: Callable[..., Path], made: str, what: str) -> None:
    directory = peft_directory()
    (directory / "adapter_model.safetensors").rename(directory / made)
    with pytest.raises(AdapterFormatError, match=what):
        load_adapter(directory)


def test_an_empty_directory_is_refused(tmp_path: Path, refused: Callable[..., Any]) -> None:
    with refused(AdapterFormatError, str(tmp_path), "adapter_config.json"):
        load_adapter(tmp_path)


class TestNested:
    @pytest.mark.parametrize("below", ["french", "lora/sft/checkpoint-500", "a/b/c/d/e/f"])
    def test_the_hint_leads_to_adapters_some_levels_down(
        self, peft_directory: Callable[..., Path], tmp_path: Path, below: str
    ) -> None:
        expected = load_adapter(peft_directory())
        root = tmp_path / "runs"
        (root / below).mkdir(parents=True)
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            (tmp_path / name).rename(root / below / name)
        with pytest.raises(AdapterFormatError) as caught:
            load_adapter(root)
        assert caught.value.hint == f"Give one of the adapters in it: {root / below}."
        assert load_adapter(root / below).digest == expected.digest

    def test_checkpoints_come_in_natural_order_and_not_all_of_them(self, tmp_path: Path) -> None:
        for step in (1000, 200, 9, 10, 11, 12, 13, 14):
            (tmp_path / f"checkpoint-{step}").mkdir()
            (tmp_path / f"checkpoint-{step}" / "adapter_config.json").write_text("{}")
        with pytest.raises(AdapterFormatError) as caught:
            load_adapter(tmp_path)
        steps = [part.strip(" ,") for part in caught.value.hint.split("checkpoint-")[1:]]
        assert [step.split(",")[0].split(" ")[0] for step in steps] == ["9", "10", "11", "12", "13", "14"]
        assert caught.value.hint.endswith("and 2 more.")

    def test_files_that_can_be_given_by_themselves_are_named(self, tmp_path: Path) -> None:
        (tmp_path / "loras").mkdir()
        file = tmp_path / "loras" / "style.safetensors"
        shutil.copy(CONTAINERS / "kohya" / "pytorch_lora_weights.safetensors", file)
        (tmp_path / "loras" / "model.safetensors").write_bytes(b"\2\0\0\0\0\0\0\0{}")
        for root in (tmp_path, tmp_path / "loras"):
            with pytest.raises(AdapterFormatError) as caught:
                load_adapter(root)
            assert caught.value.hint == f"Give one of the adapters in it: {file}."

    def test_links_and_deeper_levels_are_not_followed(self, tmp_path: Path) -> None:
        (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
        deep = tmp_path.joinpath(*"abcdefgh")
        deep.mkdir(parents=True)
        (deep / "adapter_config.json").write_text("{}")
        with pytest.raises(AdapterFormatError) as caught:
            load_adapter(tmp_path)
        assert str(deep) not in caught.value.hint


class TestSingleFiles:
    def test_pefts_tensors_alone_lack_their_configuration(
        self, single_file: Callable[..., Path], refused: Callable[..., Any]
    ) -> None:
        tensors = {f"base_model.model.q.lora_{side}.weight": np.ones((1, 1)) for side in "AB"}
        for name in ("adapter_model.safetensors", "step5.safetensors"):
            path = single_file(tensors, name=name)
            with refused(AdapterFormatError, str(path), "without adapter_config.json"):
                load_adapter(path)

    @pytest.mark.parametrize(
        ("key", "name"),
        [
            ("layers.0.attn.q_proj.lora_a.weight", "torchtune"),
            ("h.0.attn.lora_A", "loralib"),
            ("layers.0.qkv.adapter.linear_in.weight", "NeMo"),
            ("double_blocks.0.processor.qkv_lora1.down.weight", "XLabs"),
            ("model.embed_tokens.weight", "no LoRA matrix"),
        ],
    )
    def test_other_formats_are_named(
        self, single_file: Callable[..., Path], refused: Callable[..., Any], key: str, name: str
    ) -> None:
        with refused(AdapterFormatError, "lora.safetensors", name):
            load_adapter(single_file({key: np.ones((2, 2))}))

    def test_no_tensors_may_be_an_ungathered_shard(
        self, single_file: Callable[..., Path], refused: Callable[..., Any]
    ) -> None:
        with refused(AdapterFormatError, "lora.safetensors", "no LoRA matrix", hint="ZeRO-3"):
            load_adapter(single_file({}, {"format": "pt"}))

    def test_mlx_arrays_of_its_first_version(self, tmp_path: Path, refused: Callable[..., Any]) -> None:
        np.savez(tmp_path / "adapters.npz", **{"model.layers.0.q_proj.lora_a": np.ones((3, 2))})
        with refused(AdapterFormatError, "adapters.npz", "MLX", hint="save_npz"):
            load_adapter(tmp_path / "adapters.npz")
