"""Evaluation keys on disk, by their SHA-256: a client sends its megabytes once, and every session of its names them.

Each client has a folder of its own, so that nobody opens a session on the keys of somebody else.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from helora_core.errors import CorruptPayload, InvalidInput, LimitExceeded, UnexpectedMessage
from helora_serve.auth import Identity
from helora_serve.limits import Limits
from helora_serve.refusals import Refusing

_BUFFER = 1 << 20
_PART = ".part"
_RETRY_S = 5.0
_MOST_FILES = 1 << 16


class _Name(NamedTuple):
    place: str
    digest: str


class KeyStore:
    """The keys.

    Args:
        root: The folder; made if it does not exist. Half uploads in it are removed.
        limits: The limits.
        clock: Seconds since the epoch.
    """

    def __init__(self, root: Path, limits: Limits, *, clock: Callable[[], float] = time.time) -> None:
        self._root, self._limits, self._clock = root, limits, clock
        self._least = limits.key_store_bytes // _MOST_FILES
        self._lock = threading.RLock()  # damaged keys are found, and go, in threads that read them
        self._sizes: OrderedDict[_Name, int] = OrderedDict()
        self._touched: dict[_Name, float] = {}
        self._kept = self._coming = self._uploads = 0
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = []
        for path in root.glob("*/*"):
            if path.name.endswith(_PART):
                path.unlink()
            elif len(path.name) == 64:
                found.append((path.stat().st_mtime, _Name(path.parent.name, path.name), path.stat().st_size))
        for touched, name, size in sorted(found):
            self._keep(name, size, touched)

    @property
    def used_bytes(self) -> int:
        """Bytes on disk, uploads that are coming in included; a file counts as no less than its share of so many."""
        return self._kept + self._coming

    def has(self, identity: Identity, digest: str) -> bool:
        """Whether a client's keys are there; they count as used now."""
        name = _Name(identity.place, digest)
        if name not in self._sizes:
            return False
        self._sizes.move_to_end(name)
        self._touched[name] = self._clock()
        return True

    async def put(self, identity: Identity, digest: str, length: int, most: int, chunks: AsyncIterator[bytes]) -> None:
        """Take keys in. Unless all of them come and their digest is right, nothing is left behind.

        Args:
            identity: Whose.
            digest: Their SHA-256, in hexadecimal.
            length: Bytes announced.
            most: Most bytes that the keys for what is served have.
            chunks: Their bytes.

        Raises:
            Refusing: ``limit-exceeded``, by status 413 before anything is read, or 429; ``corrupt-payload``.
        """
        if length > most:
            raise Refusing(
                LimitExceeded(f"Server: {length} bytes of keys; those for this offer have at most {most}.",
                              hint="Make the keys of this server's offer."),
                status=413,
            )  # fmt: skip
        if self._uploads >= self._limits.uploads:
            raise Refusing(
                LimitExceeded(f"Server: {self._uploads} uploads of keys are coming in, and no more are allowed.",
                              hint="Try again."),
                retry_s=_RETRY_S,
            )  # fmt: skip
        self._make_room(length)
        folder = self._root / identity.place
        folder.mkdir(mode=0o700, exist_ok=True)
        part = folder / f".{digest}.{secrets.token_hex(8)}{_PART}"
        coming = max(length, self._least)
        self._coming += coming
        self._uploads += 1
        try:
            found = await self._written(part, length, chunks)
            if found != digest:
                raise CorruptPayload("Server: the keys are not those that their digest names.", hint="Send them again.")
            part.replace(folder / digest)
        finally:
            part.unlink(missing_ok=True)
            self._coming -= coming
            self._uploads -= 1
        self._keep(_Name(identity.place, digest), length, self._clock())

    async def _written(self, part: Path, length: int, chunks: AsyncIterator[bytes]) -> str:
        """Write what comes; the disk and the digest have threads of their own. Returns the digest."""
        digest, count, buffer = hashlib.sha256(), 0, bytearray()
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb", buffering=0) as file:

            def write(data: bytes) -> None:
                digest.update(data)
                file.write(data)

            while True:
                chunk = await self._next(chunks)
                count += len(chunk)
                if count > length:
                    raise CorruptPayload(
                        "Server: more bytes of keys came than were announced.", hint="Send them again."
                    )
                buffer += chunk
                if len(buffer) >= _BUFFER or (not chunk and buffer):
                    await asyncio.to_thread(write, bytes(buffer))
                    buffer.clear()
                if not chunk:
                    break
        if count != length:
            raise CorruptPayload("Server: fewer bytes of keys came than were announced.", hint="Send them again.")
        return digest.hexdigest()

    async def _next(self, chunks: AsyncIterator[bytes]) -> bytes:
        """The next bytes; empty at the end."""
        try:
            while True:
                chunk = await asyncio.wait_for(anext_of(chunks), self._limits.stall_s)
                if chunk is None:
                    return b""
                if chunk:
                    return chunk
        except asyncio.TimeoutError:
            raise Refusing(
                InvalidInput(f"Server: nothing came for {self._limits.stall_s:g} seconds.", hint="Send them again."),
                status=408,
            ) from None

    def read(self, identity: Identity, digest: str) -> bytes:
        """A client's keys, whose digest is checked once more; slow.

        Raises:
            UnexpectedMessage: They are not here, or no longer.
        """
        try:
            data = (self._root / identity.place / digest).read_bytes()
        except OSError:
            data = b""
        if hashlib.sha256(data).hexdigest() != digest:
            self._remove(_Name(identity.place, digest))
            raise UnexpectedMessage(
                "Server: the evaluation keys of the session are not here, or no longer.",
                hint="Send them (PUT /v1/keys/…), and open the session again.",
            )
        return data

    def sweep(self) -> None:
        """Remove what nobody has used for long."""
        oldest = self._clock() - self._limits.keys_ttl_s
        while self._sizes and self._touched[name := next(iter(self._sizes))] < oldest:
            self._remove(name)

    def _keep(self, name: _Name, size: int, touched: float) -> None:
        with self._lock:
            self._forget(name)
            self._sizes[name], self._touched[name] = max(size, self._least), touched
            self._kept += self._sizes[name]

    def _forget(self, name: _Name) -> None:
        with self._lock:
            self._kept -= self._sizes.pop(name, 0)
            self._touched.pop(name, None)

    def _make_room(self, length: int) -> None:
        room = self._limits.key_store_bytes - max(length, self._least)
        if self._coming > room:
            raise Refusing(
                LimitExceeded("Server: it has no room for further keys now.", hint="Try again later."),
                retry_s=_RETRY_S,
            )
        while self._sizes and self.used_bytes > room:
            self._remove(next(iter(self._sizes)))

    def _remove(self, name: _Name) -> None:
        self._forget(name)
        with suppress(OSError):
            (self._root / name.place / name.digest).unlink()


async def anext_of(chunks: AsyncIterator[bytes]) -> bytes | None:
    """The next of them; None at the end."""
    try:
        return await chunks.__anext__()
    except StopAsyncIteration:
        return None
