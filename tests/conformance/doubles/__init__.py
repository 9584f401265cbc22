"""Doubles: backends with one fault each, and the law of the conformance kit that catches it.

Each is the emulator with one fault, on top of ``HonestBackend``, which passes the whole kit, so that a law can only
fail because of the fault. The first line of a docstring states the fault; the rest says where it was seen or comes
from.
"""

from __future__ import annotations

from doubles import (
    computing,
    correlating,
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
    switching,
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
    switching,
    holding,
    travelling,
    entering,
    sanitizing,
    correlating,
    running,
)
