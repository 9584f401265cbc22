"""The published figures of ``claims.toml`` (its head explains each key), and the work that they are compared with."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import ClassVar

import msgspec

from helora_core.errors import HeloraError
from helora_core.files.malformed import Malformed
from helora_core.files.strict_toml import read_toml
from helora_core.params.ckks import CKKSParams
from helora_harness.places import DATA


class ClaimsUnreadable(HeloraError):
    """The file of published figures is not one that this version reads."""

    code: ClassVar[str] = "claims-unreadable"


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a claim stands."""

    name: str
    url: str
    quote: str


class Variant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Work that is done here: a plan that is counted and, if ``timed``, run; or a formula in the clear."""

    name: str
    label: str
    shape: str
    tokens: int = 1
    packing: str = ""
    params: CKKSParams | None = None
    ring_degree: int | None = None
    sanitize_bits: int | None = None
    timed: bool = True
    formula: str = ""


class WholeAdapter(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The adapter of a whole model, as ``helora bench lm`` measured it."""

    label: str
    shape: str
    mode: str


class Claim(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A published figure and the work that it is compared with."""

    name: str
    title: str
    sources: tuple[Source, ...]
    work: str
    published: tuple[dict[str, str], ...]
    columns: str
    same: tuple[str, ...]
    modules: int = 1
    variants: tuple[Variant, ...] = ()
    stated: tuple[dict[str, str], ...] = ()
    adapters: tuple[WholeAdapter, ...] = ()


class Figures(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    read: str
    introduction: str
    measured: str
    backend: str
    runs: int
    columns: dict[str, dict[str, str]]
    claims: tuple[Claim, ...]

    def variants(self) -> Iterator[tuple[Claim, Variant]]:
        """Every variant with its claim, in the order of the page."""
        return ((claim, variant) for claim in self.claims for variant in claim.variants)


@cache
def figures(path: Path = DATA / "claims.toml") -> Figures:
    """The figures of a file, by default the committed ones.

    Raises:
        ClaimsUnreadable: It is missing, or something in it has no meaning here.
    """
    try:
        return msgspec.convert(read_toml(path), type=Figures)
    except (OSError, Malformed, msgspec.ValidationError, HeloraError) as error:
        raise ClaimsUnreadable(
            f"{path} has no figures that can be read: {error}.", hint="The head of harness/claims.toml has every key."
        ) from error
