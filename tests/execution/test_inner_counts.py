"""Key switches, divisions and NTTs are three numbers: the plan's, and what a library says that it did inside."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pytest

from helora_core.adapter.lora import ModuleShape
from helora_core.adapter.synthetic import synthetic_activations, synthetic_module
from helora_core.backend.ledger import InnerCounts, Ledger
from helora_core.backend.session import InsecureParametersWarning, open_sessions
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.cost import least_divisions
from helora_core.compiler.ir import OpKind
from helora_core.compiler.plan import Plan
from helora_core.errors import BackendUnavailable
from helora_core.execution.constants import encode_constants
from helora_core.execution.executor import Execution, Turn, proceed_together
from helora_core.execution.telemetry import Telemetry
from helora_core.host.manager import get_manager
from helora_core.packing.costs import DEFAULT_COSTS, OperationCosts
from helora_core.params.ckks import CKKSParams
from helora_core.parties.adapter_run import ModuleJob, run_adapter
from helora_core.parties.report import result_row
from helora_core.specs import TelemetryEvent

SHARING = OperationCosts(decompose=0.06, key_product=0.03, divide=0.02)

PARAMS = CKKSParams(ring_degree=1024, data_bits=(50, 40, 40), special_bits=(50,), scale_bits=40)
"""Insecure and small."""

CASES = [
    ("rank_bsgs", DEFAULT_COSTS),
    ("rank_bsgs", SHARING),
    ("halevi_shoup_bsgs", SHARING),
    ("halevi_shoup", DEFAULT_COSTS),
    ("outer_product", SHARING),
    ("zero_moai", DEFAULT_COSTS),
]


@pytest.fixture(scope="module")
def engine() -> Any:
    try:
        return get_manager().load_backend("rns")
    except BackendUnavailable as error:
        pytest.skip(error.message)


def executed(backend: Any, plan: Plan, runs: int) -> Ledger:
    ledger = Ledger()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InsecureParametersWarning)
        client, server = open_sessions(backend, plan.params, plan.rotation_steps, ledger=ledger, insecure=True)
    constants = encode_constants(plan, synthetic_module(plan.shape, seed=1), server.encoder)
    x = np.ones((1, plan.shape.d_in))
    inputs = [client.encrypt(vector, scale_bits=plan.scales.input_bits) for vector in plan.pack(x)]
    ledger.reset()
    proceed_together([Turn(Execution(plan, constants), server, inputs) for _ in range(runs)])
    return ledger


@pytest.mark.parametrize(("packing", "costs"), CASES)
def test_what_an_engine_does_inside_follows_from_the_program(engine: Any, packing: str, costs: OperationCosts) -> None:
    shape = ModuleShape.parse("60:40:4")
    plan = compile_plan(shape, get_manager().load_packing(packing), params=PARAMS, costs=costs, private_weights=False)
    ledger = executed(engine, plan, 2)
    assert ledger.counts() == plan.rounds[0].server_counts.times(2)
    specials = len(plan.params.special_bits)
    divided = [plan.values[value].level + 1 for value, _ in least_divisions(plan.program).divided]
    decomposed = [plan.values[value].level + 1 for value in rotated(plan)]
    rescaled = [plan.values[op.args[0]].level + 1 for op in plan.program.ops if op.kind is OpKind.RESCALE]
    once = InnerCounts(
        decompositions=len(decomposed),
        mod_downs=len(divided),
        # Of a decomposition: each digit back to coefficients, and forward modulo every other prime. Of a division: the
        # special primes back, what they leave forward. Of a rescale, likewise, both polynomials.
        transforms=sum(limbs * (limbs + specials) for limbs in decomposed)
        + sum(limbs + specials for limbs in divided)
        + sum(2 * limbs for limbs in rescaled),
    )
    assert ledger.inner() == once.plus(once)


def test_a_library_that_says_nothing_of_it_has_zeros(numpy_backend: Any) -> None:
    plan = compile_plan(
        ModuleShape.parse("60:40:4"), get_manager().load_packing("rank_bsgs"), params=PARAMS, private_weights=False
    )
    assert executed(numpy_backend, plan, 1).inner() == InnerCounts()


def rotated(plan: Plan) -> Iterator[int]:
    """The values that are rotated, each once."""
    yield from {op.args[0] for op in plan.program.ops if op.kind is OpKind.ROTATE}


def test_they_reach_the_client_s_report_and_telemetry(engine: Any) -> None:
    shape = ModuleShape.parse("60:40:4")
    plan = compile_plan(shape, get_manager().load_packing("rank_bsgs"), costs=SHARING, private_weights=False)
    tokens = plan.tokens_per_run + 1  # two runs
    job = ModuleJob(synthetic_module(shape, seed=1), synthetic_activations(shape, tokens, seed=2), plan)
    events: list[TelemetryEvent] = []
    (result,) = run_adapter(engine, [job], private_weights=False, telemetry=Telemetry([events.append]))
    inner = result.report.inner
    assert inner.mod_downs == 2 * len(least_divisions(plan.program).divided)
    assert inner.decompositions == 2 * len(list(rotated(plan)))
    assert result.report.executed.keyswitches == 2 * plan.counts.keyswitches
    assert events[0].attributes["transforms"] == inner.transforms > 0
    row = result_row(result, backend="rns", secure=True)
    assert row["inner"] == msgspec.structs.asdict(inner)
