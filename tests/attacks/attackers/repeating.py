"""Equal queries twice: what is the same in both answers, beyond Δ, was not drowned.

What nobody is meant to read holds weights: other rows of them in other coefficients, and what their rounding made of
x in the slots of feature rows that Δ does not have.
"""

from __future__ import annotations

import numpy as np
from attackers.chances import correlation
from attackers.service import Array, Service, Transcript

from helora_core.packing.interleaved import InterleavedLayout


def unread(service: Service, passed: Transcript) -> Array:
    """What one result holds where nobody is meant to read: other coefficients, or real parts of other slots."""
    (result,) = passed.results
    if not isinstance(service.plan.layout, InterleavedLayout):
        others = np.delete(np.arange(service.plan.params.ring_degree), service.kept(0))
        return service.coefficients(result)[others]
    return service.slots(result).real[list(unread_slots(service))]


def unread_slots(service: Service) -> range:
    """Slots of feature rows that Δ does not have."""
    return range(service.plan.shape.d_out * service.plan.tokens_per_run, service.plan.params.slots)


def full(service: Service, seed: int = 2) -> Array:
    """An x for as many tokens as a run takes."""
    return np.random.default_rng(seed).normal(size=(service.plan.tokens_per_run, service.plan.shape.d_in))


def unread_places_agree(service: Service) -> float:
    """Correlation of unread places in two runs with equal x, each encrypted afresh."""
    x = full(service)
    return correlation(*(unread(service, service.ask(x)) for _ in range(2)))


def imaginary_parts_agree(service: Service) -> float:
    """Correlation of imaginary parts, in two runs on the same ciphertext."""
    x = full(service)
    first = service.ask(x)
    second = service.ask(x, again=first)
    return correlation(*(service.slots(each.results[0]).imag for each in (first, second)))
