from __future__ import annotations

import io
import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import load, save

from helora_core.adapter.safetensors_io import FloatDType, StoredTensor, read_safetensors, write_safetensors
from helora_core.errors import AdapterFormatError, InvalidInput

EVERY_16_BITS = struct.pack("<65536H", *range(65536))
MATRICES = hnp.arrays(np.float64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=5), elements=st.floats(width=32))


def bfloat16(bits: int) -> float:
    """The value by the format's definition: sign, 8 exponent bits, 7 fraction bits."""
    sign, exponent, fraction = -1.0 if bits >> 15 else 1.0, bits >> 7 & 0xFF, bits & 0x7F
    if exponent == 0xFF:
        return math.nan if fraction else sign * math.inf
    if exponent == 0:
        return sign * math.ldexp(fraction, -133)
    return sign * math.ldexp(128 + fraction, exponent - 134)


def written(values: Any, dtype: FloatDType) -> bytes:
    file = io.BytesIO()
    write_safetensors(file, values, dtype)
    return file.getvalue()


def reread(tmp: Path, values: Any, dtype: FloatDType) -> dict[str, Any]:
    path = tmp / "t.safetensors"
    path.write_bytes(written(values, dtype))
    return {name: tensor.widened() for name, tensor in read_safetensors(path).items()}


class TestWidening:
    def test_every_bfloat16_is_exact(self) -> None:
        wide = StoredTensor("BF16", (256, 256), EVERY_16_BITS).widened()
        assert wide.dtype == np.float64
        np.testing.assert_array_equal(wide.ravel(), [bfloat16(bits) for bits in range(65536)])

    def test_every_float16_is_exact(self) -> None:
        wide = StoredTensor("F16", (65536,), EVERY_16_BITS).widened()
        np.testing.assert_array_equal(wide, struct.unpack("<65536e", EVERY_16_BITS))

    @pytest.mark.parametrize(("dtype", "code"), [("F32", "f"), ("F64", "d")])
    def test_wider_floats_are_exact(self, dtype: str, code: str) -> None:
        data = struct.pack(f"<3{code}", 0.1, -2.5, 1e-30)
        assert StoredTensor(dtype, (3,), data).widened().tolist() == list(struct.unpack(f"<3{code}", data))

    @pytest.mark.parametrize("dtype", ["I64", "U8", "BOOL", "F8_E4M3", "C64"])
    def test_other_dtypes_are_not_floats(self, dtype: str) -> None:
        assert not StoredTensor(dtype, (1,), b"\0" * 8).is_float


class TestReading:
    def test_names_shapes_and_values_are_the_librarys(self, tmp_path: Path) -> None:
        arrays = {"a": np.arange(6.0, dtype=np.float32).reshape(2, 3), "b": np.ones((1, 4), dtype=np.float16)}
        (tmp_path / "t.safetensors").write_bytes(save(arrays))
        tensors = read_safetensors(tmp_path / "t.safetensors")
        assert tensors.keys() == arrays.keys()
        for name, values in arrays.items():
            np.testing.assert_array_equal(tensors[name].widened(), values)

    def test_a_git_lfs_pointer_is_refused_with_advice(self, tmp_path: Path, refused: Callable[..., Any]) -> None:
        path = tmp_path / "t.safetensors"
        path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1858776\n")
        with refused(AdapterFormatError, str(path), hint="git lfs pull"):
            read_safetensors(path)

    def test_what_cannot_be_opened_is_refused(self, tmp_path: Path, refused: Callable[..., Any]) -> None:
        for path in (tmp_path / "missing.safetensors", tmp_path):
            with refused(AdapterFormatError, str(path), "cannot be read"):
                read_safetensors(path)


class TestWriting:
    @pytest.mark.parametrize("dtype", ["f64", "f32", "f16"])
    def test_the_library_reads_it(self, dtype: FloatDType) -> None:
        values = {"b.weight": np.array([[0.1, -2.0]]), "a.weight": np.array([[3.0], [4.0]])}
        read = load(written(values, dtype))
        for name, expected in values.items():
            np.testing.assert_array_equal(read[name], expected.astype(f"f{int(dtype[1:]) // 8}"))

    def test_the_data_is_aligned(self) -> None:
        for length in range(1, 12):
            content = written({"x" * length: np.ones((1, 1))}, "f32")
            assert int.from_bytes(content[:8], "little") % 8 == 0

    @given(values=MATRICES.filter(lambda v: bool(np.isfinite(v).all())))
    def test_float32_values_come_back(self, tmp_path_factory: pytest.TempPathFactory, values: Any) -> None:
        np.testing.assert_array_equal(reread(tmp_path_factory.mktemp("t"), {"t": values}, "f32")["t"], values)

    def test_every_finite_bfloat16_comes_back(self, tmp_path: Path) -> None:
        values = StoredTensor("BF16", (256, 256), EVERY_16_BITS).widened()
        values = np.where(np.isfinite(values), values, 0.0)
        np.testing.assert_array_equal(reread(tmp_path, {"t": values}, "bf16")["t"], values)

    @given(st.floats(-(2.0**100), 2.0**100, width=32))
    def test_bfloat16_is_the_nearest_one_ties_to_even(
        self, tmp_path_factory: pytest.TempPathFactory, value: float
    ) -> None:
        below = struct.unpack("<I", struct.pack("<f", value))[0] >> 16
        nearest = min((below, below + 1), key=lambda bits: (abs(bfloat16(bits) - value), bits & 1))
        got = reread(tmp_path_factory.mktemp("t"), {"t": np.array([[value]])}, "bf16")["t"]
        assert got.item() == bfloat16(nearest)

    @pytest.mark.parametrize(("dtype", "value"), [("f16", 65520.0), ("f32", 1e39), ("bf16", 1e39), ("bf16", 3.4e38)])
    def test_values_too_large_are_refused(self, refused: Callable[..., Any], dtype: FloatDType, value: float) -> None:
        with refused(InvalidInput, "'big.weight'", dtype):
            written({"big.weight": np.array([[1.0, -value]])}, dtype)
