"""Plans that run ahead of time, on ``rns``: filling a pool, and using it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import helora_core
from helora_core.adapter.lora import ModuleShape
from helora_core.adapter.sharing import input_groups
from helora_core.adapter.synthetic import synthetic_activations, synthetic_module
from helora_core.backend.checked_backend import checked
from helora_core.backend.correlations import NONCE_BYTES, Words
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.compiled import CompiledModule, Part
from helora_core.compiler.integers import integer_factors
from helora_core.compiler.request import Constraints
from helora_core.data.bundled import bundled_activations, bundled_adapter
from helora_core.execution.reference import precision_bits
from helora_core.host.manager import get_manager
from helora_core.parties.client import Client
from helora_core.parties.server import Server
from helora_core.parties.session import Session
from helora_core.privacy.leakage import Assumption
from helora_harness.engine.bars import AHEAD, Figure
from helora_harness.engine.operations import Pace, absolute
from helora_harness.engine.parties import best_parties, machine_of
from helora_rns.turns import alone, compared

_ASSUME = (Assumption.HONEST_KEYS,)
_BITS = 9.0
"""Bits of the expected Δ that a plan's bound keeps for all of these shapes."""

_PIECE = 96
"""Features, or outputs, that go through a call: as in messages of some ten megabytes."""

_RINGS = {AHEAD[0]: (8192, 4096), AHEAD[1]: (8192,), AHEAD[2]: (8192,)}
_SMALL = "64:48:4"
_OUTLIER, _TIMES = 37, 300.0


def _compiled(shape: str, ring_degree: int) -> CompiledModule:
    module = synthetic_module(ModuleShape.parse(shape), seed=1)
    plan = compile_plan(
        module.shape, get_manager().load_packing("precomputed"), module=module, assume=_ASSUME, precision_bits=_BITS,
        ring_degree=ring_degree,
    )  # fmt: skip
    return CompiledModule(module, (Part(name=module.name, d_out=module.shape.d_out),), plan)


@dataclass
class _Batch:
    """One batch by the backend's own calls, without messages."""

    compiled: CompiledModule

    def __post_init__(self) -> None:
        backend = checked(get_manager().load_backend("rns"))
        plan = self.compiled.plan
        assert plan.correlation is not None
        self._library, self._params, self._how = (
            backend.correlations,
            backend.resolve(plan.params),
            plan.correlation.how,
        )
        self._down, self._up = integer_factors(plan, self.compiled.module)
        self.seconds = dict.fromkeys(("encrypt", "sums", "results", "decrypt"), 0.0)

    def run(self) -> None:
        """From random numbers to correlations; every token's time is in ``seconds``."""
        ring, nonces = self._params.ring_degree, bytes(2 * NONCE_BYTES)
        self.seconds = dict.fromkeys(self.seconds, 0.0)
        key = self._timed("encrypt", lambda: self._library.batch_key(self._params, nonces))
        sums = self._timed(
            "sums", lambda: self._library.batch_sums(self._params, key.public_key, nonces, len(self._down))
        )
        for start in range(0, self._down.shape[1], _PIECE):
            columns = self._down[:, start : start + _PIECE]
            numbers = _words(columns.shape[1], ring)
            payload = self._timed("encrypt", lambda numbers=numbers: key.encrypt(numbers))
            self._timed("sums", lambda payload=payload, columns=columns: sums.add(payload, columns))
        for start in range(0, len(self._up), _PIECE):
            rows = self._up[start : start + _PIECE]
            masks, seed = _words(len(rows), ring), start.to_bytes(32, "big")
            made = self._timed(
                "results", lambda rows=rows, masks=masks, seed=seed: sums.results(rows, masks, seed, self._how)
            )
            self._timed("decrypt", lambda made=made, rows=rows: key.decrypt(made, len(rows), self._how))

    @property
    def total(self) -> float:
        """CPU seconds of the last run, without what this file does."""
        return sum(self.seconds.values())

    def _timed(self, part: str, work: Any) -> Any:
        start = time.process_time()
        made = work()
        self.seconds[part] += time.process_time() - start
        return made


def _words(rows: int, columns: int) -> Words:
    return np.random.default_rng(rows).integers(0, 2**64, (rows, columns), dtype=np.uint64)


def filling(pace: Pace, *, quick: bool) -> Iterator[Figure]:
    """Batches by the backend's calls: microseconds a token, the median of a few batches."""
    for shape, rings in _RINGS.items():
        for ring_degree in rings:
            batch = _Batch(_compiled(_SMALL if quick else shape, ring_degree))
            batch.run()
            totals, parts = [], []
            for _ in range(3 if quick else 5):
                batch.run()
                totals.append(batch.total * 1e6 / ring_degree)
                parts.append({name: each * 1e6 / ring_degree for name, each in batch.seconds.items()})
            middle = int(np.argsort(totals)[len(totals) // 2])
            note = ", ".join(f"{name} {each:.1f}" for name, each in parts[middle].items())
            yield Figure(
                bar=f"ahead-{shape.split(':')[0]}-{ring_degree}", value=totals[middle], least=min(totals),
                most=max(totals), rounds=len(totals), note=note,
            )  # fmt: skip


@dataclass
class Prepared:
    """Both parties of compiled modules, with pools.

    Args:
        modules: By name.
        inputs: Modules of one input, each with activations of one token.
        tokens: Correlations to prepare for each.
    """

    modules: dict[str, CompiledModule]
    inputs: list[tuple[tuple[str, ...], Any]]
    tokens: int

    def __post_init__(self) -> None:
        backend = get_manager().load_backend("rns")
        self.server = Server(self.modules, backend, assume=_ASSUME)
        self.client = Client(self.server.offer(), backend=backend)
        self.session: Session = self.server.open(self.client.evaluation_keys())
        self.bytes = 0
        for names, _ in self.inputs:
            self.fill(names)

    def fill(self, names: tuple[str, ...]) -> None:
        """Prepare correlations."""
        preparation = self.client.prepare(names, self.tokens)
        while not preparation.done:
            preparation.receive(self.session.answer(preparation.message()))

    def token(self) -> list[Any]:
        """One token through all of them, one after the other, as a model's layers do."""
        deltas = []
        for names, x in self.inputs:
            request = self.client.begin(names, x)
            message = request.message()
            answer = self.session.answer(message)
            request.receive(answer)
            deltas.append(request.deltas)
            self.bytes = len(message) + len(answer)
        return deltas


def online(pace: Pace, *, quick: bool) -> Iterator[Figure]:
    """The server's arithmetic for a token, and the bytes of both messages."""
    compiled = _compiled(_SMALL if quick else AHEAD[0], 8192)
    plan, backend = compiled.plan, checked(get_manager().load_backend("rns"))
    assert plan.correlation is not None
    weights = backend.library.online_weights(integer_factors(plan, compiled.module))  # type: ignore[attr-defined]
    y, masks, bits = _words(1, plan.shape.d_in).tobytes(), _words(1, plan.shape.d_out), plan.correlation.answer_bits
    yield absolute("online-server", alone(lambda: weights.answer(y, masks, bits), **pace), 1e6)
    x = synthetic_activations(plan.shape, 1, seed=2)
    parties = Prepared({"m": compiled}, [(("m",), x)], 10)
    parties.token()
    yield Figure(bar="online-bytes", value=parties.bytes / 1024, note=f"{parties.bytes} bytes")


def bundled(pace: Pace, *, quick: bool) -> Iterator[Figure]:
    """One token through every module of the bundled adapter; q and v of a layer share an input."""
    adapter, activations = bundled_adapter(), bundled_activations()
    constraints = Constraints(assume=frozenset(_ASSUME), target_bits=11.0)
    lora = helora_core.compile(
        adapter, backend="rns", packing="precomputed", constraints=constraints, modules="layers.0.*" if quick else "all"
    )
    modules = {name: each[0] for name, each in lora.by_name.items()}
    parties: Prepared | None = None
    for bar, times in (("online-adapter", 1.0), ("online-outlier", _TIMES)):
        inputs = []
        for names in input_groups(list(modules)):
            x = np.asarray(activations[names[0]], dtype=np.float64).copy()
            x[:, _OUTLIER] *= times
            inputs.append((tuple(names), x))
        if parties is None:
            parties = Prepared(modules, inputs, 1000)
        parties.inputs = inputs  # all recorded tokens, for the precision, and then one
        bits = min(
            precision_bits(delta, adapter.modules[name].reference_delta(x))
            for (_, x), deltas in zip(inputs, parties.token(), strict=True)
            for name, delta in deltas.items()
        )
        parties.inputs = [(names, x[-1:]) for names, x in inputs]
        yield absolute(bar, alone(parties.token, **{**pace, "most": 20}), 1e3, bits=bits)


def against_best(pace: Pace, *, quick: bool) -> Iterator[Figure]:
    """A token's share of a batch and its online round, against the engine's best plan that runs online."""
    shape = _SMALL if quick else AHEAD[0]
    compiled = _compiled(shape, 8192)
    parties = Prepared({"m": compiled}, [(("m",), synthetic_activations(compiled.plan.shape, 1, seed=2))], 8192)
    batch = _Batch(compiled)
    batch.run()
    batch.run()
    machine = machine_of("rns", quick=quick)
    best = best_parties(machine, "rns", shape, "rank_bsgs")
    turns = compared(parties.token, best.run, **{**pace, "most": 15})
    share = batch.total / 8192
    value = turns.second / (turns.first + share)
    ours = f"ahead {share * 1e6:.0f} us and online {turns.first * 1e6:.0f} us"
    note = f"{ours} against rank_bsgs {turns.second * 1e3:.2f} ms"
    yield Figure(bar="ahead-best", value=value, rounds=turns.rounds, note=note)
