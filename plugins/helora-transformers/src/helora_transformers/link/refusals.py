"""Refusals as bytes: the server's error is raised at the client as the same type, which its code names."""

from __future__ import annotations

import msgspec

from helora_core import errors
from helora_core.errors import CorruptPayload, HeloraError
from helora_core.files import strict_msgpack
from helora_core.files.malformed import Malformed

MOST_REFUSAL_BYTES = 64 << 10
_MOST_TEXT = 2000

_TYPES = {each.code: each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, HeloraError)}

TOLD = (
    errors.ConnectionLost, errors.CorrelationUsed, errors.CorruptPayload, errors.ForeignCiphertext, errors.InvalidInput,
    errors.LimitExceeded, errors.NotDurable, errors.UnexpectedMessage, errors.VersionMismatch,
)  # fmt: skip
"""Errors whose text is for the client. Those of the server's own files and library stay in its log."""


class _Refusal(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    code: str
    message: str
    hint: str


def encode_refusal(error: Exception) -> bytes:
    """The bytes for an error; of faults of the server itself, the code alone."""
    if isinstance(error, TOLD):
        refusal = _Refusal(error.code, error.message[:_MOST_TEXT], error.hint[:_MOST_TEXT])
    else:
        code = error.code if isinstance(error, HeloraError) else HeloraError.code
        refusal = _Refusal(code, "Server: it failed to answer.", "The server's own log says why.")
    return msgspec.msgpack.encode(refusal)


def decode_refusal(payload: bytes) -> HeloraError:
    """The error that the server raised; ``HeloraError`` itself if its code is unknown here.

    Raises:
        CorruptPayload: It is no refusal.
    """
    try:
        refusal = strict_msgpack.decode(payload, _Refusal)
    except Malformed as error:
        raise CorruptPayload(
            f"Link: the refusal {error.reason}.", hint="Use the same version of helora on both sides."
        ) from error
    return _TYPES.get(refusal.code, HeloraError)(_plain(refusal.message), hint=_plain(refusal.hint))


def _plain(text: str) -> str:
    """A stranger's text, without what would steer a terminal."""
    return "".join(each if each.isprintable() else "?" for each in text[:_MOST_TEXT])
