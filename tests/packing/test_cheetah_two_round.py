"""The cost of cheetah_two_round, that both rounds together compute LoRA, and that the client sees noise in between."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.adapter.synthetic import synthetic_activations, synthetic_module
from helora_core.backend.capabilities import Encoding
from helora_core.backend.ledger import Ledger
from helora_core.backend.protocol import Backend
from helora_core.backend.session import ClientSession, InsecureParametersWarning, ServerSession, open_sessions
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.ir import OpKind
from helora_core.compiler.plan import Plan
from helora_core.errors import InvalidParameters, SlotOverflow
from helora_core.execution.constants import EncodedConstants, encode_constants
from helora_core.execution.executor import Execution
from helora_core.execution.interactive import encrypt_answer
from helora_core.execution.reference import precision_bits
from helora_core.host.manager import get_manager
from helora_core.packing.cheetah import MOST_COEFFICIENTS
from helora_core.packing.cheetah_two_round import CheetahTwoRound
from helora_core.packing.costs import DEFAULT_COSTS
from helora_core.packing.protocol import Interactive, Vector
from helora_core.params.ckks import CKKSParams
from helora_core.parties.client_run import ClientRun
from helora_core.parties.module_run import run_module

SMALL = CKKSParams(ring_degree=1024, data_bits=(46, 44), special_bits=(20,), scale_bits=32)
"""Insecure, which no packing can see: 1024 coefficients."""

LLM_SHAPES = ("1536:1536:16", "4096:4096:16", "1536:256:16")


class Bench(NamedTuple):
    """A compiled module with open sessions."""

    plan: Plan
    module: LoRAModule
    constants: EncodedConstants
    client: ClientSession
    server: ServerSession
    ledger: Ledger

    def run(self, x: Vector) -> Vector:
        result = run_module(self.plan, self.constants, self.client, self.server, x)
        assert result.executed == self.plan.counts.times(self.plan.runs(x.shape[0]))
        return result.delta


@pytest.fixture(scope="module", params=["numpy", "tenseal"])
def backend(request: pytest.FixtureRequest) -> Backend:
    return get_manager().load_backend(request.param)


def bench(backend: Backend, plan: Plan, module: LoRAModule | None = None) -> Bench:
    module = synthetic_module(plan.shape, seed=1) if module is None else module
    ledger = Ledger()
    client, server = open_sessions(
        backend, plan.params, (), ledger=ledger, public_key=True, insecure=plan.params.ring_degree < 4096
    )
    return Bench(plan, module, encode_constants(plan, module, server.encoder), client, server, ledger)


def compiled(shape: str, tokens: int | None = None, sanitize_bits: int | None = None) -> Plan:
    return compile_plan(
        ModuleShape.parse(shape), CheetahTwoRound(), tokens=tokens, sanitize_bits=sanitize_bits, private_weights=False
    )


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


class TestExactness:
    @pytest.mark.parametrize("shape", LLM_SHAPES)
    def test_shapes_of_language_models_keep_twelve_bits(self, backend: Backend, shape: str) -> None:
        one = bench(backend, compiled(shape))
        x = synthetic_activations(one.plan.shape, 2, seed=2)
        assert precision_bits(one.run(x), one.module.reference_delta(x)) >= 12

    @pytest.mark.parametrize("shape", ["1536:1536:16", "37:90:5"])
    def test_they_keep_them_under_a_flood_of_forty_bits(self, backend: Backend, shape: str) -> None:
        one = bench(backend, compiled(shape, sanitize_bits=40))
        x = synthetic_activations(one.plan.shape, 2, seed=2)
        assert precision_bits(one.run(x), one.module.reference_delta(x)) >= 12

    @pytest.mark.parametrize(("shape", "tokens"), [("100:30:5", 9), ("7:300:33", 3), ("5000:60:8", 2), ("20:6:24", 50)])
    def test_tokens_odd_ranks_and_blocks(self, backend: Backend, shape: str, tokens: int) -> None:
        one = bench(backend, compiled(shape, tokens))
        x = synthetic_activations(one.plan.shape, tokens, seed=2)
        assert precision_bits(one.run(x), one.module.reference_delta(x)) >= 11

    @pytest.mark.filterwarnings(f"ignore::{InsecureParametersWarning.__module__}.{InsecureParametersWarning.__name__}")
    def test_rows_of_up_that_are_zero_give_zero(self, backend: Backend) -> None:
        """Libraries put another polynomial in the place of a zero plaintext; it must not meet a mask."""
        plan = compile_plan(ModuleShape.parse("64:500:8"), CheetahTwoRound(), params=SMALL, private_weights=False)
        assert plan.layout.figures["blocks_out"] > 1
        module = synthetic_module(plan.shape, seed=1)
        up = module.up.copy()
        up[: plan.layout.figures["rows_out"]] = 0
        module = LoRAModule("m", module.down, up, module.scaling)
        x = synthetic_activations(plan.shape, 1, seed=2)
        delta = bench(backend, plan, module).run(x)
        assert precision_bits(delta, module.reference_delta(x)) >= 11


class TestCosts:
    @pytest.mark.parametrize(
        ("shape", "products", "up", "down"),
        [("1536:1536:16", 6 + 6, 6 + 1, 1 + 6), ("1536:256:16", 6 + 1, 6 + 1, 1 + 1)],
    )
    def test_counts(self, shape: str, products: int, up: int, down: int) -> None:
        plan = compiled(shape)
        counts = plan.counts
        assert plan.params.ring_degree == 4096
        assert len(plan.params.data_bits) == 2
        assert len(plan.rounds) == 2
        assert (counts.rotations, counts.keyswitches, counts.ct_pt) == (0, 0, products)
        assert (counts.encrypts, counts.decrypts, counts.sanitizes) == (up, down, 1)
        assert counts.rescales == 1

    def test_a_sanitised_plan_masks_modulo_two_primes(self) -> None:
        """Its floods drown the first round's noise, which stands in Δ times ``up``."""
        plan = compiled("1536:1536:16", sanitize_bits=40)
        assert plan.params.ring_degree == 8192
        assert len(plan.params.data_bits) == 3
        assert plan.counts.sanitizes == 1 + plan.layout.figures["blocks_out"]

    @given(
        shape=st.builds(ModuleShape, d_in=st.integers(1, 5000), d_out=st.integers(1, 5000), rank=st.integers(1, 130)),
        tokens=st.sampled_from([None, 1, 7, 64]),
    )
    def test_every_layout_fits_the_ring(self, shape: ModuleShape, tokens: int | None) -> None:
        for layout in CheetahTwoRound().layouts(shape, 2048, tokens=tokens, costs=DEFAULT_COSTS):
            assert layout.up.blocks == 1
            for split in (layout.down, layout.up):
                assert split.tokens * split.rows * split.width <= 4096
                assert split.tokens == layout.tokens_per_run <= (tokens or 1)

    def test_more_tokens_run_together_as_long_as_the_plaintexts_fit_the_memory(self) -> None:
        shape = ModuleShape.parse("8192:200000:64")
        (few,) = CheetahTwoRound().layouts(shape, 2048, tokens=1, costs=DEFAULT_COSTS)
        for layout in CheetahTwoRound().layouts(shape, 2048, tokens=2048, costs=DEFAULT_COSTS):
            plaintexts = layout.down.blocks * layout.down.groups + layout.up.groups
            assert plaintexts * 4096 <= MOST_COEFFICIENTS
            assert few.tokens_per_run < layout.tokens_per_run < 4096 // shape.rank

    def test_a_rank_above_the_ring_is_refused(self, refused: Callable[..., AbstractContextManager[None]]) -> None:
        shape = ModuleShape(d_in=3, d_out=3, rank=2000)
        assert CheetahTwoRound().min_slots(shape) == 1000
        with refused(SlotOverflow, "cheetah_two_round", "2000 coefficients", hint="2048"):
            next(CheetahTwoRound().layouts(shape, 512, tokens=None, costs=DEFAULT_COSTS))
        full = ModuleShape(d_in=3, d_out=3, rank=1024)
        assert next(CheetahTwoRound().layouts(full, 512, tokens=None, costs=DEFAULT_COSTS)).tokens_per_run == 1

    def test_parameters_without_a_prime_to_mask_modulo_are_refused(
        self, refused: Callable[..., AbstractContextManager[None]]
    ) -> None:
        alone = CKKSParams(ring_degree=8192, data_bits=(50,), special_bits=(60,), scale_bits=20)
        with refused(InvalidParameters, "data primes but the last", hint="plan"):
            compile_plan(ModuleShape.parse("64:64:4"), CheetahTwoRound(), params=alone, private_weights=False)


class TestMasks:
    """The client's view between the rounds."""

    @staticmethod
    def seen(one: Bench, x: Vector) -> tuple[Vector, Vector]:
        """Δ, and the integers modulo the first prime that the client decrypted in between."""
        integers: list[Vector] = []
        plan = one.plan.for_module(one.module)
        run = ClientRun(plan, x)

        execution = Execution(plan, one.constants)
        masked = execution.proceed(one.server, [one.server.deserialize(payload) for payload in run.inputs(one.client)])
        messages = [one.client.receive(one.server.send(each)) for each in masked]
        received = [one.client.decrypt(each, encoding=Encoding.INTEGERS) for each in messages]
        integers.extend(residues[0] for residues in received)
        answer = one.server.receive(one.client.send(encrypt_answer(plan, 1, one.client, received)))
        results = execution.proceed(one.server, [answer])
        download = [one.server.serialize(result) for result in results]
        return run.result(one.client, download).delta, np.concatenate(integers)

    def test_masked_coefficients_are_uniform(self, backend: Backend) -> None:
        """χ² of 4096 integers in 64 bins has 63 degrees of freedom: 150 is exceeded once in 10^8 runs."""
        one = bench(backend, compiled("100:30:5"))
        base = one.server.params.data_primes[0]
        _, integers = self.seen(one, synthetic_activations(one.plan.shape, 1, seed=2))
        assert integers.size == 4096
        assert integers.min() >= 0
        assert integers.max() < base
        counts = np.bincount((integers / base * 64).astype(int), minlength=64)
        assert float(((counts - 64.0) ** 2 / 64.0).sum()) < 150

    def test_the_same_x_looks_different_each_time_and_gives_the_same(self, backend: Backend) -> None:
        one = bench(backend, compiled("100:30:5"))
        x = synthetic_activations(one.plan.shape, 1, seed=2)
        (first, seen), (second, again) = self.seen(one, x), self.seen(one, x)
        assert np.mean(seen == again) < 0.01
        assert precision_bits(first, second) > 11

    def test_a_large_z_shows_in_no_coefficient(self, backend: Backend) -> None:
        """Masked zeros and masked large values have the same distribution: correlations with z are chance."""
        one = bench(backend, compiled("100:30:5"))
        base = one.server.params.data_primes[0]
        places = one.plan.layout.figures["width"] * np.arange(1, 6) - 1
        seen = np.array(
            [[self.seen(one, scale * np.ones((1, 100)))[1][places] / base for scale in (0.0, 30.0)] for _ in range(8)]
        )
        # 40 uniform numbers each: means lie within 0.5 ± 6·0.289/√40.
        assert np.abs(seen.mean(axis=(0, 2)) - 0.5).max() < 0.28

    def test_every_value_that_is_asked_for_is_masked_below_the_upper_prime(self) -> None:
        plan = compiled("1536:1536:16")
        masked = [i for i, op in enumerate(plan.program.ops) if op.kind is OpKind.MASK]
        (asked,) = (op for op in plan.program.ops if op.kind is OpKind.ASK_CLIENT)
        assert set(asked.args) == set(masked)
        assert {plan.values[i].level for i in masked} == {plan.params.max_level - 1}

    def test_a_sanitised_plan_keeps_delta_and_nothing_else(self) -> None:
        plan = compile_plan(
            ModuleShape.parse("100:30:5"), CheetahTwoRound(), sanitize_bits=40, precision_bits=10, private_weights=False
        )
        kept = [op.positions for op in plan.program.ops if op.kind is OpKind.SANITIZE]
        assert kept == [tuple(5 * row + 4 for row in range(30))]


def test_its_layout_says_what_the_client_answers() -> None:
    assert isinstance(compiled("100:30:5").layout, Interactive)
