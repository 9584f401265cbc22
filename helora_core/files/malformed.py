"""The refusal that all readers share; who asked them makes a ``HeloraError`` of it that names the file."""

from __future__ import annotations


class Malformed(Exception):
    """Bytes that will not be read.

    Attributes:
        reason: Why, as the end of a sentence that begins with the file's name, with no value out of the data.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
