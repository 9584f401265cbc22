"""Tokens of clients in the modes in which the server runs the model, by the budget that mode ``client-key`` has.

There a client gets Δ, and each token is a query of each module. Here it gets what the whole model makes of the token:
enough of that trains another adapter to do the same. A token is one query of the adapter, counted before it is run; the
base model alone is public, and is not counted. Clients whose name nobody asks for are one client together.
"""

from __future__ import annotations

from collections.abc import Callable

from helora_serve.auth import Identity
from helora_serve.budget import Account, Budget
from helora_serve.metrics import Metrics
from helora_serve.proxy.asked import Admit


class Meter:
    """Counts the tokens of one mode.

    Args:
        budget: The accounts of all clients.
        metrics: Counts.
        mode: The mode's name.
        warn: Called once for a client that has had half of what it may have, with its count and the limit.
    """

    def __init__(self, budget: Budget, metrics: Metrics, mode: str, warn: Callable[[int, int], object]) -> None:
        self._budget, self._warn = budget, warn
        self._count = metrics.model_queries.labels(mode)
        self._warned: set[str] = set()

    def admit(self, identity: Identity) -> Admit:
        """What counts the tokens of a client, and may read and write on the disk: not for the event loop. It raises
        ``LimitExceeded`` if there would be more than allowed.
        """

        def admitting(adapter: str | None, tokens: int) -> None:
            if adapter is None:
                return
            account = self._budget.account(identity.place)
            account.admit([f"{adapter}/"], tokens)  # no module has an empty name: this is the model itself
            self._count.inc(tokens)
            self._notice(account)

        return admitting

    def _notice(self, account: Account) -> None:
        used = account.usage({})
        if used.limit is not None and used.notable and account.who not in self._warned:
            self._warned.add(account.who)
            self._warn(used.queries, used.limit)
