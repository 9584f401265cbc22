"""The page of claims, and what no longer holds of it.

That is a page that is not what the rows give, counts that the code no longer gives, or a claim without rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from helora_core.compiler.settings import DEFAULT_PRECISION_BITS
from helora_harness.bench.counts import counts_of
from helora_harness.claims.figures import COLUMNS, Claim, Variant, figures, wanted
from helora_harness.claims.measure import RUNS, SCHEMA, ClaimRow, plan_of, read_rows, relative_error
from helora_harness.places import DOCS

PAGE = DOCS / "claims.md"


def by_variant(rows: Iterable[ClaimRow]) -> dict[tuple[str, str], ClaimRow]:
    """The row of each claim and variant."""
    return {(row.claim, row.variant): row for row in rows}


def problems(rows: Sequence[ClaimRow], page: str) -> list[str]:
    """What does not hold, in words; nothing if all does."""
    found = by_variant(rows)
    known = {(claim.name, variant.name): variant for claim, variant in wanted()}
    broken = [
        f"{claim} {variant}: there is no row; run measure" for claim, variant in known if (claim, variant) not in found
    ]
    broken += [
        f"{claim} {variant}: nothing measures this row any more"
        for claim, variant in found
        if (claim, variant) not in known
    ]
    for each in known.keys() & found.keys():
        broken += [f"{each[0]} {each[1]}: {what}" for what in _stale(known[each], found[each])]
    if not any("there is no row" in line for line in broken) and rendered(rows) != page:
        broken.append(f"docs/{PAGE.name} is not what the rows give; run render")
    return sorted(broken)


def _stale(variant: Variant, row: ClaimRow) -> Iterator[str]:
    """How a row differs from what the code gives, clocks and noise apart."""
    cell = (row.cell.packing, row.cell.shape, row.cell.tokens, row.sanitize_bits, row.given_params)
    if cell != (variant.packing, variant.shape, variant.tokens, variant.sanitize_bits, variant.params is not None):
        yield "the row is of other work; run measure"
        return
    if variant.formula:
        error = relative_error(variant)
        if row.metrics.get("relative_error") != error:
            yield f"relative error {row.metrics.get('relative_error')} in the row, {error} by the code"
        return
    plan = plan_of(variant)
    now = counts_of(plan)
    for name in sorted(now.keys() | row.counts.keys()):
        if now.get(name) != row.counts.get(name):
            yield f"{name} {row.counts.get(name)} in the row, {now.get(name)} by the code"
    runs = -(-variant.tokens // plan.tokens_per_run)
    for name, counted in (("rotations_per_token", "rotations"), ("ct_pt_per_token", "ct_pt")):
        per_token = round(runs * now[counted] / variant.tokens, 4)
        if row.metrics.get(name) != per_token:
            yield f"{name} {row.metrics.get(name)} in the row, {per_token} by the code"
    if row.leakage != plan.leakage_label:
        yield f"the key holder learns {row.leakage} in the row, {plan.leakage_label} by the code"
    if variant.timed and "ms_per_token" not in row.metrics:
        yield "the row has no time; run measure"
    if row.metrics.get("precision_bits", DEFAULT_PRECISION_BITS) < DEFAULT_PRECISION_BITS:
        yield f"Δ has {row.metrics['precision_bits']} bits of precision, and plans promise {DEFAULT_PRECISION_BITS:g}"


def rendered(rows: Sequence[ClaimRow]) -> str:
    """The page."""
    found = by_variant(rows)
    parts = [
        "<!-- Written by `helora bench claims render`: edit harness/claims.toml instead. -->",
        _INTRODUCTION.format(read=figures().read),
        _where(rows),
    ]
    for claim in figures().claims:
        parts += [f"## {claim.title}", "Published:", _quotes(claim), f"The work: {claim.work}"]
        parts += [_table(claim, [found[claim.name, variant.name] for variant in claim.variants])]
        parts += ["### Same work?", *claim.same]
    return "\n\n".join(parts) + "\n"


_INTRODUCTION = """# Published figures beside ours

Figures that others have published on LoRA under homomorphic encryption, each with its source, and beside it the nearest
work that this repository does, measured. Published figures are quotations, read on {read}; a dash means that the source
says nothing. Ours come from committed rows (`harness/claims.jsonl`), and this page is made from them by command.

Hardware differs, and is not always stated, so **no ratio of a published time and one of ours is a speed-up**: neither
was measured on the other's machine. Rotations, bytes, and what the key holder learns do compare. Ours are wall times of
packing, encrypting, serialising, computing and decrypting, client and server on one machine; keys are made and weights
encoded beforehand, the base model is not run, and there is no network. Modules are synthetic, of the sizes of trained
ones, and the result of every run is held against the adapter in the clear: *bits* is −log₂ of the largest error over
the largest of Δ, at worst. *Security* is the highest level whose bound in our
[table](parameters.md) the modulus keeps. *Sanitised* results are re-randomised and flooded so that they are within
2^−bits, statistically, of what depends on Δ alone; `nothing*` in the last column means that a plan would have to be
sanitised for that, and is not."""


def _where(rows: Sequence[ClaimRow]) -> str:
    """Sentences on what measured the rows; one for each commit and machine."""
    places: dict[str, None] = {}
    for row in rows:
        of = row.provenance
        changed = ", with changes that it does not have" if of.dirty else ""
        places[
            f"{of.library} {of.library_version} on {of.cpu_model} ({of.machine}), "
            f"{of.threads} thread{'s' * (of.threads != 1)}, Python {of.python}, commit {of.commit[:8]}{changed}, "
            f"{of.date.date()}"
        ] = None
    return f"Measured with {'; and '.join(places)}; times are medians of {RUNS} runs."


def _quotes(claim: Claim) -> str:
    return "\n".join(f"- “{_escaped(source.quote)}” – [{source.name}]({source.url})" for source in claim.sources)


def _escaped(quote: str) -> str:
    return quote.replace("|", r"\|").replace("*", r"\*").replace("[", r"\[").replace("]", r"\]")


_WORDS = ("work", "modulus bits", "security", "sanitised", "key holder learns")
"""Columns that are not numbers."""


def _table(claim: Claim, rows: Sequence[ClaimRow]) -> str:
    headings = COLUMNS[claim.columns]
    lines = [list(headings), ["---" if name in _WORDS else "--:" for name in headings]]
    for published in claim.published:
        lines.append([f"*published:* {published['work']}", *(published.get(name, "–") for name in headings[1:])])
    for variant, row in zip(claim.variants, rows, strict=True):
        cells = _cells(variant, row, claim.modules)
        lines.append([cells.get(name, "–") for name in headings])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cells(variant: Variant, row: ClaimRow, modules: int) -> dict[str, str]:
    """What a row says, by heading; whatever grows with the modules is multiplied by their number."""
    metrics, of = row.metrics, row.provenance
    cells = {"work": variant.label, "modules": str(modules), "tokens": str(variant.tokens)}
    if variant.formula:
        return cells | {"rotations/token": "0", "largest error / largest Δ": f"{metrics['relative_error']:.2f}"}
    cells |= {
        "N": str(of.ring_degree),
        "modulus bits": "+".join(map(str, of.modulus_bits)),
        "security": of.security,
        "sanitised": "no" if row.sanitize_bits is None else f"{row.sanitize_bits} bits",
        "rotations/run": str(row.counts["rotations"] * modules),
        "rotations/token": _amount(metrics["rotations_per_token"] * modules),
        "ct×pt/token": _amount(metrics["ct_pt_per_token"] * modules),
        "up/token": _size(metrics["bytes_up_per_token"] * modules),
        "down/token": _size(metrics["bytes_down_per_token"] * modules),
        "key holder learns": row.leakage,
    }
    if "ms_per_token" in metrics:
        bits = metrics["precision_bits"]
        cells |= {
            "ms/token": _amount(metrics["ms_per_token"] * modules),
            "bits": f"{bits:.1f}",
            "largest error / largest Δ": f"{2.0**-bits:.0e}",
        }
    return cells


def _amount(value: float) -> str:
    """Three digits, and no fewer than stand before the point."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _size(count: float) -> str:
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= size:
            return f"{_amount(count / size)} {unit}"
    return f"{_amount(count)} B"


def load() -> tuple[list[ClaimRow], str]:
    """The committed rows and page; an empty page if there is none.

    Raises:
        RowsUnreadable: The rows cannot be read.
    """
    return read_rows(), PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""


def as_document(rows: Sequence[ClaimRow], broken: Sequence[str]) -> dict[str, Any]:
    """What ``check --json`` prints."""
    names = [claim.name for claim in figures().claims]
    return {"schema": SCHEMA, "claims": names, "rows": rows, "problems": list(broken)}
