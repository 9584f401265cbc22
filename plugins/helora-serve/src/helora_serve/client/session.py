"""A session at a server, which outlives its socket: what was asked is answered once, whatever happens on the way."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from helora_core.errors import (
    ConnectionLost,
    CorruptPayload,
    HeloraError,
    LimitExceeded,
    UnexpectedMessage,
    VersionMismatch,
)
from helora_serve.client.credit import Credit
from helora_serve.client.patience import DEFAULT_RESTART_S, Patience
from helora_serve.client.wire import Carrier, WireBroken
from helora_serve.exchange import Incoming
from helora_serve.frames import (
    Ack,
    Answer,
    Ask,
    Close,
    FromServer,
    Goodbye,
    Notice,
    Open,
    Refused,
    Resume,
    Welcome,
    decode_from_server,
    encode,
)
from helora_serve.refusals import Refusal, raised

_LOG = logging.getLogger("helora.serve.client")
_DIAL_S = 10.0
_ACK_SHARE = 4


@dataclass(eq=False, slots=True)
class _Pending:
    """A request, and what became of it: who waits for it reads the socket itself, or is woken by who does.

    Attributes:
        outcome: Its answer, or why there is none; None as long as it is waited for.
    """

    message: bytes
    outcome: bytes | HeloraError | None = None


class RemoteSession:
    """A session: a ``Link`` of ``helora_core.parties.result``, for any number of threads.

    A lost socket is replaced, and the session goes on where it was. If the server has forgotten it, after a restart for
    instance, another one is opened with the same keys and what has no answer is asked again; the server refuses what it
    cannot begin anew. Only when all that fails for ``timeout`` seconds, or nobody listens at the address for as long as
    a restart takes, ``ConnectionLost`` is raised.

    Args:
        dial: Connects another socket, within so many seconds.
        opening: The frame that opens the session; it sees to it that the keys are there.
        address: The server's, for messages.
        timeout: Seconds that the server may be silent while something is awaited, or not be reached.
        closed: Called when it was closed.
        restart: Seconds in which connections may be refused, since nobody listens.

    Attributes:
        welcome: What the server said last of its limits.
        notice: What it said of the budget of queries.
        reconnects: How many sockets were replaced.
    """

    def __init__(
        self,
        dial: Callable[[float], Carrier],
        opening: Callable[[], Open],
        address: str,
        timeout: float,
        closed: Callable[[RemoteSession], object] = lambda session: None,
        *,
        restart: float = DEFAULT_RESTART_S,
    ) -> None:
        self._restart = restart
        self._dial, self._opening, self._address, self._timeout, self._closed = dial, opening, address, timeout, closed
        self.notice: Notice | None = None
        self.reconnects = 0
        self._turn, self._sending = threading.Condition(), threading.Lock()
        self._driving = False
        self._pending: OrderedDict[int, _Pending] = OrderedDict()
        self._asked, self._credit = 0, Credit()
        self._incoming, self._acknowledged, self._unacknowledged_bytes = Incoming(), 0, 0
        self._lost: HeloraError | None = None
        self._heard = time.monotonic()
        self._wire: Carrier | None = None
        self._name, self._token = "", b""
        self.welcome: Welcome
        wire = dial(min(timeout, _DIAL_S))
        try:
            self._go_on(wire, timeout, new=True)
        except WireBroken:  # somebody is there, or was
            wire.close()
            self._reconnect(new=True)
        except BaseException:
            wire.close()
            raise

    def answer(self, message: bytes) -> bytes:
        """The server's answer to a message. Several may be on their way at once.

        Raises:
            ConnectionLost: The server could not be reached for too long, or it was silent for too long.
            LimitExceeded: The message is longer than the server reads. The session goes on.
            HeloraError: As ``Session.answer`` raises it. The session goes on.
        """
        if len(message) > self.welcome.message_bytes:
            raise LimitExceeded(
                f"Session: {len(message)} bytes for the server, which reads at most {self.welcome.message_bytes}.",
                hint="Send fewer tokens per request.",
            )
        pending = _Pending(message)
        if not self._credit.take(len(message), self._timeout):
            raise self._error(f"no request was answered for {self._timeout:g} seconds")
        try:
            with self._sending:
                if self._lost is not None:
                    raise self._lost
                self._asked += 1
                self._pending[self._asked] = pending
                self._send(self._asked, message)
            return self._awaited(pending)
        finally:
            self._credit.give_back(len(message))

    def close(self) -> None:
        """End the session at the server, and here. It may be called twice."""
        # First: whoever waits connects no other socket then.
        self._lose(ConnectionLost(f"Session at {self._address}: it was closed.", hint="Open another one."))
        self._hang_up()
        self._closed(self)

    def _hang_up(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            with suppress(WireBroken):
                wire.send(encode(Close()))
            wire.close()

    def _send(self, request: int, message: bytes) -> None:
        """Send a request, if there is a socket; otherwise it is sent once there is one."""
        wire = self._wire
        if wire is None:
            return
        try:
            wire.send(encode(Ask(request=request, received=self._acknowledging()), message))
        except WireBroken as error:
            self._break(wire, str(error))

    def _acknowledging(self) -> int:
        self._acknowledged, self._unacknowledged_bytes = self._incoming.received, 0
        return self._acknowledged

    def _awaited(self, pending: _Pending) -> bytes:
        """The answer. One of the threads that wait reads for all."""
        since = time.monotonic()
        while pending.outcome is None:
            left = max(since, self._heard) + self._timeout - time.monotonic()
            if left <= 0:
                self._lose(self._error(f"the server was silent for {self._timeout:g} seconds"))
                continue
            with self._turn:
                if self._driving:
                    self._turn.wait(left)
                    continue
                self._driving = True
            try:
                self._drive(pending, left)
            finally:
                with self._turn:
                    self._driving = False
                    self._turn.notify_all()
        if isinstance(pending.outcome, bytes):
            return pending.outcome
        raise pending.outcome

    def _drive(self, pending: _Pending, seconds: float) -> None:
        """Take frames in until this answer is there, or nothing came for so long; replace a socket that breaks."""
        wire = self._wire
        try:
            if wire is None:
                self._reconnect()
                return
            while pending.outcome is None:
                frame = wire.receive(min(seconds, self._timeout / 2))
                if frame is None:
                    self._break(wire, "the server was silent")
                    return
                self._heard = time.monotonic()
                self._take(wire, frame)
                with self._turn:
                    self._turn.notify_all()
        except WireBroken as error:
            assert wire is not None
            self._break(wire, str(error))
        except HeloraError as error:
            self._lose(error)

    def _take(self, wire: Carrier, frame: bytes) -> None:
        try:
            header, payload = decode_from_server(frame)
            if isinstance(header, Answer):
                self._settle(header, bytes(payload))
                self._unacknowledged_bytes += len(payload)
            elif isinstance(header, Refused):
                refusal = Refusal(code=header.code, message=header.message, hint=header.hint, retry_s=header.retry_s)
                self._settle(header, raised(refusal))
            elif isinstance(header, Notice):
                self.notice = header
                _LOG.warning("half of the budget of queries at %s is used", self._address)
            elif isinstance(header, Goodbye):
                raise WireBroken(header.message)  # of the session more is said when another socket is connected
            else:
                raise CorruptPayload("the server welcomes twice", hint="Connect again.")
        except CorruptPayload as error:
            raise WireBroken(error.message) from error
        if self._unacknowledged_bytes * _ACK_SHARE > self.welcome.window_bytes:
            wire.send(encode(Ack(received=self._acknowledging())))

    def _settle(self, header: Answer | Refused, outcome: bytes | HeloraError) -> None:
        if not self._incoming.take(header.number):
            return
        with self._sending:
            found = self._pending.pop(header.request, None)
        if found is None:
            raise CorruptPayload("the server answers what was not asked", hint="Connect again.")
        found.outcome = outcome

    def _break(self, wire: Carrier, reason: str) -> None:
        """A socket is gone."""
        _LOG.info("socket to %s lost: %s", self._address, reason)
        wire.close()
        with self._turn:
            if self._wire is wire:
                self._wire = None
            self._turn.notify_all()

    def _reconnect(self, *, new: bool = False) -> None:
        """Connect another socket, and go on there.

        Args:
            new: In another session.

        Raises:
            HeloraError: The server could not be reached in time, or refuses for good.
        """
        patience = Patience(self._timeout, self._restart)
        while self._lost is None:
            wire = None
            if not patience.left:
                raise self._error(patience.reason)
            try:
                wire = self._dial(min(patience.left, _DIAL_S))
                self._go_on(wire, patience.left, new=new)
                self.reconnects += 1
                self._heard = time.monotonic()
                break
            except BaseException as error:
                if wire is not None:
                    wire.close()
                # UnexpectedMessage: it has forgotten the session, or the keys since it was asked for them.
                new = new or isinstance(error, UnexpectedMessage)
                if not isinstance(error, (WireBroken, ConnectionLost, LimitExceeded, UnexpectedMessage)):
                    raise
                time.sleep(patience.failed(error))
        if self._lost is not None:  # it was closed meanwhile
            self._hang_up()

    def _go_on(self, wire: Carrier, seconds: float, *, new: bool) -> None:
        """Take the session up on another socket, or open another one, and send what the server does not have."""
        if not new:
            received = self._incoming.received
            frame = Resume(session=self._name, token=self._token, received=received)
            self.welcome = self._greeted(wire, frame, seconds)
            with self._sending:
                self._acknowledged = received
                self._resend(wire, self.welcome.requested)
            return
        try:
            opening = self._opening()
        except VersionMismatch as error:
            raise ConnectionLost(error.message, hint=error.hint) from error
        self.welcome = self._greeted(wire, opening, seconds)
        self._name, self._token = self.welcome.session, self.welcome.token
        with self._sending:
            waiting = list(self._pending.values())
            self._pending = OrderedDict(enumerate(waiting, 1))
            self._asked, self._incoming, self._acknowledged = len(waiting), Incoming(), 0
            self._resend(wire, 0)

    def _resend(self, wire: Carrier, requested: int) -> None:
        for request, pending in self._pending.items():
            if request > requested:
                wire.send(encode(Ask(request=request, received=self._acknowledged), pending.message))
        self._wire = wire

    def _greeted(self, wire: Carrier, first: Open | Resume, seconds: float) -> Welcome:
        """Send the first frame, and wait for the welcome.

        Raises:
            WireBroken: None comes.
            HeloraError: As the server refuses.
        """
        wire.send(encode(first))
        frame = wire.receive(min(seconds, self._timeout / 2))  # it may be lost: there is time for another socket then
        if frame is None:
            raise WireBroken("no welcome came")
        header: FromServer
        header, _ = decode_from_server(frame)
        if isinstance(header, Goodbye):
            raise raised(Refusal(code=header.code, message=header.message, hint=header.hint, retry_s=header.retry_s))
        if not isinstance(header, Welcome):
            raise WireBroken("the server does not say welcome")
        self._credit.allow(header.credits, header.credit_bytes)
        return header

    def _lose(self, error: HeloraError) -> None:
        """Give up: all that wait learn why; the first reason stays."""
        with self._sending:
            self._lost = self._lost or error
            waiting = list(self._pending.values())
            self._pending.clear()
        self._credit.end()
        for pending in waiting:
            if pending.outcome is None:
                pending.outcome = self._lost
        with self._turn:
            self._turn.notify_all()

    def _error(self, reason: str) -> ConnectionLost:
        return ConnectionLost(
            f"Session at {self._address}: {reason.rstrip('.')}.",
            hint="Connect again and open another session; a request without its answer has to be begun anew.",
        )
