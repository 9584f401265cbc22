"""What a server remembers of one session's requests and answers, so that a socket may end at any byte. Sans-IO.

Requests come with consecutive numbers. One that comes again is not computed again: it is in flight, or its answer is
in the window, or the client has acknowledged that answer. Answers stay in the window until then, and a socket that
takes the session up again is sent those that come after the last one that the client had.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import NamedTuple

from helora_core.errors import CorruptPayload, LimitExceeded, UnexpectedMessage
from helora_serve.frames import Answer, Refused
from helora_serve.limits import Limits

_REFUSAL_BYTES = 512


class Kept(NamedTuple):
    """An answer or a refusal in the window."""

    header: Answer | Refused
    payload: bytes


class Exchange:
    """The state of one session.

    Args:
        limits: The server's limits.

    Attributes:
        requested: The number up to which all requests have come.
        answered: The number of the last answer.
        acknowledged: The number up to which the client has all answers.
        in_flight_bytes: Bytes of the requests that are in flight.
        window_bytes: Bytes of the answers in the window.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.requested = self.answered = self.acknowledged = 0
        self.in_flight_bytes = self.window_bytes = 0
        self._in_flight: dict[int, int] = {}
        self._window: OrderedDict[int, Kept] = OrderedDict()

    @property
    def in_flight(self) -> int:
        """Number of requests without an answer."""
        return len(self._in_flight)

    @property
    def has_room(self) -> bool:
        """Whether the window takes another answer. One answer may exceed it."""
        return self.window_bytes < self._limits.window_bytes

    def ask(self, request: int, size: int, received: int) -> bool:
        """A request has come. Returns whether it is new, and so to be computed.

        Args:
            request: Its number.
            size: Bytes of its message.
            received: The number up to which the client has all answers.

        Raises:
            UnexpectedMessage: A request before it is missing; or answers are acknowledged that were not made.
            LimitExceeded: The client has no credit for it. It does not count as received.
        """
        self.acknowledge(received)
        if request <= self.requested:
            return False
        if request > self.requested + 1:
            raise UnexpectedMessage(
                f"Session: request {request} has come, and not {self.requested + 1}.",
                hint="Send requests in the order of their numbers, and resume after what was lost.",
            )
        total = self.in_flight_bytes + size
        if self.in_flight >= self._limits.credits or (self._in_flight and total > self._limits.credit_bytes):
            raise LimitExceeded(
                f"Session: {self.in_flight} requests of {self.in_flight_bytes} bytes are in flight; the credit is "
                f"{self._limits.credits} requests of {self._limits.credit_bytes} bytes.",
                hint="Wait for an answer before the next request, as the welcome says.",
            )
        self.requested = request
        self._in_flight[request] = size
        self.in_flight_bytes += size
        return True

    def answer(self, header: Answer | Refused, payload: bytes = b"") -> Kept:
        """Keep the answer to a request in flight; its header has the number ``answered + 1``."""
        self.in_flight_bytes -= self._in_flight.pop(header.request)
        self.answered = header.number
        kept = self._window[header.number] = Kept(header, payload)
        self.window_bytes += _size(kept)
        return kept

    def acknowledge(self, received: int) -> None:
        """Forget the answers up to a number.

        Raises:
            UnexpectedMessage: They were not all made.
        """
        if received > self.answered:
            raise UnexpectedMessage(
                f"Session: answers up to {received} are acknowledged, and {self.answered} were made.",
                hint="Acknowledge what has come.",
            )
        self.acknowledged = max(self.acknowledged, received)
        while self._window and next(iter(self._window)) <= received:
            _, kept = self._window.popitem(last=False)
            self.window_bytes -= _size(kept)

    def after(self, number: int) -> Iterator[Kept]:
        """The answers in the window that come after a number. The window may change between two of them."""
        while number < self.answered:
            number = max(number, self.acknowledged) + 1
            if number in self._window:
                yield self._window[number]


class Incoming:
    """The client's side of the numbers: which answers it has had.

    Attributes:
        received: The number up to which it has all.
    """

    def __init__(self) -> None:
        self.received = 0

    def take(self, number: int) -> bool:
        """An answer has come. Returns whether it is new.

        Raises:
            CorruptPayload: One before it is missing.
        """
        if number <= self.received:
            return False
        if number > self.received + 1:
            raise CorruptPayload(
                f"Answer {number} has come, and not {self.received + 1}.", hint="Resume after what was lost."
            )
        self.received = number
        return True


def _size(kept: Kept) -> int:
    return len(kept.payload) + _REFUSAL_BYTES
