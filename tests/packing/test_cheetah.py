"""The cost of cheetah, its exactness for every split, and its leakage."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.adapter.synthetic import synthetic_activations, synthetic_module
from helora_core.backend.ledger import Ledger
from helora_core.backend.protocol import Backend
from helora_core.backend.session import open_sessions
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.ir import OpKind
from helora_core.compiler.plan import Plan
from helora_core.errors import LeakageRefused
from helora_core.execution.constants import encode_constants
from helora_core.execution.reference import execute_plain, negacyclic_product, precision_bits
from helora_core.host.manager import get_manager
from helora_core.packing.cheetah import MOST_COEFFICIENTS, Cheetah, InnerProducts
from helora_core.packing.costs import DEFAULT_COSTS
from helora_core.packing.protocol import ScaleRole, Vector
from helora_core.params.ckks import CKKSParams
from helora_core.params.presets import FAST
from helora_core.parties.module_run import ModuleRun, run_module

SMALL = CKKSParams(ring_degree=1024, data_bits=(60, 40), special_bits=(60,), scale_bits=40)
"""Insecure, which no packing can see: 1024 coefficients."""

LLM_SHAPES = ("1536:1536:16", "4096:4096:16", "1536:256:16")


@pytest.fixture(scope="module", params=["numpy", "tenseal"])
def backend(request: pytest.FixtureRequest) -> Backend:
    return get_manager().load_backend(request.param)


@st.composite
def modules(draw: st.DrawFn) -> LoRAModule:
    """Shapes below, at and above the ring degree, ranks above the dimensions, rows of zeros."""
    dimension = st.one_of(st.integers(1, 20), st.sampled_from([63, 64, 300, 1024, 1025, 2500]))
    d_in, d_out, rank = draw(dimension), draw(dimension), draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    down, up = rng.normal(size=(rank, d_in)), rng.normal(size=(d_out, rank))
    down[list(draw(st.sets(st.integers(0, rank - 1))))] = 0
    up[list(draw(st.sets(st.integers(0, d_out - 1))))] = 0
    return LoRAModule("drawn", down, up, draw(st.sampled_from([-32.0, 0.0, 0.5, 2.0])))


def run(backend: Backend, plan: Plan, module: LoRAModule, x: Vector) -> ModuleRun:
    ledger = Ledger()
    client, server = open_sessions(backend, plan.params, (), ledger=ledger)
    constants = encode_constants(plan, module, server.encoder)
    return run_module(plan, constants, client, server, x, client_module=module)


class TestExactness:
    @given(
        split=st.builds(
            InnerProducts,
            role=st.just(ScaleRole.DOWN),
            height=st.integers(1, 9),
            columns=st.integers(1, 40),
            width=st.integers(1, 16),
            rows=st.integers(1, 5),
            tokens=st.integers(1, 4),
        ),
        seed=st.integers(0, 99),
    )
    def test_no_split_that_fits_mixes_anything(self, split: InnerProducts, seed: int) -> None:
        """The ring is as small as the split allows, so that everything that can wrap around does."""
        rng = np.random.default_rng(seed)
        matrix, x = rng.normal(size=(split.height, split.columns)), rng.normal(size=(split.tokens, split.columns))
        n = 1 << (split.rows * split.width * split.tokens - 1).bit_length()
        full = {name: np.pad(vector, (0, n - vector.size)) for name, vector in split.constants(matrix)}
        packed = [np.pad(vector, (0, n - vector.size)) for vector in split.pack(x)]
        outputs = [
            sum(negacyclic_product(packed[b], full[f"down.{b}.{j}"]) for b in range(split.blocks))
            for j in range(split.groups)
        ]
        assert np.allclose(split.unpack(outputs), x @ matrix.T, atol=1e-9)

    @pytest.mark.parametrize("shape", LLM_SHAPES)
    def test_shapes_of_language_models_keep_twelve_bits_under_encryption(self, backend: Backend, shape: str) -> None:
        plan = compile_plan(ModuleShape.parse(shape), Cheetah(), private_weights=False)
        module = synthetic_module(plan.shape, seed=1)
        x = synthetic_activations(plan.shape, 2, seed=2)
        result = run(backend, plan, module, x)
        assert precision_bits(result.delta, module.reference_delta(x)) >= 12
        assert result.executed == plan.counts.times(2)

    @pytest.mark.parametrize("tokens", [5, 16, 40])
    def test_tokens_share_ciphertexts_under_encryption(self, backend: Backend, tokens: int) -> None:
        plan = compile_plan(ModuleShape.parse("96:40:8"), Cheetah(), tokens=tokens, private_weights=False)
        assert plan.tokens_per_run > 1
        module = synthetic_module(plan.shape, seed=1)
        x = synthetic_activations(plan.shape, tokens, seed=2)
        assert precision_bits(run(backend, plan, module, x).delta, module.reference_delta(x)) >= 12

    def test_parameters_with_levels_are_rescaled(self, backend: Backend) -> None:
        plan = compile_plan(ModuleShape.parse("700:300:5"), Cheetah(), params=FAST, private_weights=False)
        assert plan.counts.rescales == plan.counts.decrypts
        module = synthetic_module(plan.shape, seed=1)
        x = synthetic_activations(plan.shape, 1, seed=2)
        assert precision_bits(run(backend, plan, module, x).delta, module.reference_delta(x)) >= 20


class TestCosts:
    @pytest.mark.parametrize(
        ("shape", "ring", "products"),
        [("512:512:8", 4096, 1), ("1536:1536:16", 4096, 8), ("1536:1536:16", 8192, 4)],
    )
    def test_whole_rows_take_the_published_number_of_products(self, shape: str, ring: int, products: int) -> None:
        plan = compile_plan(ModuleShape.parse(shape), Cheetah(), ring_degree=ring, private_weights=False)
        assert (plan.counts.ct_pt, plan.counts.decrypts, plan.counts.encrypts) == (products, products, 1)
        assert (plan.counts.rotations, plan.counts.rescales, len(plan.rounds)) == (0, 0, 1)

    @given(
        shape=st.builds(ModuleShape, d_in=st.integers(1, 5000), d_out=st.integers(1, 50), rank=st.integers(1, 130)),
        tokens=st.sampled_from([None, 1, 7, 64]),
    )
    def test_every_layout_fits_the_ring_and_follows_the_formula(self, shape: ModuleShape, tokens: int | None) -> None:
        for layout in Cheetah().layouts(shape, 1024, tokens=tokens, costs=DEFAULT_COSTS):
            split = layout.products
            assert split.tokens * split.rows * split.width <= 2048
            assert split.tokens <= (tokens or 1)
            assert split.blocks == -(-shape.d_in // split.width)
            assert split.groups == -(-shape.rank // split.rows)

    def test_results_that_must_be_sanitised_are_fewer_and_inputs_more(self) -> None:
        sent, sanitized = Cheetah().layouts(ModuleShape.parse("1536:1536:16"), 2048, tokens=None, costs=DEFAULT_COSTS)
        assert sanitized.products.groups < sent.products.groups
        assert sanitized.products.blocks > sent.products.blocks

    def test_many_tokens_take_fewer_ciphertexts_each(self) -> None:
        shape = ModuleShape.parse("1536:1536:16")
        alone, many = (
            compile_plan(shape, Cheetah(), private_weights=False),
            compile_plan(shape, Cheetah(), tokens=64, private_weights=False),
        )
        assert many.counts.decrypts / many.tokens_per_run < alone.counts.decrypts / alone.tokens_per_run / 10
        assert many.counts.encrypts / many.tokens_per_run <= alone.counts.encrypts

    @pytest.mark.parametrize("shape", ["1536:1536:16", "11008:4096:64"])
    @pytest.mark.parametrize("slots", [1024, 4096])
    def test_more_tokens_run_together_as_long_as_the_plaintexts_fit_the_memory(self, shape: str, slots: int) -> None:
        for layout in Cheetah().layouts(ModuleShape.parse(shape), slots, tokens=2048, costs=DEFAULT_COSTS):
            split = layout.products
            filled = split.blocks * split.groups * 2 * slots / MOST_COEFFICIENTS
            assert filled <= 1
            assert filled > 1 / 4 or split.tokens == 2048

    def test_one_token_may_take_any_number_of_plaintexts(self) -> None:
        shape = ModuleShape(d_in=1 << 20, d_out=8, rank=300)
        for layout in Cheetah().layouts(shape, 2048, tokens=64, costs=DEFAULT_COSTS):
            assert layout.products.blocks * layout.products.groups * 4096 > MOST_COEFFICIENTS
            assert layout.tokens_per_run == 1

    @given(
        split=st.builds(
            InnerProducts,
            role=st.just(ScaleRole.DOWN),
            height=st.integers(1, 20),
            columns=st.integers(1, 9),
            width=st.integers(1, 9),
            rows=st.integers(1, 20),
            tokens=st.integers(1, 5),
        )
    )
    def test_wanted_is_where_each_token_and_row_ends(self, split: InnerProducts) -> None:
        for group in range(split.groups):
            rows = min(split.rows, split.height - group * split.rows)
            assert split.wanted(group) == tuple(
                (token * split.rows + row) * split.width + split.width - 1
                for token in range(split.tokens)
                for row in range(rows)
            )


class TestLeakage:
    def test_a_sanitised_plan_keeps_the_coefficients_of_z_and_no_others(self) -> None:
        plan = compile_plan(ModuleShape.parse("100:7:5"), Cheetah(), sanitize_bits=40, private_weights=False)
        kept = [op.positions for op in plan.program.ops if op.kind is OpKind.SANITIZE]
        assert kept == [(99, 199, 299, 399, 499)]

    def test_the_other_coefficients_give_down_away(self) -> None:
        """x = 1, 0, 0, …: the product is the plaintext."""
        module = synthetic_module(ModuleShape(d_in=50, d_out=3, rank=4), seed=1)
        plan = compile_plan(module.shape, Cheetah(), params=SMALL, private_weights=False)
        x = np.zeros((1, 50))
        x[0, 0] = 1.0
        (decrypted,) = execute_plain(plan.program, plan.pack(x), dict(plan.layout.constants(module)))
        assert np.allclose(decrypted[:200].reshape(4, 50)[:, ::-1], module.down)

    def test_a_client_without_the_adapter_is_refused(
        self, refused: Callable[..., AbstractContextManager[None]]
    ) -> None:
        layout: Any = next(Cheetah().layouts(ModuleShape(d_in=3, d_out=1, rank=1), 8, tokens=None, costs=DEFAULT_COSTS))
        with refused(LeakageRefused, "cheetah", "adapter", hint="cheetah_two_round"):
            layout.unpack([np.ones(16)], 1, None)
