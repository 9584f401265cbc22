"""How much of a card's memory the backend takes; beyond it, the request is refused and the server lives."""

from __future__ import annotations

import os

from helora_core.errors import BackendUnavailable, LimitExceeded

VARIABLE = "HELORA_CUPY_MEMORY"
"""Bytes that the backend may take on the card, with K, M or G for powers of 1024; by default four fifths of what is
free when it is first used."""

DEFAULT_SHARE = 0.8

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def stated_limit() -> int | None:
    """The limit that the variable states, or None.

    Raises:
        BackendUnavailable: It is no number of bytes.
    """
    said = os.environ.get(VARIABLE, "").strip().upper().removesuffix("B").removesuffix("I")
    if not said:
        return None
    number, unit = (said[:-1], said[-1]) if said[-1] in _UNITS else (said, "")
    if not (number.isascii() and number.isdigit() and int(number)):
        raise BackendUnavailable(
            f"helora-cupy: {VARIABLE} is {os.environ[VARIABLE]!r}, which is no number of bytes.",
            hint="Set it to a number such as 24G, or unset it.",
        )
    return int(number) * _UNITS[unit]


def exceeded(asked: int, used: int, limit: int) -> LimitExceeded:
    """The refusal of what does not fit."""
    return LimitExceeded(
        f"helora-cupy: {asked / 2**20:.1f} MiB more do not fit on the device: {used / 2**20:.1f} of at most "
        f"{limit / 2**20:.1f} MiB are in use.",
        hint=f"Try again when other requests are done, run fewer at once, or raise {VARIABLE}.",
    )


class Counted:
    """Memory that is counted here: of the kernels on the CPU, so that a limit can be tried without a card.

    Attributes:
        limit: Bytes that may be in use, None for any number.
        used, peak: Bytes in use, now and at most.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.limit, self.used, self.peak = limit, 0, 0

    def take(self, size: int) -> None:
        """Count so many bytes more.

        Raises:
            LimitExceeded: They do not fit.
        """
        if self.limit is not None and self.used + size > self.limit:
            raise exceeded(size, self.used, self.limit)
        self.used += size
        self.peak = max(self.peak, self.used)

    def give(self, size: int) -> None:
        """Count so many bytes less."""
        self.used -= size
