"""Networks to measure over, what the planner chooses for them, and what a plan is predicted to take: without torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import click
import msgspec

from helora_core.adapter.lora import ModuleShape
from helora_core.cli.numbers import Real
from helora_core.compiler.plan import Plan
from helora_core.compiler.request import Constraints, PlanRequest
from helora_core.errors import HeloraError, ProfileMissing
from helora_core.host.manager import get_manager
from helora_core.planning.calibrate import calibrate
from helora_core.planning.planner import CalibratedBackend, choose, rank
from helora_core.planning.predict import predict
from helora_core.planning.profile import Profile
from helora_core.planning.profile_files import load_profile
from helora_harness.lm.shapes import ASSUMED

_ROUNDS = 5


class Network(NamedTuple):
    """A network.

    Attributes:
        rtt_ms: Round trip.
        mbit: Megabits a second each way; None for no limit.
    """

    rtt_ms: float
    mbit: float | None

    @property
    def bits_per_second(self) -> float | None:
        """The rate each way."""
        return None if self.mbit is None else 1e6 * self.mbit

    def __str__(self) -> str:
        rate = "no limit" if self.mbit is None else f"{self.mbit:g} Mbit/s"
        return f"{self.rtt_ms:g} ms, {rate}"


NETWORKS = (Network(0, None), Network(2, 1000), Network(20, 1000), Network(2, 100), Network(20, 100))
"""One machine; a data centre; a region, at two rates."""


class NetworkType(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic only in newer versions
    """``RTT:MBIT``, such as ``20:100``; the rate may be left out."""

    name = "RTT:MBIT"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Network:
        """Read it."""
        if isinstance(value, Network):
            return value
        rtt, _, mbit = str(value).partition(":")
        positive: click.ParamType = Real(min=0.001, max=1e6)  # type: ignore[type-arg,unused-ignore]
        latency: click.ParamType = Real(min=0, max=1e5)  # type: ignore[type-arg,unused-ignore]
        return Network(
            float(latency.convert(rtt, param, ctx)), float(positive.convert(mbit, param, ctx)) if mbit else None
        )


def profile_of(backend: str) -> Profile | None:
    """The profile of ``helora calibrate``, or one made now; None if the backend cannot be calibrated."""
    library = get_manager().load_backend(backend)
    try:
        return load_profile(backend) or calibrate(library, rounds=_ROUNDS)
    except HeloraError:
        return None


def choices(backend: str, profile: Profile | None, shape: ModuleShape, network: Network, ahead: int) -> dict[str, str]:
    """The planner's packing for one token of a module: ``online``, and ``ahead`` where so many tokens may be prepared.

    It knows the round trip, not the rate.
    """
    manager = get_manager()
    machines = {backend: CalibratedBackend(manager.load_backend(backend), profile)}
    packings = [manager.load_packing(name) for name in manager.packings()]
    wanted = {
        "online": Constraints(rtt_ms=network.rtt_ms),
        "ahead": msgspec.structs.replace(ASSUMED, ahead=ahead, rtt_ms=network.rtt_ms),
    }
    return {
        name: choose(rank(PlanRequest(shape=shape, tokens=(1,), constraints=each), machines, packings)).packing
        for name, each in wanted.items()
    }


def predicted_ms(
    plans: Sequence[Plan], profile: Profile | None, network: Network, *, round_trips: float, traffic: float
) -> float | None:
    """Milliseconds of one token online through plans that follow each other; None without figures for them.

    Args:
        plans: Of a token.
        profile: Of the backend.
        network: The network.
        round_trips: Of a token.
        traffic: Bytes of a token, both ways, which take their time at the network's rate one after the other.
    """
    if profile is None:
        return None
    try:
        computed = sum(predict(plan, profile, tokens=1).online_ms for plan in plans)
    except ProfileMissing:
        return None
    sent = 0.0 if network.bits_per_second is None else 8e3 * traffic / network.bits_per_second
    return computed + round_trips * network.rtt_ms + sent
