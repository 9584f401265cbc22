"""Who made some bytes: the backend, and the version of the library below it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from helora_core.errors import ForeignCiphertext, VersionMismatch

_LONGEST = 100


@dataclass(frozen=True)
class Origin:
    """What can read bytes again.

    Attributes:
        backend: The backend's name.
        library: The library below it with its version, as in ``tenseal 0.3.16``.
    """

    backend: str
    library: str

    def encoded(self) -> bytes:
        """Both, a line each, in UTF-8."""
        return f"{_printable(self.backend)}\n{_printable(self.library)}".encode()

    @classmethod
    def decoded(cls, data: bytes) -> Origin | None:
        """What ``encoded`` made, or None for anything else."""
        try:
            backend, library = data.decode("utf-8").split("\n")
        except ValueError:
            return None
        found = cls(backend, library)
        return found if found.encoded() == data else None

    def require(self, found: Origin, what: str) -> None:
        """Refuse what another library, or another version of it, made: bytes may be read wrongly without a sign.

        Args:
            found: Where the bytes say that they come from.
            what: What they are, with a colon.

        Raises:
            ForeignCiphertext: Another backend made them.
            VersionMismatch: Another version of the library did.
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
"""Of sessions that are made without a backend."""


def origin_of(backend: object) -> Origin:
    """A backend's name and its ``library_version``; where it has none, the version of the distribution it comes in."""
    stated = getattr(backend, "library_version", None)
    library = stated if isinstance(stated, str) and stated else _distribution(type(backend).__module__)
    return Origin(_printable(str(getattr(backend, "name", UNKNOWN.backend))), _printable(library))


def _distribution(module: str) -> str:
    """A plugin's distribution is named after its package (``helora-acme`` and ``helora_acme``), or is unknown."""
    name = module.partition(".")[0]
    try:
        return f"{name.replace('_', '-')} {version(name)}"
    except (PackageNotFoundError, ValueError):
        return UNKNOWN.library


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text[:_LONGEST])
