"""Who asks: bearer tokens, and what browsers say of the page that asks."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from helora_core.errors import AccessRefused, InvalidInput
from helora_serve.refusals import Refusing

BEARER_PREFIX = "helora.bearer."
"""A browser, which can set no header of a WebSocket, offers its token as a subprotocol of this beginning."""

MOST_TOKENS_BYTES = 1 << 20
_TOKEN_BYTES = 32
_LINE = re.compile(r"([A-Za-z0-9._@-]{1,64}):([0-9a-f]{64})")
_NAME = re.compile(r"[A-Za-z0-9._@-]{1,64}")


class Identity(msgspec.Struct, frozen=True):
    """Who asks.

    Attributes:
        name: The name of the token; ``certificate:`` and the beginning of its SHA-256, if clients are asked for
            certificates alone; empty if nobody is asked for anything.
    """

    name: str

    @property
    def place(self) -> str:
        """What stands for the name in files."""
        return hashlib.sha256(b"identity\0" + self.name.encode()).hexdigest()[:32]


class Tokens:
    """The tokens that are accepted, as SHA-256 of each: tokens are random, so that nothing slower is needed.

    Args:
        hashed: SHA-256, in hexadecimal, by the name of who has it.
    """

    def __init__(self, hashed: Mapping[str, str]) -> None:
        self._hashed = [(name, bytes.fromhex(each)) for name, each in hashed.items()]

    @classmethod
    def read(cls, path: Path, *, some: bool = True) -> Tokens:
        """Those of a file: a line ``NAME:SHA256`` each; empty lines and those that begin with ``#`` say nothing.

        Args:
            path: The file.
            some: Refuse a file without any.

        Raises:
            InvalidInput: It cannot be read, or has another line, or no token.
        """
        try:
            with path.open("rb") as file:
                text = file.read(MOST_TOKENS_BYTES + 1).decode("ascii")
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInput(
                f"Tokens: {path} cannot be read ({getattr(error, 'strerror', None) or 'not ASCII'}).",
                hint="Make one: helora token NAME --tokens FILE",
            ) from error
        found: dict[str, str] = {}
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip() or line.startswith("#"):
                continue
            match = _LINE.fullmatch(line.strip())
            if match is None or match[1] in found or len(text) > MOST_TOKENS_BYTES:
                raise InvalidInput(
                    f"Tokens: line {number} of {path} is no NAME:SHA256, or has a name of another.",
                    hint="Let `helora token NAME --tokens FILE` add lines; one NAME has one token.",
                )
            found[match[1]] = match[2]
        if some and not found:
            raise InvalidInput(f"Tokens: {path} has no token.", hint="Make one: helora token NAME --tokens FILE")
        return cls(found)

    def __contains__(self, name: object) -> bool:
        return any(each == name for each, _ in self._hashed)

    def owner(self, token: str) -> str | None:
        """Who has a token; None if nobody has. It takes as long for every token."""
        digest, owner = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest(), None
        for name, each in self._hashed:
            if hmac.compare_digest(digest, each):
                owner = name
        return owner


def new_token(name: str) -> tuple[str, str]:
    """A token, and the line for the file of tokens.

    Raises:
        InvalidInput: The name has other characters than letters, digits and ``._@-``.
    """
    if not _NAME.fullmatch(name):
        raise InvalidInput(f"Tokens: {name!r} cannot name a client.", hint="Use letters, digits and ._@- only.")
    token = secrets.token_urlsafe(_TOKEN_BYTES)
    return token, f"{name}:{hashlib.sha256(token.encode()).hexdigest()}"


class Access:
    """Decides who is served.

    Args:
        tokens: The tokens accepted; None to ask for none.
        origins: Origins of other pages than the server's own that may ask.
        any_host: Serve requests that name any host. Otherwise only loopback is named: a page elsewhere that lets its
            own name point here is refused.
    """

    def __init__(self, tokens: Tokens | None, *, origins: Sequence[str] = (), any_host: bool = False) -> None:
        self.tokens, self.origins, self._any_host = tokens, tuple(origins), any_host

    def identity(
        self, headers: Mapping[str, str], subprotocols: Sequence[str] = (), *, certificate: str = ""
    ) -> Identity:
        """Who asks.

        Args:
            headers, subprotocols: Of the request.
            certificate: SHA-256 of the certificate that it came by, in hexadecimal; empty if there is none.

        Raises:
            Refusing: ``access-refused``, by status 401 for tokens and 403 for pages.
        """
        self.require_page(headers)
        if self.tokens is None:
            return Identity(f"certificate:{certificate[:32]}" if certificate else "")
        offered = [each.removeprefix(BEARER_PREFIX) for each in subprotocols if each.startswith(BEARER_PREFIX)]
        scheme, _, said = headers.get("authorization", "").partition(" ")
        token = said.strip() if scheme.lower() == "bearer" else (offered[0] if offered else "")
        owner = self.tokens.owner(token)
        if owner is None:
            raise Refusing(
                AccessRefused("Server: it serves clients with a token, and this is none of them.",
                              hint="Pass the token that its owner gave you: connect(…, token=…)."),
            )  # fmt: skip
        return Identity(owner)

    def require_page(self, headers: Mapping[str, str]) -> None:
        """Refuse what pages of other origins ask in a browser."""
        host = headers.get("host", "")
        if not self._any_host and not is_loopback(_host_name(host)):
            raise _foreign("names another host than this machine")
        origin = headers.get("origin")
        if origin is None:  # browsers name none for images and the like, and say of those where they come from
            own = headers.get("sec-fetch-site", "none") in ("none", "same-origin")
        else:
            own = origin in self.origins or (bool(host) and _host_of(origin) == host)
        if not own:
            raise _foreign("comes from a page of another origin")


def is_loopback(host: str) -> bool:
    """Whether a host's name or address is this machine's own, for sure."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _host_of(origin: str) -> str:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


def _host_name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _foreign(why: str) -> Refusing:
    return Refusing(
        AccessRefused(f"Server: the request {why}.", hint="Its owner may allow the page: helora serve --origin URL."),
        status=403,
    )
