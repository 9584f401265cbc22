"""Many modules on one backend: what is shared, what is checked first, and what is told."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec
import numpy as np
import pytest

from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.adapter.synthetic import synthetic_activations, synthetic_module
from helora_core.backend.capabilities import Encoding, RescaleMode
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.plan import Plan
from helora_core.compiler.requirements import require_capabilities
from helora_core.errors import CapabilityMissing, InsecureParameters, InvalidInput
from helora_core.execution.reference import precision_bits
from helora_core.execution.telemetry import Telemetry, TelemetryWarning
from helora_core.host.manager import get_manager
from helora_core.params.ckks import CKKSParams
from helora_core.params.presets import FAST, SAFE
from helora_core.parties.adapter_run import ModuleJob, run_adapter
from helora_core.specs import TelemetryEvent

Q, V = ModuleShape.parse("37:90:5"), ModuleShape.parse("37:20:5")


@pytest.fixture
def counting(numpy_backend: Any) -> Any:
    """The emulation, noting for which parameters and steps it makes keys."""

    class Counting(type(numpy_backend)):  # type: ignore[misc]
        def __init__(self) -> None:
            self.made: list[tuple[CKKSParams, frozenset[int]]] = []

        def generate_keys(self, params: CKKSParams, rotation_steps: Collection[int], **options: Any) -> Any:
            self.made.append((params, frozenset(rotation_steps)))
            return super().generate_keys(params, rotation_steps, **options)

    return Counting()


def plan_for(shape: ModuleShape, packing: str = "rank_bsgs", **options: Any) -> Plan:
    return compile_plan(shape, get_manager().load_packing(packing), **options, private_weights=False)


def work_for(*plans: Plan, tokens: int = 2) -> list[ModuleJob]:
    return [
        ModuleJob(
            synthetic_module(plan.shape, seed=i, name=f"layers.{i}"),
            synthetic_activations(plan.shape, tokens, seed=i),
            plan,
        )
        for i, plan in enumerate(plans)
    ]


def run(backend: Any, work: list[ModuleJob], **options: Any) -> list[Any]:
    return list(run_adapter(backend, work, **options, private_weights=False))


@pytest.mark.parametrize("packing", ["rank_bsgs", "zero_moai"])
def test_every_module_gets_its_own_delta_in_order(backend: Any, packing: str) -> None:
    q, v = (plan_for(shape, packing) for shape in (Q, V))
    work = work_for(q, v, q)
    outcomes = run(backend, work)
    assert [outcome.job for outcome in outcomes] == work
    for outcome in outcomes:
        reference = outcome.job.module.reference_delta(outcome.job.x)
        assert precision_bits(outcome.delta, reference) > 12
        assert outcome.report.executed == outcome.job.plan.counts.times(outcome.job.plan.runs(2))
        assert outcome.load_ns > 0


class TestKeys:
    def test_plans_of_equal_parameters_share_one_key_set_for_exactly_their_steps(self, counting: Any) -> None:
        q, v = plan_for(Q), plan_for(V)
        assert q.rotation_steps != v.rotation_steps
        run(counting, work_for(q, v, v, q))
        ((params, steps),) = counting.made
        assert params == counting.resolve(q.params)
        assert steps == {*q.rotation_steps, *v.rotation_steps}

    def test_plans_of_one_shape_but_other_packings_or_tokens_share_them_too(self, counting: Any) -> None:
        plans = plan_for(Q), plan_for(Q, tokens=400), plan_for(Q, "outer_product")
        outcomes = run(counting, work_for(*plans))
        ((_, steps),) = counting.made
        assert steps == {step for plan in plans for step in plan.rotation_steps}
        assert [outcome.report.executed for outcome in outcomes] == [plan.counts for plan in plans]

    def test_plans_of_other_parameters_get_keys_of_their_own(self, counting: Any) -> None:
        q, v = plan_for(Q, params=FAST), plan_for(V, params=SAFE)
        run(counting, work_for(q, v, q))
        assert counting.made == [(counting.resolve(plan.params), frozenset(plan.rotation_steps)) for plan in (q, v)]

    def test_the_strictest_level_that_any_plan_was_compiled_for_is_insisted_on(self, counting: Any) -> None:
        q, v = plan_for(Q, params=FAST), plan_for(V, params=FAST, security_bits=192)
        with pytest.raises(InsecureParameters, match="192-bit"):
            run(counting, work_for(q, v))
        assert counting.made == []

    def test_the_plans_own_table_is_what_its_parameters_are_held_against(self, counting: Any) -> None:
        wide = CKKSParams(ring_degree=8192, data_bits=(60, 50, 48), special_bits=(60,), scale_bits=40)
        run(counting, work_for(plan_for(Q, params=wide, table="he-standard-2018")))
        with pytest.raises(InsecureParameters, match="guidelines-2024"):
            run(counting, work_for(plan_for(Q, params=wide)))


class TestBeforeAnyKey:
    @pytest.mark.parametrize(
        "bad",
        [
            np.ones((2, 38)),
            np.ones(37),
            np.ones((0, 37)),
            np.full((2, 37), np.nan),
            np.ones((2, 37), dtype=complex),
        ],
    )
    def test_activations_of_the_last_module_are_checked_before_keys_are_made(self, counting: Any, bad: Any) -> None:
        work = work_for(plan_for(Q), plan_for(V))
        work[-1] = ModuleJob(work[-1].module, bad, work[-1].plan)
        with pytest.raises(InvalidInput, match=r"layers\.1"):
            next(run_adapter(counting, work, private_weights=False))
        assert counting.made == []

    def test_capabilities_are_checked_before_keys_are_made(self, counting: Any) -> None:
        counting.capabilities = msgspec.structs.replace(counting.capabilities, encodings=frozenset({Encoding.SCALAR}))
        with pytest.raises(CapabilityMissing):
            next(run_adapter(counting, work_for(plan_for(Q)), private_weights=False))
        assert counting.made == []

    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int64])
    def test_activations_of_any_real_type_will_do(self, numpy_backend: Any, dtype: Any) -> None:
        (job,) = work_for(plan_for(Q))
        x = (8 * job.x).astype(dtype)
        (outcome,) = run(numpy_backend, [ModuleJob(job.module, x, job.plan)])
        assert isinstance(job.module, LoRAModule)
        assert precision_bits(outcome.delta, job.module.reference_delta(x.astype(np.float64))) > 12


UNEVEN = CKKSParams(ring_degree=8192, data_bits=(60, 38, 40), special_bits=(60,), scale_bits=40)
"""Data primes of two lengths make plaintext scales that differ from the input's."""


class TestCapabilities:
    @pytest.mark.parametrize(
        ("lacking", "named"),
        [
            ({"encodings": frozenset({Encoding.SCALAR})}, "an encoding of slots"),
            ({"free_plaintext_scale": False}, "plaintext scales of their own"),
        ],
    )
    def test_what_is_missing_is_named(self, counting: Any, lacking: dict[str, Any], named: str) -> None:
        counting.capabilities = msgspec.structs.replace(counting.capabilities, **lacking)
        plan = plan_for(Q, params=UNEVEN)
        with pytest.raises(CapabilityMissing, match=f"numpy lacks {named}, which plan rank_bsgs 37:90:5 needs"):
            require_capabilities(counting, plan)

    def test_everything_missing_is_named_at_once(self, counting: Any) -> None:
        counting.capabilities = msgspec.structs.replace(
            counting.capabilities, encodings=frozenset(), free_plaintext_scale=False
        )
        with pytest.raises(CapabilityMissing, match="an encoding of slots, plaintext scales of their own"):
            require_capabilities(counting, plan_for(Q, params=UNEVEN))

    def test_who_rescales_is_the_backends_own_business(self, counting: Any) -> None:
        counting.capabilities = msgspec.structs.replace(counting.capabilities, rescale=RescaleMode.AUTOMATIC)
        require_capabilities(counting, plan_for(Q))

    def test_scales_that_the_program_has_no_plaintext_of_are_no_matter(self, counting: Any) -> None:
        """zero_moai has a product with ``down`` and none with ``up``."""
        counting.capabilities = msgspec.structs.replace(counting.capabilities, free_plaintext_scale=False)
        plan = plan_for(Q, "zero_moai", params=UNEVEN)
        assert plan.scales.up_bits != plan.scales.down_bits == plan.params.scale_bits
        require_capabilities(counting, plan)

    def test_a_fixed_plaintext_scale_will_do_where_the_plan_has_only_that(self, counting: Any) -> None:
        counting.capabilities = msgspec.structs.replace(counting.capabilities, free_plaintext_scale=False)
        plan = plan_for(Q)
        assert plan.scales.down_bits == plan.scales.up_bits == plan.params.scale_bits
        require_capabilities(counting, plan)

    @pytest.mark.parametrize("packing", ["cheetah", "cpmm"])
    def test_coefficients_and_numbers_are_made_of_slots_where_a_backend_has_no_more(
        self, counting: Any, packing: str
    ) -> None:
        slots = {"cheetah": Encoding.COMPLEX_SLOTS, "cpmm": Encoding.SLOTS}[packing]
        counting.capabilities = msgspec.structs.replace(counting.capabilities, encodings=frozenset({slots}))
        require_capabilities(counting, plan_for(Q, packing))

    @pytest.mark.parametrize(
        ("lacking", "named"),
        [
            ({"public_key": False}, "public-key encryption at the server"),
            ({"rescale": RescaleMode.AUTOMATIC}, "levels and scales that the program decides"),
        ],
    )
    def test_sanitised_results_take_more(self, counting: Any, lacking: dict[str, Any], named: str) -> None:
        plan = plan_for(Q, sanitize_bits=20)
        require_capabilities(counting, plan)
        counting.capabilities = msgspec.structs.replace(counting.capabilities, **lacking)
        with pytest.raises(CapabilityMissing, match=f"lacks {named}, by which plan") as refused:
            require_capabilities(counting, plan)
        assert "--no-private-weights" in refused.value.hint
        require_capabilities(counting, plan_for(Q))


class TestTelemetry:
    def test_each_module_is_told_of_in_names_counts_and_times_alone(self, numpy_backend: Any) -> None:
        events: list[TelemetryEvent] = []
        outcomes = run(numpy_backend, work_for(plan_for(Q), plan_for(V)), telemetry=Telemetry([events.append]))
        assert [event.name for event in events] == ["module.executed"] * 2
        for event, outcome in zip(events, outcomes, strict=True):
            assert event.elapsed_ns == outcome.report.times.total
            assert event.attributes == {
                "backend": "numpy",
                "module": outcome.job.module.name,
                "packing": "rank_bsgs",
                "plan": outcome.job.plan.digest,
                "tokens": 2,
                "keyswitches": outcome.report.executed.keyswitches,
                **dict.fromkeys(("decompositions", "mod_downs", "transforms"), 0),  # the emulation has none
                "bytes_up": outcome.report.bytes_up,
                "bytes_down": outcome.report.bytes_down,
            }
            assert {type(value) for value in event.attributes.values()} <= {str, int, float}

    def test_a_sink_that_raises_does_not_stop_the_run(self, numpy_backend: Any) -> None:
        events: list[TelemetryEvent] = []

        def broken(event: TelemetryEvent) -> None:
            raise ZeroDivisionError("sink")

        with pytest.warns(TelemetryWarning, match=r"broken.*ZeroDivisionError\('sink'\).*dropped") as caught:
            outcomes = run(numpy_backend, work_for(*[plan_for(Q)] * 3), telemetry=Telemetry([broken, events.append]))
        assert len(outcomes) == len(events) == 3
        assert len(caught) == 1

    def test_progress_counts_the_tokens_of_all_modules(self, numpy_backend: Any) -> None:
        told: list[int] = []
        run(numpy_backend, work_for(plan_for(Q), plan_for(V), tokens=5), on_tokens=told.append)
        assert sum(told) == 10

    def test_results_come_as_soon_as_they_are_there(self, numpy_backend: Any) -> None:
        told: list[int] = []
        next(
            run_adapter(numpy_backend, work_for(plan_for(Q), plan_for(V)), on_tokens=told.append, private_weights=False)
        )
        assert sum(told) == 2
