"""What a POST has to begin with: how a session is taken up again, learned from the frames that pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from helora_serve.client.wire import WireBroken
from helora_serve.frames import (
    Ack,
    Answer,
    Ask,
    Close,
    Open,
    Refused,
    Resume,
    Welcome,
    decode_from_client,
    decode_from_server,
    encode,
)


class Resuming(Protocol):
    """Learns of a session from its frames.

    Attributes:
        own: Whether the last POST began with the session's own frame, and its welcome is for the session.
    """

    own: bool

    def posting(self, frames: Sequence[bytes]) -> list[bytes]:
        """The frames of a POST: those that are to be sent, behind one that takes the session up again if need be."""
        ...

    def came(self, frame: bytes) -> bool:
        """A frame has come. Returns whether it is for the session.

        Raises:
            WireBroken: The server does not have what was sent.
            CorruptPayload: It is no frame.
        """
        ...

    def ends(self, frame: bytes) -> bool:
        """Whether a frame of the client's ends the session."""
        ...


class Delta:
    """For ``helora.delta.v1``."""

    def __init__(self) -> None:
        self.own = True
        self._session, self._token = "", b""
        self._received = self._posted = self._had = 0

    def posting(self, frames: Sequence[bytes]) -> list[bytes]:
        """As said. What an ``ack`` says, the frame that takes the session up says too."""
        self._had, wanted = self._posted, list[bytes]()
        for number, frame in enumerate(frames):
            header, _ = decode_from_client(frame)
            if not number:
                self.own = isinstance(header, (Open, Resume))
            if isinstance(header, Resume):
                self._session, self._token, self._received = header.session, header.token, header.received
            elif isinstance(header, Ask):
                self._posted = max(self._posted, header.request)
            if not isinstance(header, Ack):
                wanted.append(frame)
        if frames and self.own:
            return wanted
        self.own = False
        return [encode(Resume(session=self._session, token=self._token, received=self._received)), *wanted]

    def came(self, frame: bytes) -> bool:
        """As said."""
        header, _ = decode_from_server(frame)
        if isinstance(header, Welcome):
            if not self.own:
                require_had(header.requested, self._had)
                return False
            self._session, self._token = header.session, header.token or self._token
            self._posted = max(self._posted, header.requested)
        elif isinstance(header, (Answer, Refused)) and header.number == self._received + 1:
            self._received = header.number
        return True

    def ends(self, frame: bytes) -> bool:
        """As said."""
        return isinstance(decode_from_client(frame)[0], Close)


def require_had(requested: int, posted: int) -> None:
    """Check that the server has what was posted before.

    Raises:
        WireBroken: It has not.
    """
    if requested < posted:
        raise WireBroken(f"the server has requests up to {requested}, and {posted} were sent")
