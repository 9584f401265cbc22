"""The origin of serialised bytes: the backend and the version of its library."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.metadata import PackageNotFoundError, version

from helora_core.errors import ForeignCiphertext, VersionMismatch

_LONGEST = 100


@dataclass(frozen=True)
class Origin:
    """The backend and library that made some bytes, and that can read them again.

    Attributes:
        backend: The backend's name.
        library: Its library with the version, as in ``tenseal 0.3.16``.
    """

    backend: str
    library: str

    @cached_property
    def encoded(self) -> bytes:
        """Backend and library, one line each, in UTF-8."""
        return f"{_printable(self.backend)}\n{_printable(self.library)}".encode()

    @staticmethod
    @lru_cache(maxsize=64)  # every message states one, and nearly always the same
    def decoded(data: bytes) -> Origin | None:
        """The origin that ``encoded`` wrote, or None for anything else."""
        try:
            backend, library = data.decode("utf-8").split("\n")
        except ValueError:
            return None
        found = Origin(backend, library)
        return found if found.encoded == data else None

    def require(self, found: Origin, what: str) -> None:
        """Refuse bytes of another library or version, which might silently be read wrongly.

        Args:
            found: The origin that the bytes state.
            what: A description of the bytes, with a colon.

        Raises:
            ForeignCiphertext: Another backend made them.
            VersionMismatch: Another version of the library made them.
        """
        if found.backend != self.backend:
            raise ForeignCiphertext(
                f"{what} made by backend {found.backend}; this session's is {self.backend}.",
                hint=f"Use one backend on both sides: {found.backend} here, or {self.backend} there.",
            )
        if found.library != self.library:
            raise VersionMismatch(
                f"{what} made by {found.library}; {self.library} is installed here.",
                hint=f"Use one version on both sides: install {found.library} here, or {self.library} there.",
            )


UNKNOWN = Origin("unknown", "unknown")
"""The origin of sessions that are made without a backend."""


def origin_of(backend: object) -> Origin:
    """A backend's name and its ``library_version``, or if it has none, the version of its distribution.

    A backend that reads and writes another's messages states that one's as its ``message_origin``.
    """
    speaks = getattr(backend, "message_origin", None)
    if isinstance(speaks, Origin):
        return speaks
    stated = getattr(backend, "library_version", None)
    library = stated if isinstance(stated, str) and stated else _distribution(type(backend).__module__)
    return Origin(_printable(str(getattr(backend, "name", UNKNOWN.backend))), _printable(library))


def _distribution(module: str) -> str:
    """A plugin's distribution and version, or unknown; ``helora_acme`` is expected to come in ``helora-acme``."""
    name = module.partition(".")[0]
    try:
        return f"{name.replace('_', '-')} {version(name)}"
    except (PackageNotFoundError, ValueError):
        return UNKNOWN.library


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text[:_LONGEST])
