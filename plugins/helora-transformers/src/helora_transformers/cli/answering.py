"""Lets a variant answer, and measures it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from helora_transformers.cli.figures import Answer
from helora_transformers.cli.opening import Opened

if TYPE_CHECKING:
    from helora_transformers.generate import Generation
    from helora_transformers.modes import Variant
    from helora_transformers.report import Report

Begin = Callable[[Callable[[int], object]], "Generation"]
"""Begins an answer, given what is to be called after each token."""


def answered(opened: Opened, variant: Variant, begin: Begin, on_piece: Callable[[str], object]) -> Answer:
    """An answer of a variant, whose text is handed out as it is written.

    Args:
        opened: What is talked to.
        variant: Which variant answers.
        begin: Begins the answer.
        on_piece: Called with each piece of text.

    Raises:
        HeloraError: Generating failed.
    """
    from helora_transformers.modes import Variant

    reports: list[Report] = []

    def report(count: int) -> None:
        if count <= 1 and variant is Variant.ENCRYPTED and opened.private:
            reports.append(opened.private.report())

    pieces = []
    with opened.variants.only(variant):
        report(0)
        with begin(report) as generation:
            for piece in generation:
                pieces.append(piece)
                on_piece(piece)
        if variant is Variant.ENCRYPTED and opened.private:
            reports.append(opened.private.report())
    return Answer.of(variant, "".join(pieces), generation, reports)
