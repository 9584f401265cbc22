"""What ``helora run`` and ``helora demo`` show of the rows of a run: a table, a verdict, and what is not protected."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from helora_core.cli.output import amount, print_table, seconds, size, tell_zeros, warn_of_security
from helora_core.cli.tables import BEGINNINGS, Column, Table
from helora_core.cli.terminal import say

if TYPE_CHECKING:
    from helora_core.parties.adapter_run import ModuleResult

    Rows = list[dict[str, Any]]


def show(results: list[ModuleResult], document: dict[str, Any]) -> None:
    """Print the rows as a table with a total, the verdict, and warnings about what the run does not protect."""
    rows = document["modules"]
    print_table(table_of(rows))
    if any(row["ahead"] for row in rows):
        say(_ahead(rows), hanging=2)
    if _checked(rows):
        say("\n" + verdict(document))
    warn_of(results, document)


def warn_of(results: list[ModuleResult], document: dict[str, Any]) -> None:
    """Print to standard error which Δ are zero, and what the run does not protect, if anything."""
    tell_zeros([row["module"] for row in document["modules"] if row["is_zero"]])
    warn_of_security(
        [plan for result in results for plan in result.job.plans],
        backend=document["backend"],
        secure=document["secure"],
    )


def verdict(document: dict[str, Any]) -> str:
    """One sentence: how many modules agree with plaintext LoRA and to how many bits, how long a token took, on what."""
    rows = document["modules"]
    agree = [row for row in rows if row["max_abs_error"] is not None and row["max_abs_error"] <= row["error_bound"]]
    of = f"{len(agree)} of {len(rows)} module{'s' * (len(rows) > 1)}"
    bits = f" to ≥ {_floored(min(map(_bits, agree)))} bits" if agree else ""
    took = f"{seconds(sum(row['ms_per_token'] for row in rows))} ms a token"
    backend = document["backend"]
    how = f"encrypted with {backend} at {min(row['security_bits'] for row in rows)}-bit security"
    return (
        f"{of} agree{'s' * (len(rows) == 1)} with plaintext LoRA{bits}, {took}, "
        + (how if document["secure"] else f"on {backend}, an emulation: NOTHING WAS ENCRYPTED")
        + "."
    )


_SPARE = ("resc/tok", "ks/tok", "packing", "rot/tok", "tok/run", "tok/s", "pack+enc", "dec+unp", "compute",
          BEGINNINGS, "shape", "leakage", "down", "up")  # fmt: skip


def table_of(rows: Rows) -> Table:
    """The table of a run: one row a module, and one token through all of them as the total."""
    columns, values = zip(*_columns(rows), strict=True)
    total = _total(rows)
    return Table(
        columns,
        list(zip(*values, strict=True)),
        total=[total.get(column.heading, "") for column in columns],
        spare=_SPARE,
        names="module",
    )


def _columns(rows: Rows) -> Iterable[tuple[Column, list[Any]]]:
    """Each column with its values."""

    def costs(heading: str, key: str) -> tuple[Column, list[Any]]:
        return Column(heading, amount, number=True), [row[key] for row in rows]

    def measured(heading: str, show: Any, values: list[Any], legend: str = "") -> tuple[Column, list[Any]]:
        return Column(heading, show, number=True, measured=True, legend=legend), values

    checked = _checked(rows)

    yield Column("module"), [row["module"] for row in rows]
    yield Column("shape"), [f"{row['d_in']}:{row['d_out']}:{row['rank']}" for row in rows]
    yield Column("packing"), [row["packing"] for row in rows]
    yield costs("tok/run", "tokens_per_run")
    yield costs("rot/tok", "rotations_per_token")
    yield costs("ks/tok", "keyswitches_per_token")
    yield costs("resc/tok", "rescales_per_token")
    for heading, key in _TIMES.items():
        yield measured(heading, seconds, [row[key] for row in rows], "times: ms per token")
    yield measured("tok/s", _rate, [row["tokens_per_second"] for row in rows])
    bits = "bits: −log2(max|error| / max|Δ|)" if checked else "(bits): left by the bound on the error"
    yield measured("bits", _floored if checked else "({:.1f})".format, [_bits(row) for row in rows], bits)
    for heading, key in _BYTES.items():
        yield measured(heading, size, [row[key] / row["tokens"] for row in rows], "up, down: bytes per token")
    yield Column("leakage"), [row["leakage_label"] for row in rows]


_TIMES = {"pack+enc": "encrypt_ms", "compute": "compute_ms", "dec+unp": "decrypt_ms", "ms/tok": "ms_per_token"}

_BYTES = {"up": "bytes_up", "down": "bytes_down"}


def _total(rows: Rows) -> dict[str, str]:
    """One token through every module, by heading: costs added up, the worst precision."""

    def added(key: str) -> float:
        return float(sum(row[key] for row in rows))

    least = _floored(min(map(_bits, rows)))
    return {
        "module": f"all {len(rows)}",
        "rot/tok": amount(added("rotations_per_token")),
        "ks/tok": amount(added("keyswitches_per_token")),
        "resc/tok": amount(added("rescales_per_token")),
        **{heading: seconds(added(key)) for heading, key in _TIMES.items()},
        "tok/s": _rate(1e3 / added("ms_per_token")),
        "bits": f"≥ {least}" if _checked(rows) else f"≥ ({least})",
        **{heading: size(sum(row[key] / row["tokens"] for row in rows)) for heading, key in _BYTES.items()},
    }


def _checked(rows: Rows) -> bool:
    """Whether Δ was compared with the plaintext reference, for which the adapter has to be there."""
    return all(row["precision_bits"] is not None for row in rows)


def _bits(row: dict[str, Any]) -> float:
    """Measured bits; without the adapter the bits that the bound on the error leaves."""
    measured = row["precision_bits"]
    return float(row["bound_bits"] if measured is None else measured)


def _floored(bits: float) -> str:
    """A number of bits that are there at least."""
    return f"{math.floor(bits * 10) / 10:.1f}"


def _rate(per_second: float) -> str:
    return f"{per_second:.0f}" if per_second >= 100 else f"{per_second:.1f}"


def _ahead(rows: Rows) -> str:
    """What was done ahead of time, in a line."""
    done = [row["ahead"] for row in rows if row["ahead"]]
    milliseconds, up, down = (sum(each[key] for each in done) for key in ("ms", "bytes_up", "bytes_down"))
    return (
        f"ahead of time, for {len(done)} modules: {seconds(milliseconds)} ms, {size(up)} up, {size(down)} down; one "
        "batch makes as many correlations as the ring has coefficients, used or not"
    )
