"""Results without low bits, end to end: the bound holds for the worst inputs, and bits are dropped last."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.adapter.synthetic import synthetic_module
from helora_core.backend.session import ClientSession, ServerSession, open_sessions
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.plan import Plan
from helora_core.compiler.request import BackendTraits
from helora_core.compiler.result_size import shortened
from helora_core.errors import CorruptPayload
from helora_core.execution.constants import encode_constants
from helora_core.execution.executor import Execution
from helora_core.host.manager import get_manager
from helora_core.parties.client_run import ClientRun
from helora_core.parties.module_run import run_module

SHAPE = ModuleShape.parse("64:96:4")
CASES = [(name, packing) for name in ("rns", "numpy") for packing in ("rank_bsgs", "cheetah_two_round")]


class Opened(NamedTuple):
    plan: Plan
    module: LoRAModule
    client: ClientSession
    server: ServerSession


@functools.cache
def opened(name: str, packing: str) -> Opened:
    backend, module = get_manager().load_backend(name), _one_row()
    traits = BackendTraits.of([backend.capabilities])
    plan = compile_plan(SHAPE, get_manager().load_packing(packing), tokens=1, module=module, traits=traits)
    assert plan.settings.low_bits
    return Opened(plan, module, *open_sessions(backend, plan.params, plan.rotation_steps, public_key=True))


def _one_row() -> LoRAModule:
    """All weight in few places: one column of ``down`` and one row of ``up`` are a thousand times the others."""
    module = synthetic_module(SHAPE, seed=4)
    down, up = module.down.copy(), module.up.copy()
    down[:, 5] *= 1000
    up[7] *= 1000
    return LoRAModule(module.name, down, up, module.scaling)


def activations() -> NDArray[np.float64]:
    rng, n = np.random.default_rng(8), SHAPE.d_in
    hot, other = np.eye(n)[5], np.eye(n)[11]
    rows = [
        hot,
        -hot * 2.0**300,
        other * 2.0**-300,
        np.ones(n),
        (-1.0) ** np.arange(n),
        rng.normal(size=n) * 1e8,
        0 * hot,
    ]
    return np.stack(rows)


def _run(of: Opened, plan: Plan) -> Any:
    constants = encode_constants(plan, of.module, of.server.encoder)
    return run_module(plan, constants, of.client, of.server, activations())


@pytest.mark.parametrize(("name", "packing"), CASES)
def test_the_bound_holds_for_the_worst_weights_and_inputs(name: str, packing: str) -> None:
    of = opened(name, packing)
    result = _run(of, of.plan)
    errors = np.abs(result.delta - of.module.reference_delta(activations())).max(axis=1)
    assert (errors <= result.error_bound).all(), errors / result.error_bound


@pytest.mark.parametrize(("name", "packing"), CASES)
def test_dropping_more_than_the_plan_says_breaks_the_bound(name: str, packing: str) -> None:
    """The bound is not so loose that nothing could be noticed: a few bits more exceed it."""
    of = opened(name, packing)
    first, second = of.plan.settings.low_bits
    result = _run(of, shortened(of.plan, (first + 5, second + 5)))
    bound = of.plan.precision(noise_model=of.client.capabilities.noise_model).error_bound
    errors = np.abs(result.delta - of.module.reference_delta(activations())).max(axis=1)
    allowed = result.error_bound * bound / shortened(of.plan, (first + 5, second + 5)).precision().error_bound
    assert (errors[:-1] > allowed[:-1]).any()


@pytest.mark.parametrize("name", ["rns", "numpy"])
def test_bits_are_dropped_of_clean_results_and_last(name: str) -> None:
    """What is sent must be a function of the re-randomised and flooded result alone."""
    of = opened(name, "rank_bsgs")
    library = of.server.evaluator.unmetered.library
    calls: list[tuple[str, Any, Any]] = []

    def recorded(method: str) -> None:
        honest = getattr(library, method)

        def call(*args: Any, **kwargs: Any) -> Any:
            made = honest(*args, **kwargs)
            calls.append((method, args, made))
            return made

        setattr(library, method, call)

    methods = [
        each
        for each in ("sanitize_many", "encrypt_public", "add", "add_plain", "rescale", "shortened", "serialize")
        if hasattr(library, each)
    ]
    for method in methods:
        recorded(method)
    try:
        result = _run(of, of.plan)
    finally:
        for method in methods:
            delattr(library, method)
    assert np.isfinite(result.delta).all()
    short = [i for i, (method, _, _) in enumerate(calls) if method == "shortened"]
    assert len(short) == of.plan.runs(len(activations()))
    for i in short:
        method, _, made = calls[i - 1]
        clean = made[0] if method == "sanitize_many" else made
        assert method in {"sanitize_many", "rescale"}
        assert calls[i][1] == (clean, of.plan.settings.low_bits)
        assert calls[i + 1][0] == "serialize"
        assert calls[i + 1][1][0] is calls[i][2]
        if method == "rescale":
            assert [each for each, _, _ in calls[:i]].count("encrypt_public") > short.index(i)


@pytest.mark.parametrize("changed", [(1, 0), (0, 1), (-1, 0)])
def test_a_result_without_other_bits_than_the_plans_is_refused(changed: Sequence[int]) -> None:
    of = opened("rns", "rank_bsgs")
    first, second = (bits + more for bits, more in zip(of.plan.settings.low_bits, changed, strict=True))
    run = ClientRun(of.plan, activations()[:1])
    served = shortened(of.plan, (first, second))
    execution = Execution(served, encode_constants(served, of.module, of.server.encoder))
    outputs = execution.proceed(of.server, [of.server.deserialize(each) for each in run.inputs(of.client)])
    with pytest.raises(CorruptPayload, match=f"without {first} and {second} low bits"):
        run.result(of.client, [of.server.serialize(each) for each in outputs])
