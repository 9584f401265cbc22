"""How well floods hide noise, packing by packing, for weights of every kind."""

from __future__ import annotations

import numpy as np
from attackers.modules import KINDS, module_of
from attackers.service import Service, plan_of, random_module

from helora_core.backend.protocol import Backend
from helora_core.compiler.request import USUAL_TRAITS, BackendTraits
from helora_core.errors import PrecisionLost

SHAPES = {
    "rank_bsgs": "32:24:4",
    "cpmm": "6:4:2",
    "cheetah": "256:64:12",
    "cheetah_two_round": "64:256:8",
    "halevi_shoup": "8:8:2",
    "halevi_shoup_bsgs": "16:16:2",
    "outer_product": "8:8:2",
    "zero_moai": "64:16:4",
}
"""What each packing is measured with."""

_RUNS = {"cheetah": 8, "cheetah_two_round": 3}
"""Runs to average squares over: noise that is read has as many degrees of freedom as ``down`` has rows."""


def distances(
    backend: Backend, packing: str, shape: str | None = None, traits: BackendTraits = USUAL_TRAITS
) -> tuple[dict[str, float], list[str]]:
    """log2 of the statistical distance to which floods hide the noise of x = 0, by the kind of weights.

    And the kinds whose rounding a plan refuses, so that nothing is served at all.
    """
    plan = plan_of(packing, shape or SHAPES[packing], traits=traits)
    usual = Service.of(backend, random_module(plan.shape), plan)
    found, refused = {}, []
    for kind in KINDS:
        try:
            service = usual.serving(module_of(kind, plan.shape)).bare()
        except PrecisionLost:
            refused.append(kind)
            continue
        noise = np.array([service.query(service.nothing) for _ in range(_RUNS.get(packing, 1))])
        found[kind] = service.distance_bits(list(np.sqrt(np.mean(np.square(noise), axis=0))))
    return found, refused
