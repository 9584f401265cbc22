"""Whole programs: they give the same results as their single operations, and do all the operations counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pytest

from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.adapter.synthetic import synthetic_activations, synthetic_module
from helora_core.backend.checked_programs import ProgramRun
from helora_core.backend.handles import Ciphertext
from helora_core.backend.ledger import Ledger, OperationCounts
from helora_core.backend.session import ClientSession, ServerSession
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.plan import Plan
from helora_core.compiler.requirements import require_capabilities
from helora_core.conformance.bench import Bench
from helora_core.conformance.requirements import requires
from helora_core.conformance.suites.lora import registered_packings
from helora_core.errors import CapabilityMissing, SlotOverflow
from helora_core.execution.constants import EncodedConstants, encode_constants
from helora_core.execution.executor import Execution, Turn, proceed_together
from helora_core.host.manager import get_manager
from helora_core.packing.protocol import Vector
from helora_core.parties.client_run import ClientRun, RunResult

SHAPE = ModuleShape(d_in=16, d_out=24, rank=4)

NOISIER = 2.5
"""How much noisier than its operations a program may be. Errors of a rank-4 module have as few as four degrees of
freedom per token. Two independent samples of eight tokens would differ by more once in a million draws (F distribution
of 32 and 32 degrees); these share their uploads, and so most of their errors."""

TOKENS = 8


class _Service(NamedTuple):
    """A client with its server, and the module that it queries."""

    plan: Plan
    module: LoRAModule
    constants: EncodedConstants
    client: ClientSession
    server: ServerSession


class Programs:
    """``SupportsPrograms``, for every registered packing."""

    @requires("programs")
    @pytest.mark.parametrize("packing", registered_packings())
    def test_a_program_gives_what_its_operations_give(self, bench: Bench, packing: str) -> None:
        """Bit for bit if the library says so; otherwise within the plan's bound, and no noisier."""
        service = _service(bench, packing)
        runs = max(2, TOKENS // service.plan.tokens_per_run)
        asked = [_ask(service, seed=2 + i) for i in range(runs)]
        whole, single = (_deltas(asked, whole=each) for each in (True, False))
        if _exact(service) and len(service.plan.rounds) == 1:  # masks are drawn anew for each run
            assert all(map(np.array_equal, whole, single))
            return
        of_program, of_operations = (_rms(asked, each) for each in (whole, single))
        assert of_program <= NOISIER * of_operations, f"errors of {of_program:.3g}, and {of_operations:.3g} one by one"

    @requires("programs")
    @pytest.mark.parametrize("packing", registered_packings())
    def test_many_runs_at_once_are_each_as_if_alone(self, bench: Bench, packing: str) -> None:
        """With two clients, two modules and several runs of each, every run gives its own Δ."""
        first = _service(bench, packing)
        other = _made(bench, first.plan, like=first)
        asked = [_ask(each, seed=20 + i) for i, each in enumerate([first, first, other, first, other])]
        for each, result in zip(asked, _results(asked), strict=True):
            errors = np.max(np.abs(result.delta - each.reference), axis=1)
            assert (errors <= result.error_bound).all(), f"{errors} exceed {result.error_bound}"

    @requires("programs")
    @pytest.mark.parametrize("packing", registered_packings())
    def test_what_a_program_does_is_what_its_plan_counts(self, bench: Bench, packing: str) -> None:
        """A trace reports every operation that the plan counts, for each run."""
        service = _service(bench, packing)
        programs = service.constants.programs
        assert programs is not None
        done: Counter[str] = Counter()
        counted = OperationCounts()
        for turn, stages in zip(service.plan.rounds, programs.rounds, strict=True):
            there = set(turn.inputs)
            for stage in stages:
                made = {value for value, *_ in stage.afterwards}
                if stage.executable is None:
                    there |= made
                    continue
                assert set(stage.inputs) <= there, "a program reads what is not there yet"
                there |= made | set(stage.outputs)
                inputs = [_fresh(service, value) for value in stage.inputs]
                run = ProgramRun(
                    service.server.evaluator.unmetered, service.constants.weights(stage.executable), inputs
                )
                stage.executable.run([run, run], trace=lambda kind, times: done.update({kind: times}))
                counted = counted.plus(stage.counts.times(2))
        for kind in ("rotations", "keyswitches", "ct_pt", "additions", "rescales"):
            assert done[kind] == getattr(counted, kind), f"{done[kind]} {kind}, and the ledger has {counted}"

    @requires("programs")
    @pytest.mark.parametrize("packing", registered_packings())
    def test_a_program_leaves_its_inputs_as_they_were(self, bench: Bench, packing: str) -> None:
        """Run again on the same ciphertexts, it gives the same Δ."""
        service = _service(bench, packing)
        asked = _ask(service, seed=40)
        sent = [service.server.deserialize(payload) for payload in asked.upload]
        encoding = service.plan.program.encoding
        before = [service.client.decrypt(each, encoding=encoding) for each in sent]
        for _ in range(3):
            outputs = Execution(service.plan, service.constants).proceed(service.server, sent)
        after = [service.client.decrypt(each, encoding=encoding) for each in sent]
        assert all(map(np.array_equal, before, after))
        if len(service.plan.rounds) == 1:
            result = asked.run.result(service.client, [service.server.serialize(each) for each in outputs])
            assert (np.max(np.abs(result.delta - asked.reference), axis=1) <= result.error_bound).all()


def _service(bench: Bench, packing: str) -> _Service:
    """A service without sanitising, whose flood would hide errors; the laws share it."""
    try:
        plan = compile_plan(SHAPE, get_manager().load_packing(packing), private_weights=False)
        require_capabilities(bench.library, plan)
    except (CapabilityMissing, SlotOverflow) as missing:
        pytest.skip(f"not claimed: {missing.message}")
    key = _Service, packing
    if key not in bench.kept:
        bench.kept[key] = _made(bench, plan)
    service: _Service = bench.kept[key]
    return service


def _made(bench: Bench, plan: Plan, *, like: _Service | None = None) -> _Service:
    """A service with keys of its own. ``like`` has the same programs, and other weights."""
    module = synthetic_module(SHAPE, seed=1 if like is None else 2)
    plan = plan.for_module(module)
    client, server = bench.open(plan.params, plan.rotation_steps, ledger=Ledger())
    programs = None if like is None else like.constants.programs
    return _Service(plan, module, encode_constants(plan, module, server.encoder, programs=programs), client, server)


def _exact(service: _Service) -> bool:
    programs = service.constants.programs
    assert programs is not None
    executables = [stage.executable for stages in programs.rounds for stage in stages if stage.executable]
    return all(each.exact for each in executables)


class _Asked(NamedTuple):
    """A run that a client has begun: the exact Δ, and the first upload."""

    service: _Service
    run: ClientRun
    upload: list[bytes]
    reference: Vector


def _ask(service: _Service, *, seed: int) -> _Asked:
    plan, module = service.plan, service.module
    x = synthetic_activations(SHAPE, min(plan.tokens_per_run, TOKENS), seed=seed)
    run = ClientRun(plan, x, module=module if plan.packing.client_finishes else None)
    return _Asked(service, run, run.inputs(service.client), module.reference_delta(x))


def _fresh(service: _Service, value: int) -> Ciphertext:
    """An encryption at the scale of an input of the program."""
    values, encoding = np.linspace(-1, 1, 64), service.plan.program.encoding
    return service.client.encrypt(values, scale_bits=service.plan.values[value].scale_bits, encoding=encoding)


def _results(asked: Sequence[_Asked], *, whole: bool = True) -> list[RunResult]:
    """The result of each run, with all runs' rounds run together."""
    services = [each.service for each in asked]
    executions = [Execution(each.plan, each.constants, whole=whole) for each in services]
    messages = [each.upload for each in asked]
    for number in range(len(services[0].plan.rounds)):
        if number:
            messages = [
                [each.run.answer(each.service.client, number, download)]
                for each, download in zip(asked, messages, strict=True)
            ]
        outputs = proceed_together(
            [
                Turn(execution, each.server, [each.server.deserialize(payload) for payload in upload])
                for execution, each, upload in zip(executions, services, messages, strict=True)
            ]
        )
        messages = [[each.server.serialize(one) for one in made] for each, made in zip(services, outputs, strict=True)]
    return [each.run.result(each.service.client, down) for each, down in zip(asked, messages, strict=True)]


def _deltas(asked: Sequence[_Asked], *, whole: bool) -> list[Vector]:
    return [result.delta for result in _results(asked, whole=whole)]


def _rms(asked: Sequence[_Asked], deltas: Sequence[Vector]) -> float:
    """Root mean square of all errors."""
    errors = [delta - each.reference for each, delta in zip(asked, deltas, strict=True)]
    return float(np.sqrt(np.mean(np.square(errors))))
