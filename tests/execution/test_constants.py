"""Weights are encoded once, as far as the byte budget allows, and results are right either way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.adapter.synthetic import synthetic_activations, synthetic_module
from helora_core.backend.capabilities import Encoding
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.ir import ConstantSpec
from helora_core.compiler.plan import Plan
from helora_core.errors import InvalidInput
from helora_core.execution.constants import ConstantCache, encode_constants, plaintext_bytes
from helora_core.execution.reference import precision_bits
from helora_core.host.manager import get_manager
from helora_core.parties.adapter_run import ModuleJob, run_adapter
from helora_core.parties.module_run import run_module

SHAPE = ModuleShape.parse("37:90:5")
RING = 1024


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], list[bytes]]:
    """What a server encodes from now on, value by value."""

    def watch(server: Any) -> list[bytes]:
        made: list[bytes] = []
        encode = server.encode

        def noting(values: Any, **options: Any) -> Any:
            made.append(np.asarray(values).tobytes())
            return encode(values, **options)

        monkeypatch.setattr(server, "encode", noting)
        return made

    return watch


def bytes_of(plan: Plan) -> int:
    return sum(plaintext_bytes(spec, plan.params.ring_degree) for spec in plan.constant_specs.values())


def run(bench: Any, constants: Any, tokens: int = 2) -> Any:
    x = synthetic_activations(bench.plan.shape, tokens, seed=2)
    owner = bench.module if bench.plan.packing.client_finishes else None
    done = run_module(bench.plan, constants, bench.client, bench.server, x, client_module=owner)
    return precision_bits(done.delta, bench.module.reference_delta(x))


def test_a_plaintext_is_eight_bytes_a_residue_and_a_number_none() -> None:
    assert plaintext_bytes(ConstantSpec(level=2, scale_bits=30), RING) == 3 * 8 * RING
    assert plaintext_bytes(ConstantSpec(level=0, scale_bits=30, encoding=Encoding.COEFFICIENTS), RING) == 8 * RING
    assert plaintext_bytes(ConstantSpec(level=2, scale_bits=30, encoding=Encoding.SCALAR), RING) == 0


class TestByteBudget:
    @pytest.mark.parametrize("packing", ["rank_bsgs", "zero_moai", "outer_product"])
    @pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
    def test_results_are_right_whatever_is_kept(
        self, backend: Any, make_bench: Callable[..., Any], packing: str, share: float
    ) -> None:
        bench = make_bench(backend, packing=packing)
        budget = int(share * bytes_of(bench.plan))
        constants = encode_constants(bench.plan, bench.module, bench.server.encoder, byte_budget=budget)
        assert constants.bytes_held <= budget
        assert (constants.over_budget == 0) == (share == 1.0)
        assert run(bench, constants) > 12

    def test_what_fits_is_encoded_once_for_all_runs(
        self, numpy_backend: Any, make_bench: Callable[..., Any], encoded: Callable[[Any], list[bytes]]
    ) -> None:
        bench = make_bench(numpy_backend)
        made = encoded(bench.server.encoder)
        constants = encode_constants(bench.plan, bench.module, bench.server.encoder)
        assert len(made) == len(bench.plan.constant_specs)
        assert constants.bytes_held == bytes_of(bench.plan)
        run(bench, constants, tokens=3 * bench.plan.tokens_per_run)
        assert len(made) == len(bench.plan.constant_specs)

    def test_what_does_not_fit_is_encoded_each_time_it_is_used(
        self, numpy_backend: Any, make_bench: Callable[..., Any], encoded: Callable[[Any], list[bytes]]
    ) -> None:
        bench = make_bench(numpy_backend)
        made = encoded(bench.server.encoder)
        constants = encode_constants(bench.plan, bench.module, bench.server.encoder, byte_budget=0)
        assert made == []
        assert constants.over_budget == len(bench.plan.constant_specs)
        run(bench, constants, tokens=3 * bench.plan.tokens_per_run)
        uses = Counter(made)
        assert sum(uses.values()) == 3 * bench.plan.counts.ct_pt
        assert set(uses.values()) == {3}

    def test_numbers_are_kept_as_numbers(self, numpy_backend: Any, make_bench: Callable[..., Any]) -> None:
        """cpmm has one for each entry of both matrices."""
        bench = make_bench(numpy_backend, shape="5:4:2", packing="cpmm")
        constants = encode_constants(bench.plan, bench.module, bench.server.encoder, byte_budget=0)
        assert (constants.bytes_held, constants.over_budget) == (0, 0)
        assert run(bench, constants) > 12

    def test_each_plaintext_made_is_told_of(self, numpy_backend: Any, make_bench: Callable[..., Any]) -> None:
        bench = make_bench(numpy_backend)
        told: list[int] = []
        encode_constants(bench.plan, bench.module, bench.server.encoder, byte_budget=0, on_constant=told.append)
        assert told == [1] * len(bench.plan.constant_specs)

    def test_a_module_of_another_shape_is_refused(self, numpy_backend: Any, make_bench: Callable[..., Any]) -> None:
        bench = make_bench(numpy_backend)
        with pytest.raises(InvalidInput, match="Module synthetic has shape 37:90:4; the plan is for 37:90:5"):
            encode_constants(bench.plan, synthetic_module(ModuleShape.parse("37:90:4"), seed=1), bench.server.encoder)


class TestCache:
    @pytest.fixture
    def bench(self, numpy_backend: Any, make_bench: Callable[..., Any]) -> Any:
        return make_bench(numpy_backend)

    @pytest.fixture
    def modules(self) -> list[LoRAModule]:
        return [synthetic_module(SHAPE, seed=i, name=f"layers.{i}") for i in range(4)]

    def test_a_module_that_comes_again_is_not_encoded_again(
        self, bench: Any, modules: list[LoRAModule], encoded: Callable[[Any], list[bytes]]
    ) -> None:
        cache, made = ConstantCache(), encoded(bench.server.encoder)
        first = cache.constants(bench.plan, modules[0], bench.server.encoder)
        assert cache.constants(bench.plan, modules[0], bench.server.encoder) is first
        assert len(made) == len(bench.plan.constant_specs)

    def test_other_weights_and_plans_are_other_plaintexts(self, bench: Any, modules: list[LoRAModule]) -> None:
        cache, encoder = ConstantCache(), bench.server.encoder
        longer = compile_plan(SHAPE, bench.plan.packing, params=bench.plan.params, tokens=64, private_weights=False)
        assert longer.digest != bench.plan.digest
        found = [
            cache.constants(bench.plan, modules[0], encoder),
            cache.constants(bench.plan, modules[1], encoder),
            cache.constants(longer, modules[0], encoder),
        ]
        assert len({id(each) for each in found}) == 3

    def test_one_encoding_serves_every_session(self, backend: Any, make_bench: Callable[..., Any]) -> None:
        cache, benches = ConstantCache(), [make_bench(backend) for _ in range(3)]
        first = cache.constants(benches[0].plan, benches[0].module, benches[0].server.encoder)
        for bench in benches:
            constants = cache.constants(bench.plan, benches[0].module, bench.server.encoder)
            assert constants is first
            assert run(bench, constants) > 12
        assert cache.bytes_held == bytes_of(benches[0].plan)

    def test_two_backends_share_none(
        self, bench: Any, numpy_backend: Any, make_bench: Callable[..., Any], modules: list[LoRAModule]
    ) -> None:
        class Other(type(numpy_backend)):  # type: ignore[misc]
            """Of equal parameters and name."""

        cache, other = ConstantCache(), make_bench(Other())
        assert other.plan.digest == bench.plan.digest
        found = [cache.constants(each.plan, modules[0], each.server.encoder) for each in (bench, other)]
        assert found[0] is not found[1]

    def test_modules_of_equal_weights_and_another_name_are_kept_apart(self, bench: Any) -> None:
        """A gate or a scaling changed in place must never meet plaintexts of before: identity counts, not the name."""
        cache = ConstantCache()
        left, right = (synthetic_module(SHAPE, seed=i, name="same") for i in range(2))
        assert cache.constants(bench.plan, left, bench.server.encoder) is not cache.constants(
            bench.plan, right, bench.server.encoder
        )

    def test_over_the_budget_the_module_used_longest_ago_is_dropped(
        self, bench: Any, modules: list[LoRAModule], encoded: Callable[[Any], list[bytes]]
    ) -> None:
        one = bytes_of(bench.plan)
        cache, made = ConstantCache(byte_budget=2 * one), encoded(bench.server.encoder)

        def encodes(module: LoRAModule) -> bool:
            before = len(made)
            cache.constants(bench.plan, module, bench.server.encoder)
            assert cache.bytes_held <= 2 * one
            return len(made) > before

        assert [encodes(modules[i]) for i in (0, 1, 0)] == [True, True, False]
        assert encodes(modules[2])  # drops 1, since 0 was used after it
        assert [encodes(modules[i]) for i in (0, 2)] == [False, False]
        assert encodes(modules[1])

    @pytest.mark.parametrize("share", [0, 0.5, 1, 1.5, 3])
    def test_no_more_bytes_than_the_budget_are_ever_held(
        self, bench: Any, modules: list[LoRAModule], share: float
    ) -> None:
        budget = int(share * bytes_of(bench.plan))
        cache = ConstantCache(byte_budget=budget)
        for module in [*modules, *modules]:
            cache.constants(bench.plan, module, bench.server.encoder)
            assert cache.bytes_held <= budget

    def test_it_is_used_over_several_adapter_runs(self, numpy_backend: Any) -> None:
        """Keys are made anew for each run, and plaintexts belong to their parameters alone: they are made once."""
        told: list[int] = []
        cache = ConstantCache(on_constant=told.append)
        module = synthetic_module(SHAPE, seed=1)
        plan = compile_plan(SHAPE, get_manager().load_packing("rank_bsgs"), private_weights=False)
        x = synthetic_activations(SHAPE, 1, seed=1)
        for _ in range(2):
            jobs = [ModuleJob(module, x, plan)]
            (outcome,) = run_adapter(numpy_backend, jobs, constants=cache, private_weights=False)
            assert precision_bits(outcome.delta, module.reference_delta(x)) > 12
        assert len(told) == len(plan.constant_specs)
