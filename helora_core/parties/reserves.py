"""A client's pools of all parameter sets, and its names at the server for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from helora_core.backend.checked_backend import CheckedBackend
from helora_core.compiler.compiled import require_one_input
from helora_core.compiler.plan import Plan
from helora_core.errors import InvalidInput, LimitExceeded
from helora_core.execution.modular import online_of
from helora_core.params.ckks import CKKSParams
from helora_core.parties.channel import Channel
from helora_core.parties.pool import PoolLevel, Pools
from helora_core.parties.preparation import Preparation
from helora_core.parties.prepared import Route
from helora_core.parties.request import AskedModule
from helora_core.parties.store import Store


class Reserves:
    """What a client prepared ahead of time.

    Args:
        backend: The backend; it has correlations, if there are channels.
        plans: All plans of the client; those that run ahead of time may have pools.
        channels: The client's channel for each parameter set of such plans.
        store, low_water: As for ``Pools``.
        most_bytes: Bytes that all pools together may hold.
    """

    def __init__(
        self,
        backend: CheckedBackend,
        plans: Sequence[Plan],
        channels: Mapping[CKKSParams, Channel],
        store: Store | None,
        *,
        low_water: int,
        most_bytes: int,
    ) -> None:
        self._backend, self._channels, self._most_bytes = backend, channels, most_bytes
        self._pools = {
            params: Pools(
                store,
                channel.key_id,
                {plan.digest: plan for plan in plans if plan.params == params and plan.correlation is not None},
                low_water=low_water,
            )
            for params, channel in channels.items()
        }

    def prepare(
        self, alive: Sequence[AskedModule], correlations: int, on_correlations: Callable[[float], object]
    ) -> Preparation:
        """A preparation for these modules; arguments and errors are those of ``Client.prepare``."""
        if not alive or any(each.plan.correlation is None for each in alive):
            raise InvalidInput(
                "Client.prepare: there is nothing to prepare for these modules.",
                hint="Name modules whose plan has an offline phase (client.plans[name].correlation).",
            )
        if correlations < 1:
            raise InvalidInput("Client.prepare: there is nothing to prepare.", hint="Ask for 1 or more correlations.")
        require_one_input({each.name: each.plan for each in alive})
        self._require_room(correlations * sum(online_of(each.plan).row_bytes for each in alive))
        plan = alive[0].plan
        pools = self._pools[plan.params]
        return Preparation(
            alive, self._channels[plan.params], self._backend.correlations, correlations, pools, on_correlations
        )

    def _require_room(self, more: int) -> None:
        held = sum(pools.bytes_held for pools in self._pools.values())
        if held + more > self._most_bytes:
            raise LimitExceeded(
                f"Client.prepare: {more} bytes more than the {held} that pools hold; the limit is {self._most_bytes}.",
                hint="Prepare fewer correlations, use some first, or make the client with larger pool_bytes.",
            )

    def route(self, asked: Sequence[AskedModule], wanted: Sequence[str], plan: Plan) -> Route:
        """The route to modules whose plans run ahead of time; ``plan`` is one of them."""
        return Route(asked, wanted, self._channels[plan.params], self._pools[plan.params], self._backend.correlations)

    def levels(self) -> dict[tuple[str, ...], PoolLevel]:
        """How full each pool is, by the modules that it was prepared for."""
        return {modules: level for pools in self._pools.values() for modules, level in pools.levels().items()}

    def discard(self, names: Sequence[str]) -> None:
        """Delete all correlations of any of these modules."""
        for pools in self._pools.values():
            pools.discard(names)
