"""Activations in, Δ out: plain arrays by name, nothing unpickled, nothing half written."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helora_core.adapter.arrays import read_activations, write_array
from helora_core.errors import InvalidInput

X = np.arange(6.0).reshape(2, 3)


def npy(array: Any = X) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def npz(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def torch_zip() -> bytes:
    """As torch.save lays it out, to the reader's first look."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x/data.pkl", pickle.dumps({}, 2))
        archive.writestr("x/data/0", X.tobytes())
    return file.getvalue()


def safetensors(directory: Path, dtype: str, *names: str) -> Path:
    """X under each name, put together without the code under test."""
    if dtype == "BF16":
        data = (X.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
    else:
        data = X.astype(f"<{dtype[0].lower()}{int(dtype[1:]) // 8}").tobytes()
    places = range(0, len(names) * len(data), len(data))
    header = {
        name: {"dtype": dtype, "shape": X.shape, "data_offsets": (place, place + len(data))}
        for name, place in zip(names, places, strict=True)
    }
    encoded = json.dumps(header).encode()
    path = directory / "x.safetensors"
    path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + len(names) * data)
    return path


class TestRead:
    def test_one_array_serves_every_module(self, tmp_path: Path) -> None:
        path = tmp_path / "x.npy"
        np.save(path, X)
        read = read_activations(path, ["q", "v"])
        assert list(read) == ["q", "v"]
        assert all(np.array_equal(array, X) for array in read.values())

    def test_an_archive_gives_each_module_the_array_of_its_name(self, tmp_path: Path) -> None:
        path = tmp_path / "x.npz"
        np.savez(path, **{"layers.0.v": 2 * X, "layers.0.q": X, "spare": X})
        read = read_activations(path, ["layers.0.q", "layers.0.v"])
        assert list(read) == ["layers.0.q", "layers.0.v"]
        assert np.array_equal(read["layers.0.v"], 2 * X)

    def test_modules_without_an_array_are_named(self, tmp_path: Path) -> None:
        path = tmp_path / "x.npz"
        np.savez(path, q=X)
        with pytest.raises(InvalidInput, match=r"no array for v\."):
            read_activations(path, ["q", "v"])
        with pytest.raises(InvalidInput, match=r"no array for a, b, c and others\."):
            read_activations(path, ["a", "b", "c", "d"])

    @pytest.mark.parametrize("order", ["C", "F"])
    @pytest.mark.parametrize("dtype", ["<f2", ">f2", "<f4", "<f8", ">f8"])
    def test_floats_in_either_order(self, tmp_path: Path, dtype: str, order: Any) -> None:
        np.save(tmp_path / "x.npy", np.asarray(X.astype(dtype), order=order))
        read = read_activations(tmp_path / "x.npy", ["q"])["q"]
        assert (read.dtype, read.tolist()) == (np.dtype(dtype), X.tolist())

    @pytest.mark.parametrize("order", ["C", "F"])
    def test_bfloat16_is_widened_exactly(self, tmp_path: Path, order: Any) -> None:
        """NumPy has no bfloat16: software that has saves it as ``|V2``."""
        bits = np.array([[0x3F80, 0xC000, 0x4049], [0x0001, 0x7F7F, 0x8000]], "<u2")
        values = [[1.0, -2.0, 3.140625], [2.0**-133, 255 * 2.0**120, 0.0]]
        saved = np.asarray(bits, order=order).view("V2")
        np.save(tmp_path / "x.npy", saved)
        np.savez(tmp_path / "x.npz", q=saved)
        for name in ("x.npy", "x.npz"):
            assert read_activations(tmp_path / name, ["q"])["q"].tolist() == values

    @pytest.mark.parametrize("form", [npy(np.array([{}])), npz(q=np.array([{}], dtype=object))], ids=["npy", "npz"])
    def test_pickles_are_refused_and_never_loaded(self, tmp_path: Path, form: bytes) -> None:
        path = tmp_path / "x.npy"
        path.write_bytes(form)
        with pytest.raises(InvalidInput, match=str(path)) as caught:
            read_activations(path, ["q"])
        assert "pickle" not in caught.value.hint

    @pytest.mark.parametrize("name", ["x.pt", "x.npy", "x.safetensors"])
    @pytest.mark.parametrize(
        ("content", "what"),
        [
            (torch_zip(), "torch.save"),
            (pickle.dumps([1.0], 2), "a pickle"),
            (b"\x89HDF\r\n\x1a\n", "HDF5"),
            (b"GGUF\3\0\0\0", "GGUF"),
            (b"", "it is empty"),
        ],
    )
    def test_other_formats_are_named_and_no_hint_unpickles(
        self, tmp_path: Path, name: str, content: bytes, what: str
    ) -> None:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InvalidInput, match=what) as caught:
            read_activations(tmp_path / name, ["q"])
        assert "numpy.save" in caught.value.hint
        for advice in ("allow_pickle", "torch.load", "pickle.load"):
            assert advice not in str(caught.value)

    def test_missing_files_and_directories_are_refused(self, tmp_path: Path) -> None:
        for path in (tmp_path / "missing.npy", tmp_path):
            with pytest.raises(InvalidInput, match=str(path)):
                read_activations(path, ["q"])

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
    @given(data=st.data(), whole=st.sampled_from([npy(), npz(q=X, v=X)]))
    def test_damaged_files_are_read_or_refused_by_name(self, tmp_path: Path, data: st.DataObject, whole: bytes) -> None:
        altered = bytearray(whole)
        for _ in range(data.draw(st.integers(1, 3))):
            altered[data.draw(st.integers(0, len(altered) - 1))] = data.draw(st.integers(0, 255))
        path = tmp_path / "x.npy"
        path.write_bytes(altered[: data.draw(st.integers(0, len(altered)))])
        try:
            read = read_activations(path, ["q", "v"])
        except InvalidInput as refusal:
            assert refusal.hint  # noqa: PT017 - some damage can be read through
        else:
            assert set(read) == {"q", "v"}


class TestSafetensors:
    @pytest.mark.parametrize("dtype", ["F16", "F32", "F64", "BF16"])
    def test_a_tensor_named_x_serves_every_module(self, tmp_path: Path, dtype: str) -> None:
        read = read_activations(safetensors(tmp_path, dtype, "x"), ["q", "v"])
        assert list(read) == ["q", "v"]
        assert all(array.tolist() == X.tolist() for array in read.values())

    def test_others_serve_the_module_of_their_name(self, tmp_path: Path) -> None:
        path = safetensors(tmp_path, "F32", "h.0.q", "h.0.v", "spare")
        assert list(read_activations(path, ["h.0.v", "h.0.q"])) == ["h.0.v", "h.0.q"]
        with pytest.raises(InvalidInput, match=r"no array for h\.1\.q"):
            read_activations(path, ["h.1.q"])

    @pytest.mark.parametrize("name", ["q", "h.0.q", "lora_unet_to_q"])
    def test_one_of_another_module_is_not_taken(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(InvalidInput, match=r"no array for v\."):
            read_activations(safetensors(tmp_path, "F32", name), ["v"])

    def test_a_module_may_be_called_x(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidInput, match=r"no array for y\."):
            read_activations(safetensors(tmp_path, "F32", "x"), ["x", "y"])

    def test_integers_and_damage_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidInput, match="I64"):
            read_activations(safetensors(tmp_path, "I64", "x"), ["q"])
        path = safetensors(tmp_path, "F32", "x")
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(InvalidInput, match=str(path)):
            read_activations(path, ["q"])


class TestWrite:
    def test_what_is_written_is_what_numpy_reads(self, tmp_path: Path) -> None:
        write_array(tmp_path / "delta.npy", X)
        assert np.array_equal(np.load(tmp_path / "delta.npy", allow_pickle=False), X)
        assert [path.name for path in tmp_path.iterdir()] == ["delta.npy"]

    @pytest.mark.parametrize("name", ["delta.npz", "delta", "delta.txt", ".npy"])
    def test_other_names_are_refused(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(InvalidInput, match=r"written as \.npy"):
            write_array(tmp_path / name, X)
        assert list(tmp_path.iterdir()) == []

    def test_a_write_that_fails_halfway_leaves_the_earlier_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_array(tmp_path / "delta.npy", X)

        def fail_halfway(file: Any, array: Any, **options: Any) -> None:
            file.write(b"\x93NUMPY")
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(np, "save", fail_halfway)
        with pytest.raises(InvalidInput, match="No space left on device"):
            write_array(tmp_path / "delta.npy", 2 * X)
        assert [path.name for path in tmp_path.iterdir()] == ["delta.npy"]
        assert np.array_equal(np.load(tmp_path / "delta.npy"), X)
