"""The client: a server's offer, keys made for it, and requests.

Sans-IO: bytes in, bytes out. It sees nothing of the server but its offer and its answers.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from helora_core.adapter.lora import LoRAModule
from helora_core.backend.checked_backend import CheckedBackend, checked
from helora_core.backend.key_export import MOST_BYTES, restore_client
from helora_core.backend.limits import OVERHEAD_BYTES
from helora_core.backend.origin import origin_of
from helora_core.backend.protocol import Backend
from helora_core.backend.session import ClientSession, open_sessions
from helora_core.compiler.compiled import require_one_input
from helora_core.compiler.key_sets import key_sets
from helora_core.compiler.plan import Plan
from helora_core.compiler.recipe import LoadPacking
from helora_core.errors import CorruptPayload, InvalidInput, PoolEmpty
from helora_core.packing.protocol import Vector
from helora_core.params.ckks import CKKSParams
from helora_core.params.security import DEFAULT_SECURITY_BITS, DEFAULT_TABLE
from helora_core.parties.batching import check_activations
from helora_core.parties.channel import Channel
from helora_core.parties.key_bundle import bundle, read_bundle
from helora_core.parties.names import Names
from helora_core.parties.offer import offered_by_name, offered_plans, read_offer
from helora_core.parties.pool import PoolLevel
from helora_core.parties.preparation import Preparation
from helora_core.parties.prepared import MaskedRequest, Route, tokens_within
from helora_core.parties.request import AskedModule, Request, finishing
from helora_core.parties.reserves import Reserves
from helora_core.parties.result import Link, Result
from helora_core.parties.store import SharedStore, Store, Ticket
from helora_core.parties.versions import chosen

DEFAULT_POOL_BYTES = 4 << 30


class Client:
    """Remakes the plans of an offer, compares digests, and makes keys for them when they are first needed.

    Args:
        offer: The result of ``Server.offer``.
        backend: The CKKS library, the one that the offer names; loaded by that name if None.
        adapter: The adapter's modules as they were compiled, by name, for packings whose client finishes the sum. Only
            if the key holder owns the adapter.
        security_bits: Minimum level of security.
        table: Name of the security table.
        store: Where prepared correlations outlive the process, for ``restore``; None to have them in memory
            only, where a restart loses them. The store is as secret as the keys.
        low_water: A pool with fewer correlations than this is low (``pools``).
        pool_bytes: Bytes that all pools together may hold, in memory and again in the store.

    Attributes:
        low_water: The same.

    Raises:
        CorruptPayload: The offer is damaged, or contradicts itself.
        VersionMismatch, ForeignCiphertext: Another version of helora, of a packing or of the library made it.
        InsecureParameters: The security table refuses the offer's parameters.
        LeakageRefused: A packing needs the adapter at the client, and it was not given.
        BackendUnavailable, PackingUnavailable: The offer names a backend or a packing that is not installed.
    """

    def __init__(
        self,
        offer: bytes,
        *,
        backend: Backend | CheckedBackend | None = None,
        adapter: Mapping[str, LoRAModule] | None = None,
        security_bits: int = DEFAULT_SECURITY_BITS,
        table: str = DEFAULT_TABLE,
        load_packing: LoadPacking | None = None,
        store: Store | None = None,
        low_water: int = 0,
        pool_bytes: int = DEFAULT_POOL_BYTES,
    ) -> None:
        from helora_core.host.manager import get_manager

        read = read_offer(offer)
        self._backend = checked(backend or get_manager().load_backend(read.backend))
        origin_of(self._backend.library).require(read.origin, "Offer:")
        plans = offered_plans(
            read, load_packing or get_manager().load_packing, security_bits=security_bits, table=table
        )
        self._security_bits = security_bits
        self.low_water, self._pool_bytes = low_water, pool_bytes
        self._store = None if store is None else SharedStore(store)  # pools of several parameters, and their refills
        self._message_bytes = read.message_bytes
        self._key_sets = key_sets(list(plans.values()))
        self._routes: dict[tuple[str, ...], Route] = {}
        offered = offered_by_name(read)
        self._names = Names({name: versions[0].parts for name, versions in offered.items()})
        self._asked = {
            name: tuple(
                AskedModule(
                    each.name,
                    each.parts,
                    plans[each.plan].with_exponent(each.exponent),
                    finishing(plans[each.plan], each.name, adapter),
                )
                for each in versions
            )
            for name, versions in offered.items()
        }

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise InvalidInput(
            "Client: it holds a secret key, so it can be neither pickled nor copied.",
            hint="Make another client from the offer in the other process: it will have its own keys.",
        )

    @property
    def modules(self) -> tuple[str, ...]:
        """Names that can be asked for: every part of every module."""
        return self._names.parts

    @property
    def plans(self) -> dict[str, Plan]:
        """The plan of each module, by the module's name; the first if there are several, for the fewest tokens."""
        return {name: versions[0].plan for name, versions in self._asked.items()}

    def plans_of(self, module: str) -> tuple[Plan, ...]:
        """The plans of a module, by its name or an ending: one for each number of tokens that it was compiled for."""
        return tuple(each.plan for each in self._asked[self._names.module(module)])

    def evaluation_keys(self) -> bytes:
        """The bytes that open a session, for ``Server.open``. They contain no secret."""
        return bundle([self._keys[each.params].evaluation_keys() for each in self._key_sets])

    def export_keys(self, passphrase: str) -> bytes:
        """The client's keys, encrypted. ``Client.restore`` makes the client from them again after a restart.

        Raises:
            InvalidInput: The passphrase is empty.
            CapabilityMissing: The backend cannot export keys, or the package ``cryptography`` is not installed.
        """
        return bundle([self._keys[each.params].export_keys(passphrase) for each in self._key_sets])

    @classmethod
    def restore(cls, offer: bytes, exported: bytes, passphrase: str, **options: Any) -> Client:
        """A client with exported keys. The server can go on with the evaluation keys that it has.

        Args:
            offer: The server's offer.
            exported: The result of ``export_keys``.
            passphrase: The passphrase that ``export_keys`` was given.
            options: As ``Client`` takes them.

        Raises:
            CorruptPayload, VersionMismatch, InvalidInput: As ``restore_client`` raises them; or the keys are for other
                parameters than the offer's.
        """
        client = cls(offer, **options)
        kept = read_bundle(exported, [MOST_BYTES] * len(client._key_sets), "Client.export_keys")
        keys: dict[CKKSParams, ClientSession | Channel] = {}
        for each, sealed in zip(client._key_sets, kept, strict=True):
            if each.params.wrap_bits:
                keys[each.params] = Channel.of(client._backend, each.params, sealed)
                continue
            session = restore_client(client._backend, sealed, passphrase, security_bits=client._security_bits)
            if session.params != client._backend.resolve(each.params):
                raise CorruptPayload(
                    "Client.restore: the keys are for other parameters than the offer's.",
                    hint="Restore them with the offer that they were made for.",
                )
            keys[each.params] = session
        client.__dict__["_keys"] = keys
        return client

    def prepare(
        self,
        modules: str | Sequence[str],
        correlations: int,
        *,
        on_correlations: Callable[[float], object] = lambda correlations: None,
    ) -> Preparation:
        """Make correlations ahead of time, one for each token of later requests. When done, they are in the pool.

        Args:
            modules: Modules of one input, with plans that have an offline phase. The batch serves any or all of them.
            correlations: How many; ``plan.tokens_per_run`` of them cost no more than one.
            on_correlations: Called with the number that is ready after each message, for progress bars; a batch that
                is half done counts half.

        Raises:
            InvalidInput: A module does not exist, or has no offline phase; or the modules take different inputs.
        """
        alive = [each for each in self._named(modules, "prepare", correlations) if not each.plan.is_zero]
        return self._reserves.prepare(alive, correlations, on_correlations)

    @property
    def pools(self) -> dict[tuple[str, ...], PoolLevel]:
        """How full each pool is, by the modules that it was prepared for."""
        return self._reserves.levels()

    def left(self, modules: str | Sequence[str]) -> int:
        """Correlations that are left in the pool for these modules, and no others."""
        level = self._reserves.levels().get(tuple(self._names.modules(modules)))
        return level.left if level else 0

    def discard(self, modules: str | Sequence[str]) -> None:
        """Delete all correlations of any of these modules, for when the server no longer has its part of them."""
        self._reserves.discard(self._names.modules(modules))

    def begin(
        self, modules: str | Sequence[str], x: NDArray[Any], *, otherwise: str | Sequence[str] | None = None
    ) -> Request:
        """A request for Δ of x. If the plan has an offline phase, it takes a correlation for each token.

        If a module has plans for several numbers of tokens, the cheapest for these tokens is taken: executions
        times their cost, or else the fewest executions. Several modules get plans that take the same ciphertexts.

        Args:
            modules: A module by its name or an ending of it, or several that take one input. Parts that were compiled
                together run together.
            x: Activations, any real dtype, shape (tokens, d_in), finite.
            otherwise: Modules to ask for instead if the pool has too few: the same weights with another plan.

        Raises:
            InvalidInput: A module does not exist, or x is not such an array; or the modules take different inputs.
            PoolEmpty: The pool has too few correlations, and ``otherwise`` was not given.
            NotDurable: Another client has opened this one's store since.
        """
        names = (modules,) if isinstance(modules, str) else tuple(modules)
        route = self._routes.get(names) or self._route(names, np.shape(x)[0] if np.ndim(x) else 1)
        if not isinstance(route, Route):
            wanted, parts = route
            checked = check_activations(np.asarray(x), wanted[0].plan.shape, who=wanted[0].name)
            return Request(wanted, self._keys[wanted[0].plan.params], checked, wanted=parts)
        given = route.tokens(x)
        try:
            taken = route.pools.take(route.digests, len(given.x))
        except PoolEmpty:
            if otherwise is None:
                raise
            return self.begin(otherwise, x)
        return MaskedRequest(route, given, taken=taken, ticket=Ticket(self._store))

    def _route(self, names: tuple[str, ...], tokens: int) -> Route | tuple[list[AskedModule], list[str]]:
        """The modules that names mean, and their parts: as a route, if the plans run ahead of time. That is kept, if
        there is no choice of plans for other numbers of tokens.
        """
        wanted = self._named(names, "begin", tokens)
        alive = [each for each in wanted if not each.plan.is_zero] or wanted[:1]
        require_one_input({each.name: each.plan for each in alive})
        parts = list(dict.fromkeys(part for name in names for part in self._names.parts_of(name)))
        if alive[0].plan.correlation is None:
            return wanted, parts
        route = self._reserves.route(wanted, parts, alive[0].plan)
        if all(len(self._asked[each.name]) == 1 for each in wanted):
            self._routes[names] = route
        return route

    def _named(self, modules: str | Sequence[str], who: str, tokens: int) -> list[AskedModule]:
        """The compiled modules that names mean, each once, by the plans for so many tokens."""
        found = self._names.modules(modules)
        if not found:
            raise InvalidInput(f"Client.{who}: no module was named.", hint="Name one of client.modules.")
        return chosen([self._asked[name] for name in found], tokens)

    @cached_property
    def _reserves(self) -> Reserves:
        """The pools; read from the store when they are first needed."""
        plans = [each.plan for versions in self._asked.values() for each in versions]
        channels = {params: keys for params, keys in self._keys.items() if isinstance(keys, Channel)}
        limits = {"low_water": self.low_water, "most_bytes": self._pool_bytes}
        return Reserves(self._backend, plans, channels, self._store, **limits)

    def delta(self, modules: str | Sequence[str], x: NDArray[Any], link: Link) -> Vector:
        """Δ of x, through a link to the server: float64, shape (tokens, d_out); several parts side by side.

        Arguments and errors are those of ``begin``; many tokens are split into several requests, as in ``run``.

        Args:
            modules: Of one input.
            x: Activations.
            link: A ``Session``, or what carries messages to one.
        """
        return self.run(modules, x, link).delta

    def run(
        self,
        modules: str | Sequence[str],
        x: NDArray[Any],
        link: Link,
        *,
        tokens: int | None = None,
        on_tokens: Callable[[int], object] = lambda tokens: None,
    ) -> Result:
        """Δ of x with its error bounds and the report.

        Args:
            modules: Of one input.
            x: Activations.
            link: A ``Session``, or what carries messages to one.
            tokens: Tokens per request; if None, as many as surely fit the largest message that the server reads.
            on_tokens: Called with the tokens that are finished after each request, for progress bars.
        """
        x = np.asarray(x)
        size = tokens or self._most_tokens(modules)
        batches = [x[start : start + size] for start in range(0, len(x), size)] if x.ndim else []
        results = []
        for batch in batches or [x]:
            request = self.begin(modules, batch)
            while not request.done:
                request.receive(link.answer(request.message()))
            results.append(Result(request.deltas, request.error_bounds, request.report, request.wanted))
            on_tokens(batch.shape[0])
        return functools.reduce(Result.followed_by, results)

    def _most_tokens(self, modules: str | Sequence[str]) -> int:
        return min(map(self._tokens_of, self.plans_of(modules if isinstance(modules, str) else modules[0])))

    def _tokens_of(self, plan: Plan) -> int:
        if plan.correlation:
            return tokens_within(plan, self._message_bytes, OVERHEAD_BYTES)
        of_run = 2 * max(plan.bytes_up, plan.bytes_down) + OVERHEAD_BYTES
        return max(1, self._message_bytes // of_run) * plan.tokens_per_run

    @cached_property
    def _keys(self) -> dict[CKKSParams, ClientSession | Channel]:
        """The keys: made once, for exactly the rotations of the plans."""
        made: dict[CKKSParams, ClientSession | Channel] = {}
        plans = [each.plan for versions in self._asked.values() for each in versions]
        for each in self._key_sets:
            verdicts = [plan.verdict for plan in plans if plan.params == each.params]
            asked = max(self._security_bits, *(verdict.asked_bits for verdict in verdicts))
            table = verdicts[0].table
            if each.params.wrap_bits:
                made[each.params] = Channel.new(self._backend, each.params, security_bits=asked, table=table)
                continue
            made[each.params], _ = open_sessions(
                self._backend,
                each.params,
                each.rotation_steps,
                security_bits=asked,
                table=table,
                public_key=each.public_key,
            )
        return made
