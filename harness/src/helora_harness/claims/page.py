"""The page of claims, and a check that it still holds."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import msgspec

from helora_core.cli.output import size
from helora_core.compiler.request import DEFAULT_PRECISION_BITS
from helora_harness.claims.adapters import conditions_of, unmeasured, values_of
from helora_harness.claims.figures import Claim, Variant, figures
from helora_harness.claims.measure import ClaimRow, Values, facts_of
from helora_harness.places import DOCS

PAGE = DOCS / "claims.md"
_SPECIAL, _ESCAPED = re.compile(r"[|*\[\]]"), r"\\\g<0>"
_WORDS = ("work", "modulus_bits", "security", "sanitised", "leakage", "model", "seen", "measured")


def problems(rows: Sequence[ClaimRow], page: str) -> list[str]:
    """Everything that does not hold, in words; nothing if all does."""
    found = {(row.claim, row.variant): row for row in rows}
    known = {(claim.name, variant.name): variant for claim, variant in figures().variants()}
    if found.keys() != known.keys():
        names = sorted(" ".join(key) for key in found.keys() ^ known.keys())
        return [f"rows and figures differ in {', '.join(names)}; run measure"]
    broken = [f"{' '.join(key)}: {what}" for key in known for what in _stale(known[key], found[key])]
    adapters = [each for claim in figures().claims for each in claim.adapters]
    if missing := unmeasured(adapters):
        return [*broken, *missing]
    if rendered(rows) != page:
        broken.append(f"docs/{PAGE.name} is not what the rows give; run render")
    return broken


def _stale(variant: Variant, row: ClaimRow) -> Iterator[str]:
    """How a row differs from what the code gives, clocks and noise apart."""
    now = facts_of(variant)
    for name in sorted(now.keys() | row.facts.keys()):
        if now.get(name) != row.facts.get(name):
            yield f"{name} is {row.facts.get(name)} in the row, {now.get(name)} by the code"
    if variant.packing and variant.timed and not row.measured:
        yield "it was not measured; run measure"
    bits = row.measured.get("precision_bits", DEFAULT_PRECISION_BITS)
    if bits < DEFAULT_PRECISION_BITS:
        yield f"Δ has {bits} bits of precision, and plans promise {DEFAULT_PRECISION_BITS:g}"


def rendered(rows: Sequence[ClaimRow]) -> str:
    """The page."""
    found = {(row.claim, row.variant): row for row in rows}
    parts = [
        "<!-- Written by `helora bench claims render`: edit harness/claims.toml instead. -->",
        figures().introduction.format(read=figures().read),
        f"Measured with {'; and '.join(dict.fromkeys(map(_where, rows)))}; times are medians of {figures().runs} runs.",
    ]
    for claim in figures().claims:
        quotes = (f"- “{_SPECIAL.sub(_ESCAPED, each.quote)}” – [{each.name}]({each.url})" for each in claim.sources)
        parts += [f"## {claim.title}", "Published:", "\n".join(quotes), f"The work: {claim.work}"]
        parts += [_table(claim, [found[claim.name, each.name] for each in claim.variants])]
        parts += [*conditions_of(claim.adapters), "### Same work?"]
        parts += claim.same
    return "\n\n".join(parts) + "\n"


def _where(row: ClaimRow) -> str:
    """The library and machine that measured a row."""
    of = row.provenance
    commit = of.commit[:8] + ", with changes that it does not have" * of.dirty
    return figures().measured.format(**msgspec.structs.asdict(of) | {"commit": commit, "date": of.date.date()})


def _table(claim: Claim, rows: Sequence[ClaimRow]) -> str:
    columns = figures().columns[claim.columns]
    lines = [[row.get(name, "–") for name in columns] for row in claim.published]
    for variant, row in zip(claim.variants, rows, strict=True):
        of: Values = {"work": variant.label, "tokens": variant.tokens, "modules": claim.modules}
        values: Values = {**row.facts, **row.measured, **of}
        lines.append([_shown(name, values.get(name), claim.modules) for name in columns.values()])
    of_adapters = map(values_of, claim.adapters)
    lines += ([_shown(name, values.get(name), 1) for name in columns.values()] for values in of_adapters)
    lines += [[row.get(name, "–") for name in columns] for row in claim.stated]
    numbers = ["---" if name in _WORDS else "--:" for name in columns.values()]
    return "\n".join(f"| {' | '.join(line)} |" for line in ([*columns], numbers, *lines))


def _shown(name: str, value: str | float | None, modules: int) -> str:
    """A value in the unit that its name says; what is of a run or per token is of all modules."""
    if value is None or isinstance(value, str):
        return value or "–"
    if name == "rotations" or name.endswith("_per_token"):
        value *= modules
    return size(value) if name.startswith("bytes_") else f"{value:.0f}" if value >= 100 else f"{value:.3g}"
