"""Cuts an answer before a stop text, however its pieces split it."""

from __future__ import annotations

from collections.abc import Sequence

_HALF = "\ufffd"
"""What bytes decode to that are not a whole character."""


class Stopping:
    """Passes on a text that comes in pieces, up to the first of some stop texts.

    First is the one that is complete first; of two that are complete at once, the one that begins first. What may
    still become one is held back, and nothing of one is ever passed on.

    Args:
        stops: The stop texts, none of them empty.

    Attributes:
        met: Whether one was found. Nothing more is passed on then.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self.met = False
        self._stops = tuple(stops)
        self._held = ""

    def feed(self, piece: str) -> str:
        """What can be passed on, now that this piece has come."""
        if self.met:
            return ""
        text = self._held + piece
        found = [(start + len(stop), start) for stop in self._stops if (start := text.find(stop)) >= 0]
        if found:
            self.met, self._held = True, ""
            return text[: min(found)[1]]
        kept = self._beginning_of_a_stop(text)
        self._held = text[len(text) - kept :]
        return text[: len(text) - kept]

    def rest(self, *, cut_off: bool = False) -> str:
        """What was held back, when no more comes.

        Args:
            cut_off: The text does not end by itself. Half a character at its end is left out.
        """
        held, self._held = self._held, ""
        return held.rstrip(_HALF) if cut_off else held

    def _beginning_of_a_stop(self, text: str) -> int:
        """How many characters at the end may be the beginning of a stop text, or are half a character."""
        most = max((len(stop) - 1 for stop in self._stops), default=0)
        kept = next((length for length in range(min(most, len(text)), 0, -1) if self._begins(text[-length:])), 0)
        return max(kept, len(text) - len(text.rstrip(_HALF)))

    def _begins(self, ending: str) -> bool:
        return any(stop.startswith(ending) for stop in self._stops)
