"""Arrays of others: what NumPy writes is read, and no stated size is believed."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from helora_core.files import npy
from helora_core.files.malformed import Malformed
from helora_core.files.npy import read_arrays

PLAIN = (
    hnp.floating_dtypes(sizes=(16, 32, 64)) | hnp.integer_dtypes() | hnp.boolean_dtypes() | hnp.complex_number_dtypes()
)
ARRAYS = PLAIN.flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
)


def header(
    shape: str = "(2, 3)", descr: str = "'<f8'", fortran: str = "False", *, version: bytes = b"\x01\x00"
) -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY" + version + struct.pack("<H" if version[0] == 1 else "<I", len(text)) + text


def read(path: Path, content: bytes) -> Any:
    path.write_bytes(content)
    return read_arrays(path)


def archive(members: dict[str, bytes], **options: Any) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", **options) as written:
        for name, content in members.items():
            written.writestr(name, content)
    return file.getvalue()


@given(ARRAYS, st.sampled_from("CF"))
def test_what_numpy_saves_is_read(tmp_path_factory: pytest.TempPathFactory, array: Any, order: Any) -> None:
    path = tmp_path_factory.mktemp("npy") / "a.npy"
    np.save(path, np.asarray(array, order=order))
    found: Any = read_arrays(path)
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)
    assert found.flags.writeable


@given(st.lists(ARRAYS, max_size=3), st.sampled_from([np.savez, np.savez_compressed]))
def test_archives_too(tmp_path_factory: pytest.TempPathFactory, arrays: list[Any], save: Any) -> None:
    path = tmp_path_factory.mktemp("npz") / "a.npz"
    save(path, **{f"x.{number}": array for number, array in enumerate(arrays)})
    found: Any = read_arrays(path)
    assert list(found) == [f"x.{number}" for number in range(len(arrays))]
    for number, array in enumerate(arrays):
        np.testing.assert_array_equal(found[f"x.{number}"], array)


def test_only_the_arrays_wanted_are_read(tmp_path: Path) -> None:
    good, bad = header() + bytes(48), header("(9999, 9999)") + bytes(48)
    path = tmp_path / "a.npz"
    path.write_bytes(archive({"good.npy": good, "bad.npy": bad}))
    assert list(read_arrays(path, ["good", "absent"])) == ["good"]
    with pytest.raises(Malformed, match="'bad'"):
        read_arrays(path)


def test_bfloat16_comes_as_it_is_stored(tmp_path: Path) -> None:
    assert read(tmp_path / "a", header(descr="'|V2'") + bytes(12)).dtype == np.dtype("V2")


@pytest.mark.parametrize(
    "spelling",
    [
        "{{'shape': {0}, 'descr': '<f8', 'fortran_order': False}}",
        '{{"descr":"<f8","fortran_order":False,"shape":{0}}}',
    ],
)
def test_headers_of_other_writers_are_read(tmp_path: Path, spelling: str) -> None:
    text = spelling.format("(2,3)").encode()
    content = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + bytes(48)
    assert read(tmp_path / "a", content).shape == (2, 3)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x93NUMPY",
        header(),
        header() + bytes(47),
        header() + bytes(49),
        header("(999999999, 999999999)") + bytes(48),
        header("(" + "9" * 5000 + ",)") + bytes(48),
        header("(-2, -3)") + bytes(48),
        header("(6)") + bytes(48),
        header("(2, 3") + bytes(48),
        header("[2, 3]") + bytes(48),
        header("(" + "1, " * 40 + ")") + bytes(8),
        header(descr="'|O'") + bytes(48),
        header(descr="'<f9'") + bytes(54),
        header(descr="'<U2'") + bytes(48),
        header(descr="'<M8[s]'") + bytes(48),
        header(descr="[('a', '<f8')]") + bytes(48),
        header(fortran="0") + bytes(48),
        header(fortran="True, 'fortran_order': False") + bytes(48),
        header(version=b"\x04\x00") + bytes(48),
        header("(" * 3000) + bytes(48),
        header("(2, 3), 'x': __import__('os').system('true')") + bytes(48),
        b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + bytes(48),
        b"\x80\x04\x95" + bytes(48),
        archive({"a.npy": header() + bytes(49)}),
        archive({"a.npy": header() + bytes(47)}),
        archive({"a.txt": b""}),
        archive({"a.npy": header() + bytes(48)}, compression=zipfile.ZIP_BZIP2),
        archive({"a.npy": header() + bytes(48)}) + b"x",
        b"x" + archive({"a.npy": header() + bytes(48)}),
    ],
)
def test_what_is_not_whole_and_plain_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(Malformed):
        read(tmp_path / "a.npz", content)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_arrays_of_one_name_are_refused(tmp_path: Path) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as written:
        for _ in range(2):
            written.writestr("a.npy", header() + bytes(48))
    with pytest.raises(Malformed, match="twice"):
        read(tmp_path / "a.npz", file.getvalue())


def test_an_archive_that_would_fill_the_memory_is_refused_before_it_does(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as written, written.open("a.npy", "w") as member:
        member.write(header("(40000000,)"))
        for _ in range(40):
            member.write(bytes(8_000_000))
    assert path.stat().st_size < 400_000
    tracemalloc.start()
    with pytest.raises(Malformed, match="inflated to 320"):
        read_arrays(path)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_one_that_lies_about_its_size_is_not_inflated_further(tmp_path: Path) -> None:
    """The directory says 128 bytes, the stream goes on for megabytes."""
    content = bytearray(archive({"a.npy": header("(1000000,)") + bytes(8_000_000)}, compression=zipfile.ZIP_DEFLATED))
    true = struct.pack("<I", len(header("(1000000,)")) + 8_000_000)
    for _ in range(content.count(true)):
        place = content.index(true)
        content[place : place + 4] = struct.pack("<I", 128)
    tracemalloc.start()
    with pytest.raises(Malformed):
        read(tmp_path / "a.npz", bytes(content))
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_matrices_of_zeros_are_read_however_well_they_are_compressed(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", up=np.zeros((4096, 64)))
    assert (tmp_path / "a.npz").stat().st_size < 4096 * 64 * 8 / npy.MOST_RATIO
    assert read_arrays(tmp_path / "a.npz")["up"].shape == (4096, 64)  # type: ignore[index]


def test_a_file_with_a_hole_is_not_read_into_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    with open(path, "wb") as file:
        file.write(header(f"({1 << 40},)"))
        try:
            file.truncate(file.tell() + (8 << 40))
        except OSError:
            pytest.skip("no file of this size here")
    with pytest.raises(Malformed, match="at most"):
        read_arrays(path)


@given(ARRAYS, st.data())
def test_any_change_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, array: Any, data: st.DataObject
) -> None:
    for name, save in (("a.npy", np.save), ("a.npz", np.savez_compressed)):
        path = tmp_path_factory.mktemp("npy") / name
        save(path, array)
        content = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(1, 3))):
            place = data.draw(st.integers(0, len(content) - 1))
            content[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
        with suppress(Malformed):
            read(path, bytes(content))
