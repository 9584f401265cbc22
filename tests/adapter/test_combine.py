"""Modules made of modules compute what those compute, and what does nothing can be left out."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helora_core.adapter.combine import compact, stack, unstack
from helora_core.adapter.lora import LoRAModule
from helora_core.errors import InvalidInput

Refused = Callable[..., AbstractContextManager[None]]

SIZES = st.integers(1, 6)


def module_of(name: str, d_in: int, d_out: int, rank: int, seed: int, scaling: float = 1.5) -> LoRAModule:
    rng = np.random.default_rng(seed)
    return LoRAModule(name, rng.normal(size=(rank, d_in)), rng.normal(size=(d_out, rank)), scaling)


@st.composite
def alike(draw: st.DrawFn) -> list[LoRAModule]:
    """One to four modules on one input, of any widths, ranks and scalings."""
    d_in = draw(SIZES)
    return [
        module_of(
            f"layers.0.{i}", d_in, draw(SIZES), draw(SIZES), draw(st.integers(0, 99)), draw(st.floats(-4, 4, width=16))
        )
        for i in range(draw(st.integers(1, 4)))
    ]


@st.composite
def pruned(draw: st.DrawFn) -> LoRAModule:
    """A module some of whose ranks have a row of zeros in ``down``, a column of zeros in ``up``, or both; or a gate."""
    module = module_of("m", draw(SIZES), draw(SIZES), draw(SIZES), draw(st.integers(0, 99)))
    ranks = st.sets(st.integers(0, module.shape.rank - 1))
    down, up = module.down.copy(), module.up.copy()
    down[list(draw(ranks))] = 0.0
    up[:, list(draw(ranks))] = 0.0
    return LoRAModule("m", down, up, draw(st.sampled_from([1.5, -0.25, 0.0])))


def activations(module: LoRAModule, tokens: int = 3) -> np.ndarray:
    return np.random.default_rng(7).normal(size=(tokens, module.shape.d_in))


class TestStack:
    @given(alike())
    def test_its_delta_is_theirs_one_after_the_other(self, modules: list[LoRAModule]) -> None:
        x, together = activations(modules[0]), stack(modules)
        found = unstack(together.reference_delta(x), modules)
        assert len(found) == len(modules)
        for delta, module in zip(found, modules, strict=True):
            np.testing.assert_allclose(delta, module.reference_delta(x), rtol=1e-12, atol=1e-12)

    @given(alike())
    def test_its_widths_and_ranks_add_up(self, modules: list[LoRAModule]) -> None:
        shape = stack(modules).shape
        assert shape.d_in == modules[0].shape.d_in
        assert shape.d_out == sum(module.shape.d_out for module in modules)
        assert shape.rank == sum(module.shape.rank for module in modules)

    def test_a_module_reaches_no_other_ones_delta(self) -> None:
        q, v = module_of("q", 4, 3, 2, 0), module_of("v", 4, 2, 1, 1)
        up = stack([q, v]).scaled_up
        assert not up[:3, 2:].any()
        assert not up[3:, :2].any()

    def test_one_alone_is_itself(self) -> None:
        module = module_of("q", 4, 3, 2, 0)
        assert stack([module]) is module

    @pytest.mark.parametrize(
        ("names", "stacked"),
        [
            (["l.0.self_attn.q_proj", "l.0.self_attn.v_proj"], "l.0.self_attn.{q_proj,v_proj}"),
            (["l.0.a.q", "l.1.a.q"], "l.{0.a.q,1.a.q}"),
            (["q", "v"], "{q,v}"),
            (["a.b", "a.b.c"], "a.{b,b.c}"),
        ],
    )
    def test_its_name_says_what_it_is_made_of(self, names: list[str], stacked: str) -> None:
        assert stack([module_of(name, 4, 3, 2, i) for i, name in enumerate(names)]).name == stacked

    def test_inputs_of_different_widths_are_refused_by_name(self, refused: Refused) -> None:
        with refused(InvalidInput, "q takes 4", "down takes 5", hint="q, k and v"):
            stack([module_of("q", 4, 3, 2, 0), module_of("down", 5, 3, 2, 1)])

    def test_nothing_makes_no_module(self, refused: Refused) -> None:
        with refused(InvalidInput, "there are no modules"):
            stack([])


class TestCompact:
    @given(pruned())
    def test_its_delta_is_the_same(self, module: LoRAModule) -> None:
        x = activations(module)
        np.testing.assert_allclose(compact(module).reference_delta(x), module.reference_delta(x), rtol=1e-12, atol=0)

    @given(pruned())
    def test_exactly_the_ranks_that_add_something_are_left(self, module: LoRAModule) -> None:
        alive = [i for i in range(module.shape.rank) if module.down[i].any() and module.scaled_up[:, i].any()]
        small = compact(module)
        assert small.name == module.name
        assert (small.shape.d_in, small.shape.d_out) == (module.shape.d_in, module.shape.d_out)
        assert small.shape.rank == max(1, len(alive))
        if alive:
            np.testing.assert_array_equal(small.down, module.down[alive])
            np.testing.assert_array_equal(small.scaled_up, module.scaled_up[:, alive])

    @given(pruned())
    def test_twice_is_once(self, module: LoRAModule) -> None:
        once = compact(module)
        again = compact(once)
        assert again.shape == once.shape
        np.testing.assert_array_equal(again.down, once.down)
        np.testing.assert_array_equal(again.scaled_up, once.scaled_up)

    def test_a_dense_module_is_itself(self) -> None:
        module = module_of("q", 4, 3, 2, 0)
        assert compact(module) is module

    @pytest.mark.parametrize("part", ["down", "up", "gate"])
    def test_where_nothing_is_alive_one_rank_of_zeros_stays(self, part: str) -> None:
        sound = module_of("q", 4, 3, 2, 0)
        module = LoRAModule(
            "q",
            np.zeros((2, 4)) if part == "down" else sound.down,
            np.zeros((3, 2)) if part == "up" else sound.up,
            0.0 if part == "gate" else 1.5,
        )
        small = compact(module)
        assert small.shape.rank == 1
        assert not small.down.any()
        assert not small.scaled_up.any()

    def test_a_rank_that_is_alive_in_one_factor_alone_is_dropped(self) -> None:
        module = LoRAModule("q", np.array([[1.0, 2.0], [0.0, 0.0]]), np.array([[0.0, 3.0], [0.0, 4.0]]), 1.0)
        assert not compact(module).down.any()
