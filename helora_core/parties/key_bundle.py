"""A client's evaluation keys as one message: those of each key set of an offer, in its order."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from helora_core.backend.limits import OVERHEAD_BYTES
from helora_core.errors import CorruptPayload
from helora_core.files import strict_msgpack
from helora_core.files.malformed import Malformed


def bundle(keys: Sequence[bytes]) -> bytes:
    """One message with the keys of each set, each in an envelope with its own checksum."""
    return msgspec.msgpack.encode(tuple(keys))


def read_bundle(
    message: bytes, most_bytes: Sequence[int], made_by: str = "Client.evaluation_keys"
) -> tuple[bytes, ...]:
    """The keys of each set.

    Args:
        message: The result of ``bundle``.
        most_bytes: Most bytes that the keys of each set may have.
        made_by: Name of the function that made it, for refusals.

    Raises:
        CorruptPayload: It is too long, or does not hold the keys of as many sets.
    """
    most = sum(most_bytes) + len(most_bytes) * OVERHEAD_BYTES
    if len(message) > most:
        raise CorruptPayload(
            f"{len(message)} bytes of keys, and this offer's plans need at most {most}.",
            hint="Make the keys of this server's offer.",
        )
    try:
        found = strict_msgpack.decode(message, tuple[bytes, ...])
    except Malformed as error:
        raise CorruptPayload(f"These bytes are not the result of {made_by}.", hint="Send them again.") from error
    if len(found) != len(most_bytes):
        raise CorruptPayload(
            f"Keys of {len(found)} parameter sets; this offer's plans have {len(most_bytes)}.",
            hint="Make the keys of this server's offer.",
        )
    return found
