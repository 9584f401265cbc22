"""Whole plans through helora's public parties: against TenSEAL's, against NumPy, and by themselves."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

import helora_core
from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.request import Constraints
from helora_core.data.bundled import bundled_activations, bundled_adapter
from helora_core.execution.reference import precision_bits
from helora_core.host.manager import get_manager
from helora_core.params.ckks import CKKSParams
from helora_harness.engine.bars import Figure
from helora_harness.engine.operations import NO_POOL, Pace, absolute, ratio
from helora_harness.engine.parties import OPEN, PRIVATE, Parties, best_parties, candidates, machine_of, split
from helora_harness.prepared import PreparedPlan
from helora_rns.turns import Work, alone, compared, seconds_of

PLAN, SMALL, COEFFICIENTS, WIDE = "1536:1536:16", "576:768:16", "1536:1536:32", "1536:1536:32"
_MOAI = CKKSParams(ring_degree=16384, data_bits=(60, 40, 40), special_bits=(60,), scale_bits=40)
_SANITISED = Constraints(private_weights=False, sanitize_bits=40)


def rank_bsgs(pace: Pace, *, quick: bool) -> Iterator[Figure]:
    """Each side by its best plan."""
    ours, theirs = (best_parties(machine_of(name, quick=quick), name, PLAN, "rank_bsgs") for name in ("rns", "tenseal"))
    result = ours.run()
    rings = " and ".join(f"N={each.plan.params.ring_degree}" for each in (ours, theirs))
    note = f"{rings}; ours {split(result)}"
    yield ratio("rank-bsgs", compared(ours.run, theirs.run, **pace), bits=ours.bits(result), note=note)


def cheetah(pace: Pace, *, quick: bool) -> Iterator[Figure]:
    """The first matrix in coefficients against SEAL's products without rotations; the client knows the second."""
    moai = get_manager().load_packing("zero_moai")
    slow = Parties("tenseal", compile_plan(ModuleShape.parse(COEFFICIENTS), moai, params=_MOAI, private_weights=False))
    machine = machine_of("rns", quick=quick)
    for bar, constraints in (("cheetah", OPEN), ("cheetah-no-pool", _SANITISED)):
        fast = best_parties(machine, "rns", COEFFICIENTS, "cheetah", constraints=constraints)
        result = fast.run()
        note = f"N={fast.plan.params.ring_degree}, {split(result)}"
        yield ratio(bar, compared(fast.run, slow.run, **pace), bits=fast.bits(result), note=note)
    if not fast.ready(1):
        yield Figure(bar="cheetah-pool", skipped=NO_POOL)
        return
    note = f"N={fast.plan.params.ring_degree}; filling is not timed"
    turns = compared(fast.run, slow.run, ready=fast.ready, **pace)
    yield ratio("cheetah-pool", turns, bits=fast.bits(fast.run()), note=note)


def two_round(pace: Pace, *, quick: bool) -> Iterator[Figure]:
    """All of client and server; encryptions of zero are from a pool where the engine has one."""
    parties = best_parties(machine_of("rns", quick=quick), "rns", PLAN, "cheetah_two_round")
    result = parties.run()
    pool = "zeros from a pool, whose filling is not timed" if parties.ready(1) else NO_POOL
    note = f"N={parties.plan.params.ring_degree}, {split(result)} at first; {pool}"
    turns = alone(parties.run, ready=parties.ready, **pace)
    yield absolute("two-round", turns, 1e3, bits=parties.bits(result), note=note)


def _all_modules(backend: str, modules: str) -> tuple[Work, float]:
    """One token through every module of the bundled adapter, and the least bits of any of them."""
    adapter, activations = bundled_adapter(), bundled_activations()
    lora = helora_core.compile(adapter, backend=backend, tokens=1, modules=modules)
    client, session = lora.open()
    names = list(lora.by_name)
    parts = {name: [part.name for part in lora.by_name[name][0].parts] for name in names}
    inputs = {name: np.asarray(activations[parts[name][0]][:1], dtype=np.float64) for name in names}
    bits = []
    for name in names:  # encodes the weights, too
        found = client.run(name, inputs[name], session)
        exact = [module.reference_delta(inputs[name]) for each in parts[name] for module in adapter.select(each)]
        bits.append(precision_bits(found.delta, np.concatenate(exact, axis=1)))
    return lambda: [client.run(name, inputs[name], session) for name in names], min(bits)


def bundled(pace: Pace, *, quick: bool) -> Iterator[Figure]:
    """All 60 modules, of which q and v of a layer share their input; quickly, those of one layer."""
    modules, factor = ("layers.0.*", 30) if quick else ("all", 1)
    (ours, bits), (theirs, _) = (_all_modules(name, modules) for name in ("rns", "tenseal"))
    turns = compared(ours, theirs, **pace)
    note = "30 times the modules of one layer" if quick else "q and v of a layer from one encrypted input"
    yield Figure(
        bar="adapter", value=turns.first * 1e3 * factor, rounds=turns.rounds, ours_ms=turns.first * 1e3 * factor,
        bits=bits, note=note,
    )  # fmt: skip
    yield ratio("adapter-ratio", turns, note=note)


def cpmm(pace: Pace, *, quick: bool) -> Iterator[Figure]:
    """The server's program for a full run of tokens, its operands in memory as NumPy's are; quickly, of a small module.

    What reading and writing the ciphertexts adds is in the note.
    """
    machine, shape = machine_of("rns", quick=True), "64:64:32" if quick else WIDE
    for bar, constraints in (("cpmm", OPEN), ("cpmm-flooded", PRIVATE)):
        option = next(iter(candidates(machine, "rns", shape, "cpmm", 2048, constraints)))
        if option.refusal is not None:
            raise option.refusal
        assert option.plan is not None
        prepared = PreparedPlan(get_manager().load_backend("rns"), option.plan)
        x, module = prepared.activations(option.plan.tokens_per_run), prepared.module
        delta = prepared.run(x).delta
        parts = prepared.served(x)
        turns = compared(partial(_plain, x, module), parts.compute, **pace)
        messages = [min(seconds_of(work) for _ in range(2)) * 1e3 for work in (parts.read, parts.write)]
        primes = "+".join(map(str, option.plan.params.data_bits))
        yield Figure(
            bar=bar, value=turns.ratio, least=turns.least, most=turns.most, rounds=turns.rounds,
            ours_ms=turns.second * 1e3, theirs_ms=turns.first * 1e3,
            bits=precision_bits(delta, module.reference_delta(x)),
            note=f"{shape}, {len(x)} tokens, N={option.plan.params.ring_degree}, {primes} bits; reading and writing "
            f"{messages[0]:.0f} + {messages[1]:.0f} ms more; NumPy by {blas()}",
        )  # fmt: skip


def _plain(x: Any, module: LoRAModule) -> Any:
    return x @ module.down.T @ module.scaled_up.T


def blas() -> str:
    """NumPy's library for products of matrices, and the kernel that it chose: pinned ones make it look slow."""
    try:
        threadpoolctl: Any = importlib.import_module("threadpoolctl")
    except ImportError:
        return "an unknown kernel (pip install threadpoolctl)"
    found = [each for each in threadpoolctl.threadpool_info() if each.get("user_api") == "blas"]
    told = [f"{each['internal_api']} {each.get('architecture', '?')}, {each['num_threads']} thread" for each in found]
    return "; ".join(told) or "an unknown kernel"


def bytes_of(pace: Pace, *, quick: bool) -> Iterator[Figure]:
    """Ciphertexts of one token, as messages have them; the fewest of any plan."""
    del pace
    parties = best_parties(machine_of("rns", quick=quick), "rns", SMALL, "rank_bsgs")
    report = parties.run().report
    note = f"N={parties.plan.params.ring_degree}"
    for bar, size in (("bytes-up", report.bytes_up), ("bytes-down", report.bytes_down)):
        yield Figure(bar=bar, value=size / 1e3, least=size / 1e3, most=size / 1e3, rounds=1, note=note)
