"""What a model is asked, and how its answer is told: events from the thread that computes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Event
from typing import Protocol

Admit = Callable[["str | None", int], None]
"""Called with an adapter's name, None for the base model, and a number of tokens before they are run; raises if they
may not be.
"""


def admit_all(adapter: str | None, tokens: int) -> None:
    """Nobody counts."""


@dataclass(frozen=True)
class Asked:
    """One request, checked.

    Attributes:
        model: One of the models' names.
        messages: ``role`` and ``content`` of each message; empty if a text is to be continued.
        prompt: That text.
        max_tokens: The most tokens of the answer; None for the proxy's own default.
        temperature: 0 for the most probable token each time; None for the proxy's own default.
        top_p: The share of probability that tokens are drawn from.
        seed: Of the drawing; None for one that is not predictable.
        stop: The answer ends before any of these texts.
        admit: Counts tokens before they are run.
    """

    model: str
    messages: tuple[dict[str, str], ...] = ()
    prompt: str = ""
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    admit: Admit = admit_all


@dataclass(frozen=True)
class Audit:
    """What an answer had the adapter's host do: the host can count the same.

    Attributes:
        offer: SHA-256 of the offer that plans and keys were made for, in hexadecimal.
        tokens: Tokens that were sent encrypted.
        round_trips: Messages that were sent, and answered.
        bytes_up, bytes_down: Their bytes.
    """

    offer: str
    tokens: int = 0
    round_trips: int = 0
    bytes_up: int = 0
    bytes_down: int = 0


@dataclass(frozen=True)
class Facts:
    """What protects an answer, and how well.

    Attributes:
        mode: Who runs what: ``client-key``; ``base`` for the base model alone, of which no host is asked; ``hosted`` if
            what answers has the text.
        leakage: What the key holder learns beyond Δ, and what that rests on; None for the base model.
        bits: The fewest bits that the bound on the error left of a token's Δ, in all answers of this adapter so far;
            None if there is no Δ.
        audit: None for the base model.
        warning: What has to be known where nothing protects the text; None elsewhere.
    """

    mode: str
    leakage: str | None = None
    bits: float | None = None
    audit: Audit | None = None
    warning: str | None = None


@dataclass(frozen=True)
class Begun:
    """The first token is there.

    Attributes:
        facts: So far.
    """

    facts: Facts


@dataclass(frozen=True)
class Ended:
    """The answer is whole.

    Attributes:
        reason: ``stop``, ``length`` or ``cancelled``.
        prompt_tokens: Tokens that were given.
        cached_tokens: How many of them the model had read before, so that they were not run again.
        completion_tokens: Tokens of the answer, with one that ended it.
        facts: In the end.
    """

    reason: str
    prompt_tokens: int
    completion_tokens: int
    facts: Facts = field(default_factory=lambda: Facts("base"))
    cached_tokens: int = 0


Told = Begun | str
"""What is told of an answer on its way: that it has begun, then pieces of its text."""


class Models(Protocol):
    """What can be asked, one answer at a time."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names by which models are asked for."""
        ...

    def answer(self, asked: Asked, tell: Callable[[Told], object], cancel: Event) -> Ended:
        """Answer, in the calling thread.

        Args:
            asked: The request.
            tell: Called, in any thread, when the answer has begun, and with each piece of its text.
            cancel: Ends the answer within a token once it is set.

        Raises:
            Failure, HeloraError: There is no answer, or no more of it.
        """
        ...

    def close(self) -> None:
        """Let go of what is held: connections, keys."""
        ...
