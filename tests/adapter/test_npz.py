from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helora_core.adapter.lora import LoRAAdapter, LoRAModule
from helora_core.adapter.npz import load_npz, save_npz
from helora_core.errors import AdapterFormatError, InvalidInput

ARRAYS = {"q.down": np.ones((1, 2)), "q.up": np.ones((3, 1)), "q.scaling": np.array(2.0)}
NAMES = st.text(st.characters(codec="utf-8").filter(str.isprintable), min_size=1, max_size=20)


def small(*names: str) -> LoRAAdapter:
    rng = np.random.default_rng(0)
    modules = [LoRAModule(n, rng.normal(size=(2, 3)), rng.normal(size=(4, 2)), 1 / 3) for n in names]
    return LoRAAdapter.from_modules(modules, source="memory")


@pytest.fixture
def archive(tmp_path: Path) -> Callable[..., Path]:
    """Writes the sound arrays with changes; a change to None leaves an array out."""

    def write(**changes: Any) -> Path:
        path = tmp_path / "a.npz"
        kept: dict[str, Any] = {name: values for name, values in {**ARRAYS, **changes}.items() if values is not None}
        np.savez(path, **kept)
        return path

    return write


class TestRoundTrip:
    @given(st.lists(NAMES, min_size=1, max_size=4, unique=True))
    def test_load_undoes_save(self, tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
        path = tmp_path_factory.mktemp("npz") / "a.npz"
        before = small(*names)
        save_npz(before, path)
        after = load_npz(path)
        assert after.digest == before.digest
        assert list(after.modules) == list(before.modules)
        assert after.source == str(path)

    def test_save_replaces_what_was_there_and_leaves_nothing_else(self, tmp_path: Path) -> None:
        path = tmp_path / "a.npz"
        save_npz(small("q", "k"), path)
        save_npz(small("v"), str(path))
        assert list(load_npz(str(path)).modules) == ["v"]
        assert list(tmp_path.iterdir()) == [path]

    @pytest.mark.parametrize("dtype", ["<f2", ">f4", "<f8"])
    def test_narrow_matrices_and_whole_scalings_are_taken(self, archive: Callable[..., Path], dtype: str) -> None:
        path = archive(**{"q.down": np.array([[0.5, 3]], dtype=dtype), "q.scaling": np.array(2)})
        loaded = load_npz(path).modules["q"]
        assert loaded.down.tolist() == [[0.5, 3.0]]
        assert loaded.scaling == 2.0


class TestSaveRefuses:
    def test_another_suffix(self, tmp_path: Path, refused: Callable[..., Any]) -> None:
        with refused(InvalidInput, "adapter.bin", hint="adapter.npz"):
            save_npz(small("q"), tmp_path / "adapter.bin")

    def test_a_missing_directory(self, tmp_path: Path, refused: Callable[..., Any]) -> None:
        with refused(InvalidInput, "a.npz", "cannot be written"):
            save_npz(small("q"), tmp_path / "missing" / "a.npz")


class TestLoadRefuses:
    @pytest.mark.parametrize("field", ["down", "up", "scaling"])
    def test_a_missing_array(self, archive: Callable[..., Path], refused: Callable[..., Any], field: str) -> None:
        with refused(AdapterFormatError, "a.npz", "'q'", f"no {field}", hint=f"q.{field}"):
            load_npz(archive(**{f"q.{field}": None}))

    @pytest.mark.parametrize("name", ["q.gate", "down", ".down", "arr_0"])
    def test_a_foreign_array(self, archive: Callable[..., Path], refused: Callable[..., Any], name: str) -> None:
        with refused(AdapterFormatError, "a.npz", repr(name)):
            load_npz(archive(**{name: np.ones(1)}))

    @pytest.mark.parametrize("scaling", [np.ones(1), np.array(True), np.array(1j)])
    def test_a_scaling_that_is_no_number(
        self, archive: Callable[..., Path], refused: Callable[..., Any], scaling: Any
    ) -> None:
        with refused(AdapterFormatError, "a.npz", "'q'", "scaling"):
            load_npz(archive(**{"q.scaling": scaling}))

    def test_text(self, archive: Callable[..., Path], refused: Callable[..., Any]) -> None:
        with refused(AdapterFormatError, "a.npz", "'q.scaling'", "plain numbers"):
            load_npz(archive(**{"q.scaling": np.array("x")}))

    @pytest.mark.parametrize(
        "values", [np.array([[np.nan, 1]]), np.ones((2, 2)), np.ones(2), np.ones((1, 2), dtype=int)]
    )
    def test_a_bad_matrix(self, archive: Callable[..., Path], refused: Callable[..., Any], values: Any) -> None:
        with refused(AdapterFormatError, "a.npz", "'q'", "down"):
            load_npz(archive(**{"q.down": values}))

    def test_an_empty_archive(self, tmp_path: Path, refused: Callable[..., Any]) -> None:
        np.savez(tmp_path / "a.npz")
        with refused(AdapterFormatError, "a.npz", "no module"):
            load_npz(tmp_path / "a.npz")

    def test_pickles_inside_and_outside(
        self, archive: Callable[..., Path], tmp_path: Path, refused: Callable[..., Any]
    ) -> None:
        with refused(AdapterFormatError, "a.npz", "cannot be read"):
            load_npz(archive(**{"q.down": np.array([[print]], dtype=object)}))
        np.save(tmp_path / "b.npz.npy", np.array([print], dtype=object), allow_pickle=True)
        (tmp_path / "b.npz.npy").rename(tmp_path / "b.npz")
        with refused(AdapterFormatError, "b.npz", "cannot be read"):
            load_npz(tmp_path / "b.npz")

    def test_a_single_array(self, tmp_path: Path, refused: Callable[..., Any]) -> None:
        with open(tmp_path / "a.npz", "wb") as file:
            np.save(file, np.ones(3))
        with refused(AdapterFormatError, "a.npz", "single array"):
            load_npz(tmp_path / "a.npz")

    def test_what_is_not_there(self, tmp_path: Path, refused: Callable[..., Any]) -> None:
        for path in (tmp_path / "missing.npz", tmp_path):
            with refused(AdapterFormatError, str(path), "cannot be read"):
                load_npz(path)

    def test_an_array_larger_than_the_file(self, tmp_path: Path, refused: Callable[..., Any]) -> None:
        content = io.BytesIO()
        np.lib.format.write_array_header_1_0(content, {"descr": "<f8", "fortran_order": False, "shape": (2**58, 1)})
        with zipfile.ZipFile(tmp_path / "a.npz", "w") as file:
            file.writestr("q.down.npy", content.getvalue())
        with refused(AdapterFormatError, "a.npz", "cannot be read"):
            load_npz(tmp_path / "a.npz")

    def test_a_damaged_byte_never_fails_in_another_way(self, tmp_path: Path) -> None:
        path = tmp_path / "a.npz"
        np.savez_compressed(path, **ARRAYS)
        whole = path.read_bytes()
        for place in range(len(whole)):
            for flip in (0x01, 0xFF):
                damaged = bytearray(whole)
                damaged[place] ^= flip
                path.write_bytes(damaged)
                with suppress(AdapterFormatError):
                    load_npz(path)
