"""A client of mode ``split``: it embeds tokens, has the layers run elsewhere, and chooses tokens itself.

    with connect_split("https://host", Path("base"), adapter="legal") as model:
        tokens = model.generate(prompt, 32)

The server sees hidden states in clear, and can read every token in them: this is not private from the server.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from helora_core.errors import (
    ConnectionLost,
    CorruptPayload,
    HeloraError,
    LimitExceeded,
    UnexpectedMessage,
    VersionMismatch,
)
from helora_core.files import strict_json
from helora_core.files.malformed import Malformed
from helora_serve.client.remote import Connector, connector
from helora_serve.client.wire import Carrier, WireBroken
from helora_serve.frames import Close, Goodbye
from helora_serve.refusals import Refusal, raised
from helora_serve.split.ends import Ends
from helora_serve.split.frames import (
    PATH,
    SUBPROTOCOL,
    DType,
    Forward,
    Hidden,
    SplitOpen,
    SplitRefused,
    SplitResume,
    SplitWelcome,
    decode_from_server,
    encode,
    payload_of,
    rows_of,
)
from helora_serve.split.offer import FORMAT, SCHEMA, SplitOffer
from helora_serve.split.resuming import Split

_FIRST_PAUSE_S, _LONGEST_PAUSE_S, _DIAL_S = 0.02, 1.0, 10.0
_MOST_OFFER_BYTES = 1 << 20

T = TypeVar("T")


def connect_split(
    address: str, base: Path, *, adapter: str | None = None, dtype: DType = "float32", **how: Any
) -> RemoteModel:
    """Open a session.

    Args:
        address: As for ``helora_serve.client.connect``.
        base: The base model's folder, of which embedding and head are read.
        adapter: The adapter; None for the base model alone.
        dtype: Of the numbers that are sent, both ways. ``float16`` halves the bytes and rounds.
        how: Further arguments of ``helora_serve.client.connect``.

    Raises:
        VersionMismatch: The server has another base model.
        InvalidInput: The folder is no base model, or the server has no such adapter.
        HeloraError: As ``connect`` raises it.
    """
    return RemoteModel(connector(address, **how), Ends.of(base), adapter, dtype)


class RemoteModel:
    """A model whose ends are here and whose layers are elsewhere; for one thread. A context manager closes it.

    A lost socket is replaced. If the server has dropped the cache, or the whole session, what it had is sent again.

    Attributes:
        offer: What the server offers.
        ends: The ends.
        welcome: What the server said last of its limits.
        position: Where the server's cache ends.
        reconnects: How many sockets were replaced.
    """

    def __init__(self, connector: Connector, ends: Ends, adapter: str | None, dtype: DType) -> None:
        self.ends, self._connector = ends, connector
        self.offer = _read(connector)
        if self.offer.base.sha256 != ends.sha256:
            raise VersionMismatch(
                f"Split: the base model here is not that of {connector.target}, {self.offer.base.name}.",
                hint="Use the same folder on both sides.",
            )
        self._opening = SplitOpen(base=ends.sha256, adapter=adapter, dtype=dtype)
        self.reconnects = self.position = self._asked = 0
        self._name, self._token = "", b""
        self.welcome: SplitWelcome
        self._wire: Carrier | None = None
        self._read_tokens: list[int] = []
        try:
            self._connected(connector.timeout)
        except WireBroken:  # somebody is there, or was
            self._patiently(self._connected)

    def __enter__(self) -> RemoteModel:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def generate(self, prompt: Sequence[int], most: int, *, ends: Collection[int] = ()) -> list[int]:
        """The most probable tokens after a prompt.

        Args:
            prompt: Its tokens.
            most: How many at most.
            ends: Tokens that end the answer, and are not part of it.

        Raises:
            HeloraError: As ``logits`` raises it.
        """
        made: list[int] = []
        while len(made) < most:
            best = int(self.logits([*prompt, *made]).argmax())
            if best in ends:
                break
            made.append(best)
        return made

    def logits(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Logits of what comes after these tokens: (vocabulary,). What the server has of them is not sent again.

        Raises:
            ConnectionLost: The server could not be reached for too long.
            HeloraError: As the server refuses.
        """
        wanted = list(tokens)
        for last_try in (False, True):
            begin = min(self.position, _common(self._read_tokens, wanted), len(wanted) - 1)
            try:
                for start in range(begin, len(wanted), self.welcome.most_tokens):
                    piece = wanted[start : start + self.welcome.most_tokens]
                    rows = self.forward(self.ends.embedding[piece], start, last=True)
                    self._read_tokens[start:] = piece
                found: NDArray[np.float32] = self.ends.head @ rows[-1]
                return found
            except UnexpectedMessage:  # the server's cache ends earlier than it did, or it has forgotten the session
                if last_try:
                    raise
        raise AssertionError

    def forward(self, rows: NDArray[Any], position: int, *, last: bool = False) -> NDArray[np.float32]:
        """Have the layers run.

        Args:
            rows: Hidden states before the first layer, (tokens, hidden).
            position: Where the first one belongs in the context.
            last: Whether the last row's result alone is wanted.

        Returns:
            Hidden states after the final norm: (tokens, hidden), or (1, hidden).

        Raises:
            UnexpectedMessage: The server's cache ends before ``position``; ``self.position`` says where. Or the session
                was forgotten, and another one opened.
            ConnectionLost: The server could not be reached for too long.
            HeloraError: As the server refuses.
        """
        payload = payload_of(rows, self._opening.dtype)
        self._asked += 1
        header = Forward(request=self._asked, position=position, tokens=len(rows), last=last)
        frame, request = encode(header, payload), self._asked
        answer, came = self._patiently(lambda seconds: self._answered(frame, request, seconds))
        self.position = answer.position
        if isinstance(answer, SplitRefused):
            raise raised(_refusal(answer))
        return rows_of(came, answer.tokens, self.offer.base.hidden, self._opening.dtype)

    def close(self) -> None:
        """End the session. It may be called twice."""
        wire, self._wire = self._wire, None
        if wire is not None:
            with suppress(WireBroken):
                wire.send(encode(Close()))
            wire.close()

    def _answered(self, frame: bytes, request: int, seconds: float) -> tuple[Hidden | SplitRefused, memoryview]:
        """The answer to a request, which may be sent again."""
        wire = self._wire or self._connected(seconds)
        wire.send(frame)
        while (came := wire.receive(min(seconds, self._connector.timeout / 2))) is not None:
            header, payload = decode_from_server(came)
            if isinstance(header, Goodbye):
                raise WireBroken(header.message)
            if isinstance(header, (Hidden, SplitRefused)) and header.request == request:
                return header, payload
        raise WireBroken("the server was silent")

    def _patiently(self, work: Callable[[float], T]) -> T:
        """What some work with a socket results in; with another socket, should one break, until it is too late."""
        deadline, pause, reason = time.monotonic() + self._connector.timeout, _FIRST_PAUSE_S, ""
        while (left := deadline - time.monotonic()) > 0:
            try:
                return work(left)
            except (WireBroken, CorruptPayload, ConnectionLost, LimitExceeded) as error:
                reason = error.message if isinstance(error, HeloraError) else str(error)
                if self._wire is not None:
                    self._wire.close()
                    self._wire = None
                time.sleep(min(pause, max(0.0, left)))
                pause = min(2 * pause, _LONGEST_PAUSE_S)
        raise ConnectionLost(
            f"Split: {self._connector.target} did not answer for {self._connector.timeout:g} seconds ({reason}).",
            hint="Connect again, and begin at position 0.",
        )

    def _connected(self, seconds: float) -> Carrier:
        """Another socket, of the same session if there is one."""
        new = not self._name
        try:
            wire = self._connector.dial(min(seconds, _DIAL_S), path=PATH, subprotocol=SUBPROTOCOL, resuming=Split)
        except WireBroken as error:
            raise ConnectionLost(
                f"Split: no session at {self._connector.target} ({error}).", hint="Check the address, and try again."
            ) from error
        try:
            self.welcome = self._greeted(wire, seconds)
        except UnexpectedMessage:
            wire.close()
            if new:
                raise
            self._name, self._asked, self.position, self._read_tokens = "", 0, 0, []
            self._connected(seconds)
            raise
        except BaseException:
            wire.close()
            raise
        if new:
            self._name, self._token = self.welcome.session, self.welcome.token
        else:
            self.reconnects += 1
        self._wire = wire
        return wire

    def _greeted(self, wire: Carrier, seconds: float) -> SplitWelcome:
        first = SplitResume(session=self._name, token=self._token, position=self.position) if self._name else None
        wire.send(encode(first or self._opening))
        came = wire.receive(min(seconds, self._connector.timeout / 2))
        if came is None:
            raise WireBroken("no welcome came")
        header, _ = decode_from_server(came)
        if isinstance(header, Goodbye):
            raise raised(_refusal(header))
        if not isinstance(header, SplitWelcome):
            raise WireBroken("the server does not say welcome")
        return header


def _refusal(header: SplitRefused | Goodbye) -> Refusal:
    return Refusal(code=header.code, message=header.message, hint=header.hint, retry_s=header.retry_s)


def _read(connector: Connector) -> SplitOffer:
    body = connector.http.get(f"{PATH}/offer")
    try:
        offer = strict_json.decode(body, SplitOffer, most=_MOST_OFFER_BYTES)
        if (offer.format, offer.schema) != (FORMAT, SCHEMA):
            raise Malformed("has another format")
    except Malformed as error:
        raise CorruptPayload(
            f"What answers at {connector.target} serves no mode split: its offer {error.reason}.",
            hint="Check the address.",
        ) from error
    return offer


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens they begin with in common."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((number for number, (a, b) in pairs if a != b), min(len(one), len(other)))
