"""The exception that all readers raise; their callers turn it into a ``HeloraError`` that names the file."""

from __future__ import annotations


class Malformed(Exception):
    """The bytes are not read, because they are damaged, too large or not what was expected.

    Attributes:
        reason: Why, as the end of a sentence that begins with the file's name.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
