"""What is refused or fails, as OpenAI's clients read it: a status and an error object. Nothing falls back to another
model: an answer is that of the model that was asked, or it is one of these.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from helora_core.errors import HeloraError

BAD_REQUEST = "invalid_request_error"
SERVER_ERROR = "server_error"
TOO_MANY = "rate_limit_error"

_OF_THE_HOST = {
    "connection-lost", "corrupt-payload", "version-mismatch", "unexpected-message", "foreign-ciphertext",
    "missing-rotation-key", "insecure-parameters", "leakage-refused", "access-refused",
}  # fmt: skip
"""Codes of errors that a host caused: it is gone, or what it sent cannot be used."""

_NO_RETRY = {"x-should-retry": "false"}
"""Heeded by OpenAI's clients, which otherwise repeat what failed; each time the adapter's host is asked again."""


@dataclass
class Failure(Exception):
    """A refusal, or an answer that failed.

    Attributes:
        status: The HTTP status.
        message: What happened, for people.
        type: OpenAI's kind of error.
        code: What programs match on: one of helora's, or one of OpenAI's.
        param: The field of the request that is meant.
        headers: Further headers.
    """

    status: int
    message: str
    type: str = BAD_REQUEST
    code: str | None = None
    param: str | None = None
    headers: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.message

    def to_dict(self) -> dict[str, Any]:
        """OpenAI's error object."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}


def bad_request(message: str, *, param: str | None = None, code: str | None = None) -> Failure:
    """The request cannot be answered as it is."""
    return Failure(400, message, code=code, param=param)


def failure_of(error: BaseException) -> Failure:
    """What an error is to a client. Of errors that are not helora's only the type is told: their text may be private.

    Args:
        error: What answering a request raised.
    """
    if isinstance(error, Failure):
        return error
    if not isinstance(error, HeloraError):
        return Failure(
            500, f"The proxy failed ({type(error).__name__}).", SERVER_ERROR, "internal-error", headers=_NO_RETRY
        )
    message = f"{error.message} {error.hint}"
    if error.code == "invalid-input":
        return Failure(400, message, code=error.code)
    if error.code == "limit-exceeded":  # the owner's limit on queries, for one
        return Failure(429, message, TOO_MANY, error.code, headers=_NO_RETRY)
    if error.code == "pool-empty":  # it is being filled again
        return Failure(503, message, SERVER_ERROR, error.code, headers={"retry-after": "5"})
    status = 502 if error.code in _OF_THE_HOST else 500
    return Failure(status, message, SERVER_ERROR, error.code, headers={} if status == 502 else _NO_RETRY)
