"""A batch of correlations at the server while it is used: which are used, and what answers them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, NamedTuple, Protocol

import msgspec

from helora_core.backend.correlations import OnlineWeights
from helora_core.errors import CorrelationUsed, CorruptPayload
from helora_core.execution import modular
from helora_core.execution.modular import OnlineRound
from helora_core.execution.streams import SEED_BYTES, Upcoming
from helora_core.parties.marks import Mark
from helora_core.parties.messages import RequestId
from helora_core.parties.weights import ModularWeights

_MOST_TOGETHER = 16
"""Sets of modules of a batch that are remembered: clients choose them."""


class KeptBatch(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A batch as the store keeps it.

    Attributes:
        batch: The client's name for it.
        size: Correlations.
        secret: The secret of its masks; it depends on the client's upload.
        modules: Of each module its name, its plan and the SHA-256 of its weights: masks are only good for these.
    """

    batch: RequestId
    size: Annotated[int, msgspec.Meta(ge=1)]
    secret: Annotated[bytes, msgspec.Meta(min_length=SEED_BYTES, max_length=SEED_BYTES)]
    modules: tuple[tuple[str, str, bytes], ...]


class Serving(Protocol):
    """What is served, as ``Served`` says."""

    def online(self, name: str, plan: str) -> tuple[OnlineRound, ModularWeights] | None:
        """The online round of a module by a plan, and its weights; None if it is not served."""
        ...


class Bound(NamedTuple):
    """A module of a batch, as it is served now; an answer takes so many products for each token."""

    turn: OnlineRound
    weights: OnlineWeights
    masks: Upcoming
    products: int


@dataclass(eq=False)
class Batch:
    """A batch in use.

    Attributes:
        used: Of each correlation 1 if it is used, or may be, and 0 otherwise.
        left: How many are not.
        bound: Its modules, as far as they were asked for.
        together: Those that were asked for together, by their places.
    """

    kept: KeptBatch
    mark: Mark
    used: bytearray
    left: int
    bound: dict[int, Bound] = field(default_factory=dict)
    together: dict[tuple[int, ...], tuple[Bound, ...]] = field(default_factory=dict)

    def modules(self, places: tuple[int, ...], serving: Serving) -> tuple[Bound, ...]:
        """Some of its modules. Errors are those of ``module``.

        Raises:
            CorruptPayload: One is named twice: an answer would be as long as the client likes.
        """
        found = self.together.get(places)
        if found is None:
            if len(places) > len(self.kept.modules) or len(set(places)) < len(places):
                raise CorruptPayload(
                    f"Session: {len(places)} modules are named, some of them twice.", hint="Name each module once."
                )
            found = tuple([self.module(place, serving) for place in places])
            if len(self.together) < _MOST_TOGETHER:
                self.together[places] = found
        return found

    def module(self, place: int, serving: Serving) -> Bound:
        """One of its modules.

        Raises:
            CorrelationUsed: There is none, or it is not served any more, or with other weights.
        """
        if place not in self.bound:
            found = self.kept.modules[place : place + 1]
            served = serving.online(*found[0][:2]) if found else None
            if served is None or served[1].fingerprint != found[0][2]:
                raise CorrelationUsed(
                    "Session: the correlations are not for these modules as they are served now.",
                    hint="Call client.discard and prepare again.",
                )
            turn, weights = served
            name, _, fingerprint = found[0]
            masks = Upcoming(modular.masks(self.kept.secret, name, fingerprint), turn.outputs)
            products = sum(matrix.size for matrix in weights.matrices)
            self.bound[place] = Bound(turn, weights.online, masks, products)
        return self.bound[place]
