"""Doubles: backends that are wrong in one thing each, and the law of the conformance kit that catches it.

Each is the emulator with one fault, on top of ``HonestBackend``, which passes the whole kit: the fault alone is what a
law sees. A docstring says in its first line what is wrong, and then where such a thing was seen or comes from.
"""

from __future__ import annotations

from doubles import (
    computing,
    drawing,
    embedding,
    encrypting,
    entering,
    holding,
    lowering,
    promising,
    rotating,
    running,
    sanitizing,
    scaling,
    travelling,
)
from doubles.honest import HonestBackend
from doubles.registry import DOUBLES, Double

__all__ = ["DOUBLES", "Double", "HonestBackend"]

_FILES = (
    promising,
    computing,
    embedding,
    rotating,
    scaling,
    lowering,
    encrypting,
    drawing,
    holding,
    travelling,
    entering,
    sanitizing,
    running,
)
