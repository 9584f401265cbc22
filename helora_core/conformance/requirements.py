"""Selects the laws that run against a backend by its capabilities, so that no law needs ``if backend == ...``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from helora_core.backend.capabilities import Capabilities, Encoding, RescaleMode

Law = TypeVar("Law", bound=Callable[..., object])

_ABILITIES: dict[str, Callable[[Capabilities], bool]] = {
    "explicit rescaling": lambda has: has.rescale is RescaleMode.EXPLICIT,
    "free plaintext scale": lambda has: has.free_plaintext_scale,
    "complex slots": lambda has: Encoding.COMPLEX_SLOTS in has.encodings,
    "coefficients": lambda has: bool({Encoding.COMPLEX_SLOTS, Encoding.COEFFICIENTS} & has.encodings),
    "public key": lambda has: has.public_key,
    "no public key": lambda has: not has.public_key,
    "exact integers": lambda has: has.exact_integers,
    "hoisting": lambda has: has.hoisting,
    "programs": lambda has: has.programs,
    "sanitizing": lambda has: has.sanitizing,
    "short results": lambda has: has.short_results,
    "correlations": lambda has: has.correlations,
    "seeded keys": lambda has: has.seeded_keys,
    "no seeded keys": lambda has: not has.seeded_keys,
    "compressed upload": lambda has: has.compressed_upload,
    "centred digits": lambda has: has.centred_digits,
}


NOT_CLAIMED = "not claimed: "
"""How the reason begins for which a law about an ability is left out."""


def requires(*abilities: str) -> Callable[[Law], Law]:
    """Mark a law as holding only for backends with these abilities (keys of the table above).

    Raises:
        KeyError: There is no such ability; without this error, a misspelt one would skip the law everywhere.
    """
    for ability in abilities:
        _ABILITIES[ability]

    def mark(law: Law) -> Law:
        law.helora_requires = abilities  # type: ignore[attr-defined]
        return law

    return mark


def slow(law: Law) -> Law:
    """Mark a law as slow on a real library: it runs only with ``--thorough``."""
    law.helora_slow = True  # type: ignore[attr-defined]
    return law


def unmet(law: Callable[..., object], capabilities: Capabilities, *, thorough: bool) -> str | None:
    """Why a law does not run against a backend with these capabilities, or None."""
    if getattr(law, "helora_slow", False) and not thorough:
        return "slow: runs with --thorough"
    missing = [ability for ability in getattr(law, "helora_requires", ()) if not _ABILITIES[ability](capabilities)]
    return f"{NOT_CLAIMED}{', '.join(missing)}" if missing else None
