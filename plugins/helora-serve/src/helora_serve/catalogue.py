"""What is served, by version: the one that new clients are offered, and older ones until their sessions end."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from helora_core.errors import VersionMismatch
from helora_core.parties.server import Server
from helora_serve.limits import Limits
from helora_serve.offer import Base, OfferDocument, document_of, version_of


class Loaded(NamedTuple):
    """What was loaded.

    Attributes:
        server: What answers.
        stamps: What tells its weights from those of others with the same plans.
        close: Lets go of the files that it reads.
    """

    server: Server
    stamps: tuple[bytes, ...]
    close: Callable[[], object] = lambda: None


@dataclass(eq=False)
class Version:
    """One version.

    Attributes:
        server: What answers.
        document: Its offer.
        json: The same, as bytes.
        close: Lets go of the files that it reads.
        sessions: How many sessions it has.
    """

    server: Server
    document: OfferDocument
    json: bytes = field(repr=False)
    close: Callable[[], object] = field(default=lambda: None, repr=False)
    sessions: int = 0

    @property
    def name(self) -> str:
        """Its name in the offer."""
        return self.document.version


class Catalogue:
    """The versions.

    Args:
        load: Loads what is to be served; called again for another version.
        limits: The limits.
        bases: Base models of adapters, as ``document_of`` takes them.
    """

    def __init__(
        self,
        load: Callable[[], Loaded],
        limits: Limits,
        bases: Mapping[str, Base] | None = None,
    ) -> None:
        self._load, self._limits, self._bases = load, limits, dict(bases or {})
        self.current = self._made()
        self._versions = {self.current.name: self.current}

    @property
    def versions(self) -> tuple[Version, ...]:
        """All versions, the current one last."""
        return tuple(self._versions.values())

    def find(self, name: str) -> Version:
        """A version that sessions may be opened for.

        Raises:
            VersionMismatch: It is not served, or no longer.
        """
        found = self._versions.get(name)
        if found is None:
            raise VersionMismatch(
                "Server: the version of the offer that the session is for is not served, or no longer.",
                hint="Ask for the offer again, and make a client from it.",
            )
        return found

    def loaded(self) -> Version:
        """What ``reload`` would offer, loaded now; slow. Errors are those of loading."""
        return self._made()

    def offer(self, version: Version) -> bool:
        """Offer a version from now on. Returns whether it differs from the one before."""
        if version.name == self.current.name:
            version.close()
            return False
        if (same := self._versions.get(version.name)) is not None:  # an older one, offered again
            version.close()
            version = same
            del self._versions[version.name]
        self._versions[version.name] = self.current = version
        self.prune()
        return True

    def prune(self) -> None:
        """Drop older versions without sessions, and with them their encoded weights."""
        for name, each in list(self._versions.items()):
            if each is not self.current and not each.sessions:
                self._versions.pop(name).close()

    def close(self) -> None:
        """Let go of all versions' files."""
        for each in self.versions:
            each.close()

    def _made(self) -> Version:
        server, stamps, close = self._load()
        delta = server.offer()
        document = document_of(server, delta, version_of(delta, stamps), self._limits, self._bases)
        return Version(server, document, msgspec.json.encode(document), close)


def fixed(server: Server) -> Callable[[], Loaded]:
    """Loads nothing: always the same server, whose weights are told from others by chance."""
    stamp = secrets.token_bytes(16)
    return lambda: Loaded(server, (stamp,))
