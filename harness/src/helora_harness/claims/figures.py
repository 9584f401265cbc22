"""The published figures of ``claims.toml``: where each stands, what the work was, and what is put beside it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import ClassVar, Literal

import msgspec

from helora_core.errors import HeloraError
from helora_core.files.malformed import Malformed
from helora_core.files.strict_toml import read_toml
from helora_core.params.ckks import CKKSParams
from helora_harness.places import DATA

FIGURES = DATA / "claims.toml"

COLUMNS = {
    "times": (
        "work", "modules", "tokens", "N", "modulus bits", "security", "sanitised", "ms/token", "rotations/token",
        "bits", "up/token", "down/token", "key holder learns",
    ),
    "counts": (
        "work", "modules", "tokens", "N", "rotations/run", "rotations/token", "ct×pt/token", "key holder learns",
    ),
    "errors": ("work", "tokens", "rotations/run", "rotations/token", "largest error / largest Δ"),
}  # fmt: skip
"""Headings of a table, by what it is about."""


class FiguresUnreadable(HeloraError):
    """The file of published figures is not what this version reads."""

    code: ClassVar[str] = "claims-figures-unreadable"


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a claim stands.

    Attributes:
        name: Of the document, as the page names it.
        url: Of the version that was read, where there is one.
        quote: Its words, as they stand there but for line breaks and bold type.
    """

    name: str
    url: str
    quote: str


class Chain(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Parameters that a source states; see ``CKKSParams``."""

    ring_degree: int
    data_bits: tuple[int, ...]
    special_bits: tuple[int, ...]
    scale_bits: int

    @property
    def params(self) -> CKKSParams:
        """As the compiler takes them."""
        return CKKSParams(**msgspec.structs.asdict(self))


class Variant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Work that is done here.

    Attributes:
        name: Of its row, unique within the claim.
        label: What it is, for the table.
        shape: ``d_in:d_out:r``.
        tokens: Run together.
        packing: Name of the packing; empty for a formula.
        params: Given parameters; None for those that are chosen for the plan.
        ring_degree: When choosing, take this ring rather than the smallest that will do.
        sanitize_bits: To which statistical distance results are sanitised; None for not at all.
        timed: Run it; else its plan is counted alone.
        formula: Instead of a plan, a formula of ``FORMULAS`` in the clear.
    """

    name: str
    label: str
    shape: str
    tokens: int = 1
    packing: str = ""
    params: Chain | None = None
    ring_degree: int | None = None
    sanitize_bits: int | None = None
    timed: bool = True
    formula: str = ""


class Claim(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A published figure and what to put beside it.

    Attributes:
        name: Of its rows.
        title: Heading of its section.
        sources: Where it stands.
        work: What was measured there, as far as the sources say.
        published: Rows of the table: figures by heading, as they are published.
        columns: Which table of ``COLUMNS``.
        variants: What is put beside it.
        same: Paragraphs: what was and was not the same work.
        modules: Adapted modules per token there; ours, of one module, are multiplied by it.
    """

    name: str
    title: str
    sources: tuple[Source, ...]
    work: str
    published: tuple[dict[str, str], ...]
    columns: Literal["times", "counts", "errors"]
    variants: tuple[Variant, ...]
    same: tuple[str, ...]
    modules: int = 1


class Figures(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of them.

    Attributes:
        read: When the sources were read.
        claims: In the order of the page.
    """

    read: str
    claims: tuple[Claim, ...]


def read_figures(path: Path) -> Figures:
    """The figures of a file.

    Raises:
        FiguresUnreadable: It is missing, or something in it has no meaning here.
    """
    try:
        return msgspec.convert(read_toml(path), type=Figures)
    except (OSError, Malformed, msgspec.ValidationError) as error:
        raise FiguresUnreadable(
            f"{path} has no figures that can be read: {error}.",
            hint="Every key is described in helora_harness/claims/figures.py.",
        ) from error


@cache
def figures() -> Figures:
    """The committed ones."""
    return read_figures(FIGURES)


def wanted() -> Iterator[tuple[Claim, Variant]]:
    """Every variant, in the order of the page."""
    for claim in figures().claims:
        for variant in claim.variants:
            yield claim, variant
