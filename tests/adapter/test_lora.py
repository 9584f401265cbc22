from __future__ import annotations

import hashlib
import random
import struct
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helora_core.adapter.lora import LoRAAdapter, LoRAModule, ModuleShape
from helora_core.errors import AdapterFormatError, InvalidInput

DIMENSIONS = st.integers(1, 6)
SHAPES = st.builds(ModuleShape, d_in=DIMENSIONS, d_out=DIMENSIONS, rank=DIMENSIONS)


def module(name: str = "q_proj", shape: str = "3:4:2", scaling: float = 0.5, seed: int = 0) -> LoRAModule:
    parsed = ModuleShape.parse(shape)
    rng = np.random.default_rng(seed)
    down, up = rng.normal(size=(parsed.rank, parsed.d_in)), rng.normal(size=(parsed.d_out, parsed.rank))
    return LoRAModule(name, down, up, scaling)


def adapter(*names: str) -> LoRAAdapter:
    return LoRAAdapter.from_modules([module(name) for name in names], source="here")


class TestModuleShape:
    @given(*[st.integers(1, 10**9 - 1)] * 3)
    def test_parse_undoes_str(self, d_in: int, d_out: int, rank: int) -> None:
        shape = ModuleShape(d_in=d_in, d_out=d_out, rank=rank)
        assert ModuleShape.parse(str(shape)) == shape
        assert str(shape) == f"{d_in}:{d_out}:{rank}"

    @pytest.mark.parametrize("text", ["", "1:2", "1:2:3:4", "1:2:-3", "1:2:x", " 1:2:3", "1:2:3\n", "1:2:٣", "1.0:2:3"])
    def test_other_text_is_refused(self, refused: Callable[..., Any], text: str) -> None:
        with refused(InvalidInput, "ModuleShape", hint="d_in:d_out:r"):
            ModuleShape.parse(text)

    @pytest.mark.parametrize("field", ["d_in", "d_out", "rank"])
    @pytest.mark.parametrize("value", [0, -1, 2.0, True, "3", None])
    def test_dimensions_are_positive_ints(self, refused: Callable[..., Any], field: str, value: Any) -> None:
        with refused(InvalidInput, field, repr(value)):
            ModuleShape(**({"d_in": 1, "d_out": 1, "rank": 1} | {field: value}))

    def test_is_plain_data(self) -> None:
        shape = ModuleShape.parse("3:4:2")
        assert msgspec.json.decode(msgspec.json.encode(shape), type=ModuleShape) == shape
        assert len({shape, ModuleShape.parse("3:4:2")}) == 1
        with pytest.raises(AttributeError):
            shape.rank = 3  # type: ignore[misc]


class TestLoRAModule:
    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
    def test_matrices_become_float64_exactly(self, dtype: Any) -> None:
        down, up = np.array([[0.1, 2, 3]], dtype=dtype), np.array([[1], [7]], dtype=dtype)
        made = LoRAModule("m", down, up, 1)
        assert made.down.dtype == made.up.dtype == np.dtype("float64")
        assert made.down.tolist() == down.tolist()
        assert made.shape == ModuleShape(d_in=3, d_out=2, rank=1)
        assert type(made.scaling) is float

    def test_matrices_are_read_only_copies(self) -> None:
        down = np.ones((1, 3))
        made = LoRAModule("m", down, np.ones((2, 1)), 1.0)
        down[:] = 9
        assert made.down.tolist() == [[1, 1, 1]]
        for values in (made.down, made.up):
            with pytest.raises(ValueError, match="read-only"):
                values[0, 0] = 5

    def test_repr_names_the_module_and_prints_no_weights(self) -> None:
        assert "q_proj" in repr(module())
        assert "array" not in repr(module())

    @pytest.mark.parametrize("name", ["", None, 3, "a\ud800", "a\x1b[2J", "a\0"])
    def test_name_is_printable_text(self, refused: Callable[..., Any], name: Any) -> None:
        with refused(AdapterFormatError, repr(name)):
            LoRAModule(name, np.ones((1, 1)), np.ones((1, 1)), 1.0)

    @pytest.mark.parametrize("which", ["down", "up"])
    @pytest.mark.parametrize(
        ("values", "found"),
        [
            (np.ones(3), "3"),
            (np.ones((1, 1, 1)), "1 × 1 × 1"),
            (np.array(1.0), "a scalar"),
            (np.ones((0, 3)), "0 × 3"),
            (np.ones((3, 0)), "3 × 0"),
            (np.ones((2, 2), dtype=np.int64), "int64"),
            (np.ones((2, 2), dtype=np.complex128), "complex128"),
            (np.ones((2, 2), dtype=object), "object"),
            ([[1.0]], "list"),
            (np.array([[np.nan, 1.0]]), "NaN"),
            (np.array([[-np.inf]]), "infinity"),
        ],
    )
    def test_bad_matrices_are_refused(self, refused: Callable[..., Any], which: str, values: Any, found: str) -> None:
        matrices = {"down": np.ones((1, 1)), "up": np.ones((1, 1))} | {which: values}
        with refused(AdapterFormatError, "'q_proj'", which, found):
            LoRAModule("q_proj", scaling=1.0, **matrices)

    @pytest.mark.skipif(np.longdouble(0).itemsize == 8, reason="longdouble is float64 here")
    def test_floats_that_would_be_rounded_are_refused(self, refused: Callable[..., Any]) -> None:
        with refused(AdapterFormatError, "down", str(np.dtype(np.longdouble))):
            LoRAModule("m", np.ones((1, 1), dtype=np.longdouble), np.ones((1, 1)), 1.0)

    @pytest.mark.parametrize("scaling", [np.nan, np.inf, -np.inf, True, "1", None, 1j])
    def test_scaling_is_a_finite_number(self, refused: Callable[..., Any], scaling: Any) -> None:
        with refused(AdapterFormatError, "'q_proj'", "scaling", type(scaling).__name__):
            LoRAModule("q_proj", np.ones((1, 1)), np.ones((1, 1)), scaling)

    @pytest.mark.parametrize(("down", "up"), [((3, 2), (4, 2)), ((2, 3), (2, 4)), ((3, 2), (2, 4)), ((2, 3), (4, 1))])
    def test_transposed_or_foreign_matrices_are_refused(
        self, refused: Callable[..., Any], down: tuple[int, int], up: tuple[int, int]
    ) -> None:
        with refused(AdapterFormatError, "'q_proj'", "ranks", hint="transposed"):
            LoRAModule("q_proj", np.ones(down), np.ones(up), 1.0)


class TestReferenceDelta:
    @given(SHAPES, st.integers(0, 4), st.floats(-4, 4), st.integers(0, 2**32 - 1))
    def test_is_the_dense_update(self, shape: ModuleShape, tokens: int, scaling: float, seed: int) -> None:
        made = module(shape=str(shape), scaling=scaling, seed=seed)
        x = np.random.default_rng(seed + 1).normal(size=(tokens, shape.d_in))
        dense = np.zeros((tokens, shape.d_out))
        for t in range(tokens):
            for o in range(shape.d_out):
                for k in range(shape.rank):
                    for i in range(shape.d_in):
                        dense[t, o] += scaling * made.up[o, k] * made.down[k, i] * x[t, i]
        delta = made.reference_delta(x)
        assert delta.shape == (tokens, shape.d_out)
        assert delta.dtype == np.float64
        np.testing.assert_allclose(delta, dense, atol=1e-11)

    @pytest.mark.parametrize("dtype", [np.float16, np.float32])
    def test_narrow_activations_are_widened_before_the_arithmetic(self, dtype: Any) -> None:
        x = np.random.default_rng(0).normal(size=(2, 3)).astype(dtype)
        assert np.array_equal(module().reference_delta(x), module().reference_delta(x.astype(np.float64)))

    @pytest.mark.parametrize(
        ("x", "found"),
        [
            (np.ones(3), "are 3,"),
            (np.ones((2, 4)), "2 × 4"),
            (np.ones((1, 2, 3)), "1 × 2 × 3"),
            (np.ones((2, 3), dtype=int), "int"),
            (np.ones((2, 3), dtype=complex), "complex"),
            ([[1.0, 2.0, 3.0]], "list"),
            (np.array([[1.0, np.nan, 3.0]]), "NaN"),
            (np.array([[1.0, np.inf, 3.0]]), "infinity"),
            (np.full((1, 3), 1.7e308), "overflows"),
        ],
    )
    def test_bad_activations_are_refused(self, refused: Callable[..., Any], x: Any, found: str) -> None:
        made = LoRAModule("q_proj", np.ones((2, 3)), np.ones((4, 2)), 8.0)
        with refused(InvalidInput, "'q_proj'", found):
            made.reference_delta(x)


class TestLoRAAdapter:
    def test_modules_are_in_natural_order_and_read_only(self) -> None:
        names = [f"layers.{i}.q_proj" for i in (10, 2, 1)]
        made = adapter(*names)
        assert list(made.modules) == names[::-1]
        with pytest.raises(TypeError):
            made.modules["x"] = module()  # type: ignore[index]

    def test_an_empty_adapter_is_refused(self, refused: Callable[..., Any]) -> None:
        with refused(AdapterFormatError, "here", "no module"):
            LoRAAdapter({}, "here")

    def test_a_module_under_another_name_is_refused(self, refused: Callable[..., Any]) -> None:
        with refused(AdapterFormatError, "here", "'q_proj'", "'k_proj'"):
            LoRAAdapter({"k_proj": module("q_proj")}, "here")

    def test_two_modules_of_one_name_are_refused(self, refused: Callable[..., Any]) -> None:
        with refused(AdapterFormatError, "here", "'q_proj'"):
            adapter("q_proj", "q_proj")


class TestSelect:
    LAYERS = tuple(f"model.layers.{i}.self_attn.{p}" for i in range(12) for p in ("q_proj", "v_proj"))

    @pytest.mark.parametrize(
        ("wanted", "count"),
        [
            ("all", 24),
            ("model.layers.3.self_attn.q_proj", 1),
            ("layers.3.self_attn.q_proj", 1),
            ("q_proj", 12),
            ("*.q_proj", 12),
            ("layers.1?.*", 4),
        ],
    )
    def test_by_all_name_ending_and_pattern(self, wanted: str, count: int) -> None:
        chosen = [found.name for found in adapter(*self.LAYERS).select(wanted)]
        assert len(chosen) == count
        assert chosen == [name for name in self.LAYERS if name in chosen]

    def test_a_full_name_is_taken_literally_before_it_is_a_pattern(self) -> None:
        made = adapter("blocks[0].q_proj", "blocks0.q_proj")
        assert [found.name for found in made.select("blocks[0].q_proj")] == ["blocks[0].q_proj"]

    def test_a_full_name_that_also_ends_another_means_itself(self) -> None:
        assert [found.name for found in adapter("q_proj", "model.q_proj").select("q_proj")] == ["q_proj"]

    def test_a_misspelling_is_refused_with_close_names(self, refused: Callable[..., Any]) -> None:
        with refused(InvalidInput, "here", "'q_prj'", hint="q_proj"):
            adapter(*self.LAYERS).select("q_prj")

    def test_a_name_like_none_is_refused_with_some_that_exist(self, refused: Callable[..., Any]) -> None:
        with refused(InvalidInput, "here", "'zzz'", hint="model.layers.0.self_attn.q_proj"):
            adapter(*self.LAYERS).select("zzz")


class TestDigest:
    def test_is_sha256_over_the_documented_bytes(self) -> None:
        down, up = [[1.0, -2.0]], [[0.5], [3.0], [-0.0]]
        made = LoRAModule("m.q", np.array(down), np.array(up), 0.25)
        expected = b"helora adapter 1\0" + struct.pack("<4Qd", 3, 2, 3, 1, 0.25) + b"m.q"
        expected += struct.pack("<2d", 1.0, -2.0) + struct.pack("<3d", 0.5, 3.0, -0.0)
        assert LoRAAdapter.from_modules([made], source="").digest == hashlib.sha256(expected).hexdigest()

    def test_does_not_depend_on_source_order_or_storage(self) -> None:
        modules = [module(f"layers.{i}", seed=i) for i in range(5)]
        reference = LoRAAdapter.from_modules(modules, source="a").digest
        random.Random(1).shuffle(modules)
        assert LoRAAdapter.from_modules(modules, source="b").digest == reference
        big_endian = [
            LoRAModule(m.name, np.asfortranarray(m.down).astype(">f8"), m.up.astype(">f8"), m.scaling) for m in modules
        ]
        assert LoRAAdapter.from_modules(big_endian, source="a").digest == reference

    def test_changes_with_every_part(self) -> None:
        base = module()
        changed = base.up.copy()
        changed[-1, -1] = np.nextafter(changed[-1, -1], 9)
        variants = [
            base,
            LoRAModule("k_proj", base.down, base.up, base.scaling),
            LoRAModule(base.name, base.down, base.up, np.nextafter(base.scaling, 1)),
            LoRAModule(base.name, base.down, changed, base.scaling),
            LoRAModule(base.name, base.down.reshape(1, 6), base.up.reshape(8, 1), base.scaling),
        ]
        assert len({LoRAAdapter.from_modules([m], source="").digest for m in variants}) == len(variants)
