"""``GET /v1/offer``: what is served, and within which limits. All of it is public.

``delta`` is the offer of ``helora_core``, from which a client makes the plans itself. Everything beside it repeats, in
plain fields, what those plans need and reveal, for programs that are not made of ``helora_core`` and for people.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import msgspec

from helora_core import __version__
from helora_core.backend.limits import OVERHEAD_BYTES, MessageLimits
from helora_core.compiler.compiled import CompiledModule
from helora_core.compiler.plan import Plan
from helora_core.parties.served import Served
from helora_core.parties.server import Server
from helora_serve.frames import PATH, SUBPROTOCOL
from helora_serve.limits import Limits
from helora_serve.mode import CLIENT_KEY, SEES

FORMAT = "helora-serve-offer"
SCHEMA = 1
DEFAULT = "default"
"""The name of an adapter that is served without one."""


class Base(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The base model that an adapter is for, as its owner states it.

    Attributes:
        id: Its name, such as ``HuggingFaceTB/SmolLM2-135M-Instruct``.
        sha256: Digest of its weights' file.
    """

    id: str
    sha256: str | msgspec.UnsetType = msgspec.UNSET


class OfferedModule(msgspec.Struct, frozen=True, kw_only=True):
    """A module of an adapter.

    Attributes:
        name: What is asked for.
        parts: The model's modules that it consists of: they read one input.
        d_in, d_out, rank: Its shape.
        plans: Digests of its plans.
    """

    name: str
    parts: tuple[str, ...]
    d_in: int
    d_out: int
    rank: int
    plans: tuple[str, ...]


class OfferedAdapter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An adapter. ``signature``, ``privacy`` and ``proof`` are reserved: absent until there is something to state.

    Attributes:
        name: Its name.
        modules: Its modules.
        base: The base model, if the owner states it.
        queries_to_copy: The fewest queries that give one of its modules away to 8 bits.
    """

    name: str
    modules: tuple[OfferedModule, ...]
    queries_to_copy: int
    base: Base | msgspec.UnsetType = msgspec.UNSET
    signature: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    privacy: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    proof: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class OfferedPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a plan needs, costs and reveals.

    Attributes:
        digest, packing: Which it is.
        ring_degree, data_bits, special_bits: Its parameters.
        rotation_steps: Rotations that it needs keys for.
        tokens_per_run, bytes_up, bytes_down: Of one execution, online.
        leakage: What the key holder learns, and ``assumes`` what that rests on.
        sanitize_bits, security_bits: Statistical and computational security.
        ahead: Whether it runs ahead of time.
    """

    digest: str
    packing: str
    ring_degree: int
    data_bits: tuple[int, ...]
    special_bits: tuple[int, ...]
    rotation_steps: tuple[int, ...]
    tokens_per_run: int
    bytes_up: int
    bytes_down: int
    leakage: str
    assumes: tuple[str, ...]
    sanitize_bits: int
    security_bits: int
    ahead: bool


class OfferedLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits that concern a client; ``Limits`` says what they mean."""

    key_bytes: int
    message_bytes: int
    tokens: int
    credits: int
    credit_bytes: int
    window_bytes: int
    ttl_s: float
    queries: int | None


class OfferDocument(msgspec.Struct, frozen=True, kw_only=True):
    """The offer.

    Attributes:
        format, schema: ``helora-serve-offer`` and its version.
        helora: The server's version, for information only.
        mode, sees: What the server sees.
        version: Names these artifacts; a session is opened for one version.
        subprotocol, path: Of the WebSocket.
        adapters, plans, limits: What is served.
        delta: The offer of ``helora_core``.
    """

    format: str
    schema: int
    helora: str
    mode: str
    sees: tuple[str, ...]
    version: str
    subprotocol: str
    path: str
    adapters: tuple[OfferedAdapter, ...]
    plans: tuple[OfferedPlan, ...]
    limits: OfferedLimits
    delta: msgspec.Raw


def document_of(server: Server, delta: bytes, version: str, limits: Limits, bases: Mapping[str, Base]) -> OfferDocument:
    """The offer of a server.

    Args:
        server: The server.
        delta: Its own offer.
        version: Names its artifacts.
        limits: The limits.
        bases: The base models of adapters, by the adapters' names; ``""`` for all others.
    """
    modules = server.served.modules
    plans = {each.plan.digest: each.plan for many in modules.values() for each in many}
    return OfferDocument(
        format=FORMAT,
        schema=SCHEMA,
        helora=__version__,
        mode=CLIENT_KEY,
        sees=SEES,
        version=version,
        subprotocol=SUBPROTOCOL,
        path=PATH,
        adapters=_adapters(modules, bases),
        plans=tuple(map(_facts, plans.values())),
        limits=OfferedLimits(
            key_bytes=key_bytes(server.served),
            message_bytes=limits.message_bytes,
            tokens=limits.tokens,
            credits=limits.credits,
            credit_bytes=limits.credit_bytes,
            window_bytes=limits.window_bytes,
            ttl_s=limits.ttl_s,
            queries=limits.queries,
        ),
        delta=msgspec.Raw(delta),
    )


def key_bytes(served: Served) -> int:
    """Most bytes that the evaluation keys for a server's plans have."""
    sets = served.key_sets
    each = (MessageLimits.of(one.params, rotations=len(one.rotation_steps)).key_bytes for one in sets)
    return sum(each) + len(sets) * OVERHEAD_BYTES


def version_of(delta: bytes, stamps: Sequence[bytes]) -> str:
    """The name of a version: a digest of its offer and of what tells its weights from others."""
    digest = hashlib.sha256(hashlib.sha256(delta).digest())
    for stamp in stamps:
        digest.update(hashlib.sha256(stamp).digest())
    return digest.hexdigest()


def adapter_of(module: str) -> str:
    """The name of the adapter that a served module belongs to."""
    return module.rpartition("/")[0] or DEFAULT


def _adapters(modules: Mapping[str, Sequence[CompiledModule]], bases: Mapping[str, Base]) -> tuple[OfferedAdapter, ...]:
    found: dict[str, list[OfferedModule]] = {}
    copies: dict[str, int] = {}
    for name, versions in modules.items():
        shape, adapter = versions[0].plan.shape, adapter_of(name)
        found.setdefault(adapter, []).append(
            OfferedModule(
                name=name,
                parts=tuple(part.name for part in versions[0].parts),
                d_in=shape.d_in,
                d_out=shape.d_out,
                rank=shape.rank,
                plans=tuple(each.plan.digest for each in versions),
            )
        )
        alive = [each.plan for each in versions if not each.plan.is_zero]
        fewest = min((queries_to_copy(plan) for plan in alive), default=shape.d_in)
        copies[adapter] = min(copies.get(adapter, fewest), fewest)
    return tuple(
        OfferedAdapter(
            name=name,
            modules=tuple(each),
            queries_to_copy=copies[name],
            base=bases.get(name, bases.get("", msgspec.UNSET)),
        )
        for name, each in found.items()
    )


def queries_to_copy(plan: Plan) -> int:
    """The fewest queries that give a module away: an adapter whose numbers are known to 8 bits does much the same."""
    return plan.queries_to_copy(8)


def _facts(plan: Plan) -> OfferedPlan:
    return OfferedPlan(
        digest=plan.digest,
        packing=plan.packing.name,
        ring_degree=plan.params.ring_degree,
        data_bits=tuple(plan.params.data_bits),
        special_bits=tuple(plan.params.special_bits),
        rotation_steps=tuple(sorted(plan.rotation_steps)),
        tokens_per_run=plan.tokens_per_run,
        bytes_up=plan.bytes_up,
        bytes_down=plan.bytes_down,
        leakage=plan.leakage_label,
        assumes=tuple(each.option for each in plan.packing.leakage.assumes),
        sanitize_bits=plan.sanitize_bits or 0,
        security_bits=plan.verdict.asked_bits,
        ahead=plan.correlation is not None,
    )
