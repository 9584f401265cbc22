"""A client's evaluation keys as one message: those of each key set of an offer, in its order."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from helora_core.backend.limits import OVERHEAD_BYTES
from helora_core.errors import CorruptPayload


def bundle(keys: Sequence[bytes]) -> bytes:
    """One message of the keys of each set; each is an envelope with a checksum of its own."""
    return msgspec.msgpack.encode(tuple(keys))


def read_bundle(
    message: bytes, most_bytes: Sequence[int], made_by: str = "Client.evaluation_keys"
) -> tuple[bytes, ...]:
    """The keys of each set.

    Args:
        message: As ``bundle`` made it.
        most_bytes: How many bytes the keys of each set have at most.
        made_by: What made it, for refusals.

    Raises:
        CorruptPayload: It is too long, or not the keys of so many sets.
    """
    most = sum(most_bytes) + len(most_bytes) * OVERHEAD_BYTES
    if len(message) > most:
        raise CorruptPayload(
            f"{len(message)} bytes of keys, and this offer's plans need at most {most}.",
            hint="Make the keys of this server's offer.",
        )
    try:
        found = msgspec.msgpack.decode(message, type=tuple[bytes, ...])
    except msgspec.MsgspecError as error:
        raise CorruptPayload(f"These bytes are not what {made_by} gives.", hint="Send them again.") from error
    if len(found) != len(most_bytes):
        raise CorruptPayload(
            f"Keys of {len(found)} parameter sets; this offer's plans have {len(most_bytes)}.",
            hint="Make the keys of this server's offer.",
        )
    return found
