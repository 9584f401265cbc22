"""Our figures next to a published one, a row for each variant in ``claims.jsonl``.

A row has what the code says on every machine, which ``helora bench claims check`` holds it to, and what was measured.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import cache

import msgspec
import numpy as np

from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.adapter.synthetic import synthetic_activations, synthetic_module
from helora_core.compiler.plan import Plan
from helora_core.execution.reference import precision_bits
from helora_core.host.manager import get_manager
from helora_core.packing.protocol import Vector
from helora_harness.bench import counts
from helora_harness.bench.record import NO_PLAN, Origin, origin, provenance
from helora_harness.benchmarks.shim import plan_facts
from helora_harness.claims.figures import Variant, figures
from helora_harness.places import DATA
from helora_harness.prepared import PreparedPlan
from helora_harness.rows import Cell, Provenance

ROWS = DATA / "claims.jsonl"
FORMULAS: Mapping[str, Callable[[LoRAModule, Vector], Vector]] = {
    "summed_rank": lambda module, x: x * module.down.sum(axis=0) * module.scaled_up.sum(axis=1),
    "summed_rows": lambda module, x: x * (module.scaled_up @ module.down).sum(axis=1),
}
"""What the executor of ``he_lora_microkernel`` computes, by its code at two commits; both for square modules."""

_PER_TOKEN = ("rotations", "ct_pt", "bytes_up", "bytes_down")
Values = dict[str, str | int | float]


class ClaimRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One variant: ``facts_of`` it, what was ``measured``, which is nothing if it is not run, and how."""

    claim: str
    variant: str
    facts: Values
    measured: dict[str, float]
    provenance: Provenance


@cache
def plan_of(variant: Variant) -> Plan:
    """The plan of a variant for what the backend can do; see ``counts.plan_of``."""
    cell = Cell(backend=figures().backend, packing=variant.packing, shape=variant.shape, tokens=variant.tokens)
    return counts.plan_of(cell, variant.sanitize_bits, params=variant.params, ring_degree=variant.ring_degree)


def facts_of(variant: Variant) -> Values:
    """What the code says of a variant: its plan and the costs of one run and per token, or its formula's error."""
    work = f"{variant.formula or variant.packing} {variant.shape} {variant.tokens}"
    if variant.formula:
        shape = ModuleShape.parse(variant.shape)
        module, x = synthetic_module(shape, seed=1), synthetic_activations(shape, variant.tokens, seed=2)
        delta = module.reference_delta(x)
        error = np.max(np.abs(FORMULAS[variant.formula](module, x) - delta)) / np.max(np.abs(delta))
        return {"work": work, "rotations_per_token": 0, "relative_error": round(float(error), 3)}
    plan = plan_of(variant)
    of_run, of_plan = counts.counts_of(plan), plan_facts(plan)
    per_token = plan.runs(variant.tokens) / variant.tokens
    return {
        "work": work,
        "modulus_bits": "+".join(map(str, of_plan["modulus_bits"])),
        "security": of_plan["security"],
        "sanitised": f"{plan.sanitize_bits} bits" if plan.sanitize_bits else "no",
        "leakage": plan.leakage_label,
        **of_run,
        **{f"{name}_per_token": round(per_token * of_run[name], 4) for name in _PER_TOKEN},
    }


def measured(variant: Variant) -> dict[str, float]:
    """Medians of runs after one that is not timed, bytes as they were serialised, and precision at worst."""
    prepared = PreparedPlan(get_manager().load_backend(figures().backend), plan_of(variant))
    x, tokens = prepared.activations(variant.tokens), variant.tokens
    runs = [prepared.run(x) for _ in range(figures().runs + 1)]
    delta = prepared.module.reference_delta(x)
    bits = min(precision_bits(each.delta, delta) for each in runs)
    return {
        "ms_per_token": round(statistics.median(each.times.total for each in runs[1:]) / 1e6 / tokens, 4),
        "bytes_up_per_token": runs[-1].bytes_up / tokens,
        "bytes_down_per_token": runs[-1].bytes_down / tokens,
        "precision_bits": round(bits, 4),
        "relative_error": 2.0**-bits,
    }


def measured_rows() -> Iterator[ClaimRow]:
    """A row of each variant, from a process of its own that is allowed one thread."""
    of = origin()
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))
    for claim, variant in figures().variants():
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
            yield process.submit(_row, claim.name, variant, of).result()


def _row(claim: str, variant: Variant, of: Origin) -> ClaimRow:
    return ClaimRow(
        claim=claim,
        variant=variant.name,
        facts=facts_of(variant),
        measured=measured(variant) if variant.packing and variant.timed else {},
        provenance=provenance(of, figures().backend, plan_facts(plan_of(variant)) if variant.packing else NO_PLAN),
    )


def read_rows() -> list[ClaimRow]:
    """The committed rows."""
    return [msgspec.json.decode(line, type=ClaimRow) for line in ROWS.read_bytes().splitlines()]
