"""``Resuming`` for ``helora.split.v1``: a POST repeats the request that has no answer yet."""

from __future__ import annotations

from collections.abc import Sequence

from helora_serve.client.resuming import require_had
from helora_serve.frames import Close
from helora_serve.split.frames import (
    Forward,
    Hidden,
    SplitOpen,
    SplitRefused,
    SplitResume,
    SplitWelcome,
    decode_from_client,
    decode_from_server,
    encode,
)


class Split:
    """As ``helora_serve.client.resuming`` says."""

    def __init__(self) -> None:
        self.own = True
        self._session, self._token, self._position = "", b"", 0
        self._had = 0
        self._waiting: tuple[int, bytes] | None = None

    def posting(self, frames: Sequence[bytes]) -> list[bytes]:
        """As said."""
        wanted = list(frames)
        first = decode_from_client(frames[0])[0] if frames else None
        self.own = isinstance(first, (SplitOpen, SplitResume))
        if isinstance(first, SplitResume):
            self._session, self._token, self._position = first.session, first.token, first.position
        for frame in frames:
            header, _ = decode_from_client(frame)
            if isinstance(header, Forward):
                self._waiting = header.request, frame
        if self._waiting is not None and self._waiting[1] not in wanted and not self.own:
            wanted.append(self._waiting[1])
        if self.own:
            return wanted
        return [encode(SplitResume(session=self._session, token=self._token, position=self._position)), *wanted]

    def came(self, frame: bytes) -> bool:
        """As said."""
        header, _ = decode_from_server(frame)
        if isinstance(header, SplitWelcome):
            if not self.own:
                require_had(header.requested, self._had)
                return False
            self._session, self._token = header.session, header.token or self._token
        elif isinstance(header, (Hidden, SplitRefused)):
            self._had, self._position = header.request, header.position
            if self._waiting is not None and header.request == self._waiting[0]:
                self._waiting = None
        return True

    def ends(self, frame: bytes) -> bool:
        """As said."""
        return isinstance(decode_from_client(frame)[0], Close)
