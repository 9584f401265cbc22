"""Numbers that options take: with bounds, and finite."""

from __future__ import annotations

import math
from typing import Any

import click


class Real(click.FloatRange):
    """A finite number within bounds. ``click.FloatRange`` lets NaN through, since every comparison with it is false."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


class Whole(click.IntRange):
    """A whole number within bounds, by a name that people know."""

    name = "whole number"
