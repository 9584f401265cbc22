"""Refusals as data: the server's error is raised at the client as the same type, which its code names."""

from __future__ import annotations

import logging

import msgspec

from helora_core import errors
from helora_core.errors import CorruptPayload, HeloraError
from helora_core.files import strict_json
from helora_core.files.malformed import Malformed

MOST_REFUSAL_BYTES = 64 << 10
MOST_TEXT = 2000
_LOG = logging.getLogger("helora.serve")

_TYPES = {each.code: each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, HeloraError)}

TOLD = (
    errors.AccessRefused, errors.ConnectionLost, errors.CorrelationUsed, errors.CorruptPayload,
    errors.ForeignCiphertext, errors.InvalidInput, errors.LimitExceeded, errors.NotDurable, errors.UnexpectedMessage,
    errors.VersionMismatch,
)  # fmt: skip
"""Errors whose text is for the client. Those of the server's own files and library stay in its log."""

STATUS = {
    "access-refused": 401,
    "connection-lost": 503,
    "corrupt-payload": 422,
    "invalid-input": 400,
    "limit-exceeded": 429,
    "unexpected-message": 409,
    "version-mismatch": 409,
}
"""HTTP statuses by code; any other is the server's own fault, 500."""


class Refusal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An error as JSON.

    Attributes:
        code, message, hint: The error.
        retry_s: Seconds after which it may be otherwise; None if waiting does not help.
    """

    code: str
    message: str
    hint: str
    retry_s: float | None = None


class RefusalDocument(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of an HTTP response that refuses."""

    error: Refusal


class Refusing(Exception):
    """A refusal on its way to the client, with what HTTP says beside it.

    Args:
        error: The error.
        status: The HTTP status; by the error's code if None.
        retry_s: Seconds after which it may be otherwise.
    """

    def __init__(self, error: HeloraError, *, status: int | None = None, retry_s: float | None = None) -> None:
        super().__init__(error.message)
        self.error = error
        self.status = status or STATUS.get(error.code, 500)
        self.refusal = refusal_of(error, retry_s)


def refusal_of(error: BaseException, retry_s: float | None = None) -> Refusal:
    """An error as data; of faults of the server itself, the code alone: their texts go to its log."""
    if isinstance(error, Refusing):
        return error.refusal
    if isinstance(error, TOLD):
        message, hint = error.message[:MOST_TEXT], error.hint[:MOST_TEXT]
        return Refusal(code=error.code, message=message, hint=hint, retry_s=retry_s)
    # The type alone: the text of a library's exception may quote what it was given.
    _LOG.error("a request failed: %s", error.code if isinstance(error, HeloraError) else type(error).__name__)
    code = error.code if isinstance(error, HeloraError) else HeloraError.code
    return Refusal(code=code, message="Server: it failed to answer.", hint="The server's own log says why.")


def raised(refusal: Refusal) -> HeloraError:
    """The error that a refusal is of; ``HeloraError`` itself if its code is unknown here."""
    hint = _plain(refusal.hint)
    if refusal.retry_s is not None:
        hint += f" Try again in {max(1, round(refusal.retry_s))} s."
    return _TYPES.get(refusal.code, HeloraError)(_plain(refusal.message), hint=hint)


def read_refusal(body: bytes) -> Refusal:
    """The refusal in the body of an HTTP response.

    Raises:
        CorruptPayload: There is none: something else than a server of helora answered.
    """
    try:
        return strict_json.decode(body, RefusalDocument, most=MOST_REFUSAL_BYTES).error
    except Malformed as error:
        raise CorruptPayload(
            f"What answered is no server of helora: the refusal {error.reason}.", hint="Check the address."
        ) from error


def _plain(text: str) -> str:
    """A stranger's text, without what would steer a terminal."""
    return "".join(each if each.isprintable() else "?" for each in text[:MOST_TEXT])
