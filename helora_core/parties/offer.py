"""A server's offer: everything that a client has to know, all of it public.

The client makes the same plans from it with its own packings and compiler, and compares digests. So it is sure of what
the server's plans reveal, need and cost, as far as the server keeps to them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec

from helora_core import __version__
from helora_core.backend.origin import Origin
from helora_core.compiler.compiled import CompiledModule, Part
from helora_core.compiler.plan import Plan
from helora_core.compiler.recipe import LoadPacking, Recipe, recipe_of, remade
from helora_core.errors import CorruptPayload, HeloraError, VersionMismatch
from helora_core.files import strict_json
from helora_core.files.malformed import Malformed
from helora_core.params.security import require_secure

FORMAT = "helora-offer"
SCHEMA = 2

MOST_OFFER_BYTES = 64 << 20
"""Largest offer that is read: 64 MiB."""


class OfferedModule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One module that can be asked for, with one of its plans.

    Attributes:
        name: Its name; of several on one input, that of their stack. A module is offered once for each of its plans.
        parts: The adapter's modules that it was made of; asking for one part runs all of them.
        plan: Digest of its plan.
        exponent: Δ is 2^exponent times what the program computes.
    """

    name: str
    parts: tuple[Part, ...]
    plan: str
    exponent: Annotated[int, msgspec.Meta(ge=-4096, le=4096)]


class Offer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An offer.

    Attributes:
        format, schema: ``helora-offer`` and its version.
        helora: The server's version of helora, for information only.
        backend, library: The server's backend and library; the client needs the same.
        message_bytes: Largest message that the server reads.
        plans: The plans, each once.
        modules: The modules that can be asked for, in the adapter's order.
    """

    format: str
    schema: int
    helora: str
    backend: str
    library: str
    message_bytes: Annotated[int, msgspec.Meta(ge=1)]
    plans: tuple[Recipe, ...]
    modules: tuple[OfferedModule, ...]

    @property
    def origin(self) -> Origin:
        """Backend and library."""
        return Origin(self.backend, self.library)


class _Head(msgspec.Struct):
    """The fields that every version of an offer has."""

    format: str
    schema: int


def offer_of(modules: Mapping[str, Sequence[CompiledModule]], origin: Origin, message_bytes: int) -> bytes:
    """The offer of compiled modules, as JSON."""
    plans = {compiled.plan.digest: compiled.plan for versions in modules.values() for compiled in versions}
    offer = Offer(
        format=FORMAT,
        schema=SCHEMA,
        helora=__version__,
        backend=origin.backend,
        library=origin.library,
        message_bytes=message_bytes,
        plans=tuple(map(recipe_of, plans.values())),
        modules=tuple(
            OfferedModule(
                name=name,
                parts=compiled.parts,
                plan=compiled.plan.digest,
                exponent=compiled.plan.exponent or 0,
            )
            for name, versions in modules.items()
            for compiled in versions
        ),
    )
    return msgspec.json.encode(offer)


def read_offer(data: bytes) -> Offer:
    """Read an offer.

    Raises:
        CorruptPayload: It is not an offer, or contradicts itself.
        VersionMismatch: Another version of helora made it.
    """
    try:
        head = strict_json.decode(data, _Head, most=MOST_OFFER_BYTES)
        if head.format != FORMAT:
            raise Malformed("is not the JSON expected (its format is another)")
        if head.schema != SCHEMA:
            raise VersionMismatch(
                f"Offer: of schema {head.schema}; this helora reads schema {SCHEMA}.",
                hint="Use the same version of helora on both sides.",
            )
        offer = strict_json.decode(data, Offer, most=MOST_OFFER_BYTES)
    except Malformed as error:
        raise CorruptPayload(f"Offer: it {error.reason}.", hint="Ask the server for its offer again.") from error
    of_name = offered_by_name(offer)
    names = [(module.name, module.plan) for module in offer.modules]
    parts = [part.name for first, *_ in of_name.values() for part in first.parts]
    digests = [recipe.digest for recipe in offer.plans]
    known = {recipe.digest: recipe.shape.d_out for recipe in offer.plans}
    wrong = (
        not names
        or any(len(set(each)) != len(each) for each in (names, parts, digests))
        or any(module.parts != first.parts for first, *others in of_name.values() for module in others)
        or any(module.plan not in known for module in offer.modules)
        or any(sum(part.d_out for part in module.parts) != known[module.plan] for module in offer.modules)
        or any(part.d_out < 1 for module in offer.modules for part in module.parts)
    )
    if wrong:
        raise CorruptPayload("Offer: it contradicts itself.", hint="Ask the server for its offer again.")
    return offer


def offered_by_name(offer: Offer) -> dict[str, tuple[OfferedModule, ...]]:
    """The modules of an offer by their names, each with its plans."""
    found: dict[str, tuple[OfferedModule, ...]] = {}
    for module in offer.modules:
        found[module.name] = (*found.get(module.name, ()), module)
    return found


def offered_plans(offer: Offer, load_packing: LoadPacking, *, security_bits: int, table: str) -> dict[str, Plan]:
    """The offer's plans by their digests, made here.

    Args:
        offer: The offer.
        load_packing: Gives the installed packing of a name.
        security_bits: The client's minimum level of security.
        table: Name of the client's security table.

    Raises:
        VersionMismatch: The packings or the compiler installed here make other plans.
        InsecureParameters: The table refuses the parameters.
        CorruptPayload: A plan is impossible.
    """
    plans = {}
    for recipe in offer.plans:
        require_secure(recipe.settings.params, security_bits=security_bits, table=table)
        verdict = require_secure(
            recipe.settings.params, security_bits=recipe.security_bits, table=recipe.security_table
        )
        try:
            plans[recipe.digest] = remade(recipe, load_packing, verdict)
        except VersionMismatch as error:
            raise VersionMismatch(f"Offer: {error.message}", hint=error.hint) from error
        except HeloraError as error:
            if error.code in ("packing-unavailable", "plugin-load-error"):
                raise
            raise CorruptPayload(
                f"Offer: it holds an impossible plan: {error.message}", hint="Ask the server for its offer again."
            ) from error
    return plans
