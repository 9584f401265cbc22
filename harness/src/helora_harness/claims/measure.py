"""What is measured here to stand beside a published figure, a row for each variant in ``claims.jsonl``.

The rows have a file of their own: a ``Cell`` of ``rows.py`` knows neither sanitising nor given parameters, and the
history site would take them for others.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Annotated, ClassVar

import msgspec
import numpy as np

from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.adapter.synthetic import synthetic_activations, synthetic_module
from helora_core.backend.ledger import Ledger
from helora_core.backend.session import open_sessions
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.plan import Plan
from helora_core.compiler.requirements import require_capabilities
from helora_core.errors import HeloraError
from helora_core.execution.constants import encode_constants
from helora_core.execution.reference import precision_bits
from helora_core.files.atomic import replacing
from helora_core.host.manager import get_manager
from helora_core.packing.protocol import Vector
from helora_core.parties.module_run import ModuleRun, run_module
from helora_harness.bench.counts import counts_of
from helora_harness.bench.record import Origin, origin, provenance
from helora_harness.benchmarks.shim import plan_facts
from helora_harness.claims.figures import Claim, Variant, wanted
from helora_harness.places import DATA, REPO
from helora_harness.rows import Cell, MetricName, Provenance

SCHEMA = 1
ROWS = DATA / "claims.jsonl"
BACKEND = "tenseal"
RUNS = 5
"""Timed runs of each variant, after one that is not."""


class RowsUnreadable(HeloraError):
    """The file of rows is not what this version reads."""

    code: ClassVar[str] = "claims-rows-unreadable"


class ClaimRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One variant, counted and, if it is timed, measured.

    Attributes:
        claim: Name of the claim.
        variant: Name of the variant.
        cell: What was run.
        sanitize_bits: As of the variant.
        given_params: Parameters were given rather than chosen.
        leakage: What the key holder learns beyond Δ; empty for a formula.
        counts: Of one run, as the plan predicts; empty for a formula.
        metrics: By name; names end in their unit.
        provenance: How they came about.
        schema: Version of this record.
    """

    claim: str
    variant: str
    cell: Cell
    sanitize_bits: int | None
    given_params: bool
    leakage: str
    counts: dict[str, int]
    metrics: dict[MetricName, int | float]
    provenance: Provenance
    schema: Annotated[int, msgspec.Meta(ge=1, le=SCHEMA)] = SCHEMA


def _summed_rank(module: LoRAModule, x: Vector) -> Vector:
    result: Vector = x * module.down.sum(axis=0) * module.scaled_up.sum(axis=1)
    return result


def _summed_rows(module: LoRAModule, x: Vector) -> Vector:
    result: Vector = x * (module.scaled_up @ module.down).sum(axis=1)
    return result


FORMULAS: Mapping[str, Callable[[LoRAModule, Vector], Vector]] = {
    "summed_rank": _summed_rank,
    "summed_rows": _summed_rows,
}
"""What the executor of ``he_lora_microkernel`` computes, by its code at two commits; both for square modules."""


_NO_PLAN = {"digest": "", "ring_degree": 1, "modulus_bits": (), "scale_bits": (), "levels": 0, "security": "none"}


def plan_of(variant: Variant) -> Plan:
    """The plan of a variant for what the backend can do.

    Raises:
        HeloraError: The backend is unusable, or it or the packing refuses the variant.
    """
    manager = get_manager()
    backend = manager.load_backend(BACKEND)
    plan = compile_plan(
        ModuleShape.parse(variant.shape),
        manager.load_packing(variant.packing),
        tokens=variant.tokens,
        params=variant.params.params if variant.params else None,
        ring_degree=variant.ring_degree,
        sanitize_bits=variant.sanitize_bits,
        free_scales=backend.capabilities.free_plaintext_scale,
        noise_model=backend.capabilities.noise_model,
        private_weights=False,
    )
    require_capabilities(backend, plan)
    return plan


def _work(shape: str, tokens: int) -> tuple[LoRAModule, Vector]:
    parsed = ModuleShape.parse(shape)
    return synthetic_module(parsed, seed=1), synthetic_activations(parsed, tokens, seed=2)


def row_of(claim: Claim, variant: Variant, of: Origin) -> ClaimRow:
    """Count a variant and, if it is timed, run it.

    Raises:
        HeloraError: It cannot be planned or run here.
    """
    row = ClaimRow(
        claim=claim.name,
        variant=variant.name,
        cell=Cell(backend=BACKEND, packing=variant.packing, shape=variant.shape, tokens=variant.tokens),
        sanitize_bits=variant.sanitize_bits,
        given_params=variant.params is not None,
        leakage="",
        counts={},
        metrics={},
        provenance=provenance(of, BACKEND, _NO_PLAN),
    )
    if variant.formula:
        metrics = {"relative_error": relative_error(variant)}
        return msgspec.structs.replace(row, cell=msgspec.structs.replace(row.cell, backend=""), metrics=metrics)
    plan = plan_of(variant)
    counts = counts_of(plan)
    runs = -(-variant.tokens // plan.tokens_per_run)
    metrics = {
        "rotations_per_token": runs * counts["rotations"] / variant.tokens,
        "ct_pt_per_token": runs * counts["ct_pt"] / variant.tokens,
        "bytes_up_per_token": runs * counts["bytes_up"] / variant.tokens,
        "bytes_down_per_token": runs * counts["bytes_down"] / variant.tokens,
    }
    if variant.timed:
        metrics |= _timed(plan, variant)
    return msgspec.structs.replace(
        row,
        leakage=plan.leakage_label,
        counts=counts,
        metrics={name: round(value, 4) for name, value in metrics.items()},
        provenance=provenance(of, BACKEND, plan_facts(plan)),
    )


def relative_error(variant: Variant) -> float:
    """The largest error of a formula in the clear, over the largest of Δ; the same wherever it is computed."""
    module, x = _work(variant.shape, variant.tokens)
    delta = module.reference_delta(x)
    error = np.max(np.abs(FORMULAS[variant.formula](module, x) - delta))
    return round(float(error / np.max(np.abs(delta))), 3)


def _timed(plan: Plan, variant: Variant) -> dict[str, float]:
    module, x = _work(variant.shape, variant.tokens)
    ledger = Ledger()
    client, server = open_sessions(
        get_manager().load_backend(BACKEND),
        plan.params,
        plan.rotation_steps,
        ledger=ledger,
        public_key=plan.needs_public_key,
    )
    constants = encode_constants(plan, module, server.encoder)
    owner = module if plan.packing.client_finishes else None

    def run() -> ModuleRun:
        return run_module(plan, constants, client, server, x, client_module=owner)

    runs = [run() for _ in range(RUNS + 1)]
    delta = module.reference_delta(x)
    timed = runs[1:]

    def ms_per_token(ns: Iterable[int]) -> float:
        return statistics.median(ns) / 1e6 / variant.tokens

    return {
        "ms_per_token": ms_per_token(each.times.total for each in timed),
        "encrypt_ms_per_token": ms_per_token(each.times.encrypt for each in timed),
        "compute_ms_per_token": ms_per_token(each.times.compute for each in timed),
        "decrypt_ms_per_token": ms_per_token(each.times.decrypt for each in timed),
        "precision_bits": min(precision_bits(each.delta, delta) for each in runs),
        "bytes_up_per_token": runs[-1].bytes_up / variant.tokens,
        "bytes_down_per_token": runs[-1].bytes_down / variant.tokens,
        "steps": RUNS,
    }


def measure(step: Callable[[], object] = lambda: None) -> list[ClaimRow]:
    """Rows of all variants, each from a process of its own that is allowed one thread; some two minutes.

    Raises:
        HeloraError: The backend is unusable here.
    """
    of = origin(REPO)
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))
    rows = []
    for i, _ in enumerate(wanted()):
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
            rows.append(process.submit(_measured, i, of).result())
        step()
    return rows


def _measured(number: int, of: Origin) -> ClaimRow:
    return row_of(*list(wanted())[number], of)


def read_rows(path: Path = ROWS) -> list[ClaimRow]:
    """The committed rows.

    Raises:
        RowsUnreadable: The file is missing, or a line is no row.
    """
    try:
        return [msgspec.json.decode(line, type=ClaimRow) for line in path.read_bytes().splitlines()]
    except (OSError, msgspec.DecodeError) as error:
        raise RowsUnreadable(
            f"{path} has no rows that can be read: {error}.", hint="Measure them: helora bench claims measure."
        ) from error


def write_rows(rows: Iterable[ClaimRow], path: Path = ROWS) -> None:
    """Replace the file."""
    with replacing(path) as file:
        file.write(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
