"""Rows of the history: a language model's decoding, one for each mode and number of sequences."""

from __future__ import annotations

from collections.abc import Iterator

from helora_harness.checkouts import resolve
from helora_harness.lm.figures import PLAIN, Conditions, Generation, Mode, Part
from helora_harness.places import REPO
from helora_harness.rows import Cell, Provenance, Row


def history_rows(part: Part) -> Iterator[Row]:
    """Of decoding: a cell's packing is the mode's, or ``plaintext``; its tokens are the sequences; it has no shape.

    A link that is delayed on purpose has no rows.
    """
    of = part.conditions
    if of.link not in ("tcp", "in-process"):
        return
    modes = {mode.mode: mode for mode in part.modes}
    for row in part.generation:
        if row.steps:
            yield Row(
                kind="lm",
                cell=Cell(backend=of.backend, packing=_packing(row, modes, of), shape="", tokens=row.sequences),
                metrics=_metrics(row),
                provenance=_provenance(of),
            )


def _packing(row: Generation, modes: dict[str, Mode], of: Conditions) -> str:
    name = "plaintext" if row.mode == PLAIN else "+".join(modes[row.mode].packings)
    return name if of.link == "tcp" else f"{name}, {of.link}"


def _metrics(row: Generation) -> dict[str, int | float]:
    found: dict[str, int | float] = {
        "ms_per_token": row.step_ms / row.sequences,
        "least_ms_per_token": row.least_ms / row.sequences,
        "steps": row.steps,
    }
    if row.cpu_ms is not None:
        found["processor_ms_per_token"] = row.cpu_ms / row.sequences
    if row.mode != PLAIN:
        phases = {"server": "compute"}
        for name in row.phases.__struct_fields__:
            found[f"{phases.get(name, name)}_ms_per_token"] = getattr(row.phases, name)
        found |= {"bytes_up_per_token": row.bytes_up, "bytes_down_per_token": row.bytes_down}
    return {name: round(value, 4) for name, value in found.items()}


def _provenance(of: Conditions) -> Provenance:
    library, _, version = of.library.partition(" ")
    return Provenance(
        commit=of.commit,
        commit_date=resolve(REPO, of.commit).date,
        dirty=of.dirty,
        plan_digest="",  # of many plans
        ring_degree=1,
        modulus_bits=(),
        scale_bits=(),
        levels=0,
        security="128 bits, classical",
        library=library,
        library_version=version,
        threads=of.threads,
        cpu_model=of.cpu_model,
        machine=of.machine,
        python=of.python,
        os=of.os,
        date=of.date,
    )
