"""What is served, by version: the one that new clients are offered, and older ones until their sessions end."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from helora_core.artifact.manifest import MANIFEST
from helora_core.errors import InvalidInput, VersionMismatch
from helora_core.parties.server import Server
from helora_serve.limits import Limits
from helora_serve.offer import Base, OfferDocument, document_of, version_of

_LOG = logging.getLogger("helora.serve")


@dataclass(eq=False)
class Version:
    """One version.

    Attributes:
        server: What answers.
        document: Its offer.
        json: The same, as bytes.
        sessions: How many sessions it has.
    """

    server: Server
    document: OfferDocument
    json: bytes = field(repr=False)
    sessions: int = 0

    @property
    def name(self) -> str:
        """Its name in the offer."""
        return self.document.version


class Catalogue:
    """The versions.

    Args:
        load: Loads what is to be served; called again by ``reload``. It gives the server, and what tells its weights
            from those of others with the same plans.
        limits: The limits.
        bases: Base models of adapters, as ``document_of`` takes them.
    """

    def __init__(
        self,
        load: Callable[[], tuple[Server, tuple[bytes, ...]]],
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
            return False
        self._versions.pop(version.name, None)
        self._versions[version.name] = self.current = version
        self.prune()
        return True

    def prune(self) -> None:
        """Drop older versions without sessions, and with them their encoded weights."""
        for name, each in list(self._versions.items()):
            if each is not self.current and not each.sessions:
                del self._versions[name]

    def _made(self) -> Version:
        server, stamps = self._load()
        delta = server.offer()
        document = document_of(server, delta, version_of(delta, stamps), self._limits, self._bases)
        return Version(server, document, msgspec.json.encode(document))


def fixed(server: Server) -> Callable[[], tuple[Server, tuple[bytes, ...]]]:
    """Loads nothing: always the same server, whose weights are told from others by chance."""
    stamp = secrets.token_bytes(16)
    return lambda: (server, (stamp,))


def stamps_of(directories: Mapping[str, str | Path]) -> tuple[bytes, ...]:
    """What tells artifacts from others: their manifests, which have the digests of all their files.

    Raises:
        InvalidInput: A directory is no artifact.
    """
    found = []
    for name, directory in sorted(directories.items()):
        try:
            found.append(name.encode() + b"\0" + (Path(directory) / MANIFEST).read_bytes())
        except OSError as error:
            raise InvalidInput(
                f"Serve: {directory} is no compiled artifact ({error.strerror or error}).",
                hint="Make one of an adapter: helora compile --adapter DIR --out served",
            ) from error
    return tuple(found)
