"""The server's own stores: what goes wrong there is for its log, with its paths; clients hear that something did."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from helora_core.errors import HeloraError, LimitExceeded
from helora_core.parties.store import WrappedStore, Write

_LOG = logging.getLogger("helora.serve")


class OwnStore(WrappedStore):
    """A store whose errors may reach clients."""

    def get(self, key: str) -> bytes | None:
        """The value; None if there is none. Errors are ``HeloraError`` and ``LimitExceeded``, without particulars."""
        with _logged():
            return self.inner.get(key)

    def names(self, prefix: str) -> Sequence[str]:
        """The keys that begin so, in order."""
        with _logged():
            return self.inner.names(prefix)

    def put_many(self, writes: Sequence[Write]) -> None:
        """Write all or, after a crash, none. Errors as of ``get``."""
        with _logged():
            self.inner.put_many(writes)


@contextmanager
def _logged() -> Iterator[None]:
    try:
        yield
    except LimitExceeded as error:
        _LOG.error("%s", error)
        raise LimitExceeded("Server: its store is full.", hint="Its log says which.") from None
    except HeloraError as error:
        _LOG.error("%s", error)
        raise HeloraError("Server: its store failed.", hint="Its log says why.") from None
