"""The client: a server's offer, keys made for it, and requests.

Sans-IO: bytes in, bytes out. It never meets a server's object: only its offer and its answers.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, NoReturn, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from helora_core.adapter.lora import LoRAModule
from helora_core.adapter.names import close_names, matches
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
from helora_core.errors import CorruptPayload, InvalidInput, LeakageRefused
from helora_core.packing.protocol import Vector
from helora_core.params.ckks import CKKSParams
from helora_core.params.security import DEFAULT_SECURITY_BITS, DEFAULT_TABLE
from helora_core.parties.batching import check_activations
from helora_core.parties.key_bundle import bundle, read_bundle
from helora_core.parties.offer import OfferedModule, offered_by_name, offered_plans, read_offer
from helora_core.parties.request import AskedModule, Report, Request
from helora_core.parties.versions import chosen


class Link(Protocol):
    """Carries a message to a server's session and brings its answer; a ``Session`` is one itself."""

    def answer(self, message: bytes) -> bytes:
        """The answer to a message."""
        ...


class Result(msgspec.Struct, frozen=True):
    """What requests gave.

    Attributes:
        deltas: Δ of every part, by its name: float64, shape (tokens, its d_out).
        error_bounds: For each module what no value of a token's Δ is off by more, but with a probability of 2^-40:
            float64, shape (tokens,).
        report: What they took.
        wanted: The parts that were named.
    """

    deltas: dict[str, Vector]
    error_bounds: dict[str, Vector]
    report: Report
    wanted: tuple[str, ...]

    @property
    def delta(self) -> Vector:
        """Δ of what was named: float64, shape (tokens, d_out); of several parts beside each other."""
        return np.concatenate([self.deltas[name] for name in self.wanted], axis=1)

    def followed_by(self, later: Result) -> Result:
        """The tokens of both, one after the other."""
        return Result(
            {name: np.concatenate([each, later.deltas[name]]) for name, each in self.deltas.items()},
            {name: np.concatenate([each, later.error_bounds[name]]) for name, each in self.error_bounds.items()},
            self.report.plus(later.report),
            self.wanted,
        )


class Client:
    """Makes the plans of an offer again, compares digests, and makes keys for them when they are first needed.

    Args:
        offer: What ``Server.offer`` gave.
        backend: The CKKS library, the one that the offer names; loaded by that name if None.
        adapter: The adapter's modules as they were compiled, by name, for packings whose client finishes the sum: only
            where the key holder owns the adapter.
        security_bits: Level of security to insist on.
        table: The security table to go by.

    Raises:
        CorruptPayload: The offer is damaged, or contradicts itself.
        VersionMismatch, ForeignCiphertext: Another version of helora, of a packing or of the library made it.
        InsecureParameters: The table refuses its parameters.
        LeakageRefused: A packing needs the adapter here, and it is not given.
        BackendUnavailable, PackingUnavailable: What it names is not installed.
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
    ) -> None:
        from helora_core.host.manager import get_manager

        read = read_offer(offer)
        self._backend = checked(backend or get_manager().load_backend(read.backend))
        origin_of(self._backend.library).require(read.origin, "Offer:")
        plans = offered_plans(
            read, load_packing or get_manager().load_packing, security_bits=security_bits, table=table
        )
        self._security_bits = security_bits
        self._message_bytes = read.message_bytes
        self._key_sets = key_sets(list(plans.values()))
        offered = offered_by_name(read)
        self._modules = {name: versions[0] for name, versions in offered.items()}
        self._asked = {
            name: tuple(
                AskedModule(
                    each.name,
                    each.parts,
                    plans[each.plan].with_exponent(each.exponent),
                    _finishing(plans[each.plan], each, adapter),
                )
                for each in versions
            )
            for name, versions in offered.items()
        }

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise InvalidInput(
            "Client: it holds a secret key, and is neither pickled nor copied.",
            hint="Make a client of the offer in the other process: it has keys of its own.",
        )

    @property
    def modules(self) -> tuple[str, ...]:
        """Names of what can be asked for: every part of every module."""
        return tuple(part.name for each in self._modules.values() for part in each.parts)

    @property
    def plans(self) -> dict[str, Plan]:
        """The plan of each module, by the module's name; of several the first, which is for the fewest tokens."""
        return {name: versions[0].plan for name, versions in self._asked.items()}

    def plans_of(self, module: str) -> tuple[Plan, ...]:
        """The plans of a module, by its name or an ending: one for each number of tokens that it was compiled for."""
        return tuple(each.plan for each in self._asked[self._resolve(module)])

    def evaluation_keys(self) -> bytes:
        """The bytes that open a session: ``Server.open`` reads them. No secret is in them."""
        return bundle([self._sessions[each.params].evaluation_keys() for each in self._key_sets])

    def export_keys(self, passphrase: str) -> bytes:
        """The client's keys, encrypted: ``Client.restore`` makes it again after a restart.

        Raises:
            InvalidInput: The passphrase is empty.
            CapabilityMissing: The backend cannot export keys, or the package ``cryptography`` is not installed.
        """
        return bundle([self._sessions[each.params].export_keys(passphrase) for each in self._key_sets])

    @classmethod
    def restore(cls, offer: bytes, exported: bytes, passphrase: str, **options: Any) -> Client:
        """A client with the keys that one exported: the server goes on with the evaluation keys that it has.

        Args:
            offer: The server's offer.
            exported: What ``export_keys`` gave.
            passphrase: The one that it was given.
            options: As ``Client`` takes them.

        Raises:
            CorruptPayload, VersionMismatch, InvalidInput: As ``restore_client`` does; or the keys are for other
                parameters than the offer's.
        """
        client = cls(offer, **options)
        kept = read_bundle(exported, [MOST_BYTES] * len(client._key_sets), "Client.export_keys")
        sessions = {}
        for each, sealed in zip(client._key_sets, kept, strict=True):
            session = restore_client(client._backend, sealed, passphrase, security_bits=client._security_bits)
            if session.params != client._backend.resolve(each.params):
                raise CorruptPayload(
                    "Client.restore: the keys are for other parameters than the offer's.",
                    hint="Restore them with the offer that they were made for.",
                )
            sessions[each.params] = session
        client.__dict__["_sessions"] = sessions
        return client

    def begin(self, modules: str | Sequence[str], x: NDArray[Any]) -> Request:
        """A request for Δ of x.

        Of a module with plans for several numbers of tokens, the one is taken by which these cost least: executions
        times their cost, or else the fewest executions; of several modules, those that take the same ciphertexts.

        Args:
            modules: A module by its name or an ending of it, or several that take one input. What was compiled
                together runs together.
            x: Activations, any real dtype, shape (tokens, d_in), finite.

        Raises:
            InvalidInput: There is no such module, or x is not such an array; or the modules take different inputs.
        """
        names = [modules] if isinstance(modules, str) else list(modules)
        asked = list(dict.fromkeys(self._resolve(name) for name in names))
        if not asked:
            raise InvalidInput("Client.begin: no module was named.", hint="Name one of client.modules.")
        wanted = chosen([self._asked[name] for name in asked], np.shape(x)[0] if np.ndim(x) else 1)
        alive = [each for each in wanted if not each.plan.is_zero] or wanted[:1]
        require_one_input({each.name: each.plan for each in alive})
        first = alive[0]
        checked = check_activations(np.asarray(x), first.plan.shape, who=first.name)
        parts = [part for name in names for part in self._parts(name)]
        return Request(wanted, self._sessions[first.plan.params], checked, wanted=list(dict.fromkeys(parts)))

    def delta(self, modules: str | Sequence[str], x: NDArray[Any], link: Link) -> Vector:
        """Δ of x, by way of a link to the server: float64, shape (tokens, d_out); of several parts beside each other.

        Arguments and errors are those of ``begin``; many tokens go in several requests, as ``run`` has it.

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
        """Δ of x with all that is to be said of it.

        Args:
            modules: Of one input.
            x: Activations.
            link: A ``Session``, or what carries messages to one.
            tokens: Tokens a request; if None, as many as surely fit the largest message that the server reads.
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
        plans = self.plans_of(modules if isinstance(modules, str) else modules[0])
        of_run = [2 * max(plan.bytes_up, plan.bytes_down) + OVERHEAD_BYTES for plan in plans]
        fitting = [max(1, self._message_bytes // most) for most in of_run]
        return min(runs * plan.tokens_per_run for runs, plan in zip(fitting, plans, strict=True))

    def _parts(self, name: str) -> list[str]:
        """The parts that a name means: one, or all of a module that is named itself."""
        module = self._modules[self._resolve(name)]
        parts = [part.name for part in module.parts]
        if name == module.name:
            return parts
        return [part for part in parts if part == name] or [part for part in parts if matches(part, name)] or parts

    def _resolve(self, name: str) -> str:
        """The compiled module that a name means: its own, that of a part, or an ending that only one has."""
        own = {each.name: {each.name, *(part.name for part in each.parts)} for each in self._modules.values()}
        exact = [compiled for compiled, names in own.items() if name in names]
        found = exact or [compiled for compiled, names in own.items() if any(matches(each, name) for each in names)]
        if len(found) == 1:
            return found[0]
        if found:
            raise InvalidInput(
                f"Client: {name!r} means {len(found)} modules, {found[0]} and {found[1]} among them.",
                hint="Give more of the name.",
            )
        close = ", ".join(close_names(name, self.modules))
        raise InvalidInput(
            f"Client: no module matches {name!r}.",
            hint=f"Did you mean {close}?" if close else f"Use a name or its ending, as {self.modules[0]}.",
        )

    @cached_property
    def _sessions(self) -> dict[CKKSParams, ClientSession]:
        """The keys: made once, for exactly the rotations of the plans."""
        made = {}
        plans = [each.plan for versions in self._asked.values() for each in versions]
        for each in self._key_sets:
            verdicts = [plan.verdict for plan in plans if plan.params == each.params]
            made[each.params], _ = open_sessions(
                self._backend,
                each.params,
                each.rotation_steps,
                security_bits=max(self._security_bits, *(verdict.asked_bits for verdict in verdicts)),
                table=verdicts[0].table,
                public_key=each.public_key,
            )
        return made


def _finishing(plan: Plan, module: OfferedModule, adapter: Mapping[str, LoRAModule] | None) -> LoRAModule | None:
    if not plan.packing.client_finishes:
        return None
    if adapter is None or module.name not in adapter:
        raise LeakageRefused(
            f"Client: packing {plan.packing.name} needs module {module.name} in the clear at the client.",
            hint="Only who owns the adapter can use it: give the client the adapter, or compile another packing.",
        )
    return adapter[module.name]
