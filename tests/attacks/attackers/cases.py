"""The attacks, each against a run without what protects from it, and against one as helora does it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from attackers import dividing, keys, reading_noise, repeating, rescaling, two_rounds
from attackers.chances import chance
from attackers.modules import module_of
from attackers.service import Array, Service, plan_of, random_module

from helora_core.adapter.lora import LoRAModule
from helora_core.backend.protocol import Backend
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.exponents import normalized

NO_WEIGHT_READ = 0.01
"""Of the share of weights read exactly: by chance none is."""

GUESSES = 24
GRAM_BY_CHANCE = 0.4
"""In 20 000 tries, covariances of ten runs of normal numbers correlate with such inner products by 0.29 at most."""

FEWEST_RIGHT = 22.5 / GUESSES
"""More are guessed right by chance once in half a million tries."""


class Lab:
    """Services to attack, made when they are first needed."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    def _service(self, packing: str, shape: str) -> Service:
        plan = plan_of(packing, shape)
        return Service.of(self.backend, random_module(plan.shape), plan)

    @cached_property
    def cheetah(self) -> Service:
        """One round: results are z = down·x."""
        return self._service("cheetah", "256:64:4")

    @cached_property
    def rounds(self) -> Service:
        """Two rounds."""
        return self._service("cheetah_two_round", "256:32:4")

    @cached_property
    def slots(self) -> Service:
        """The default packing. Of 64 feature rows, Δ has 24."""
        return self._service("rank_bsgs", "64:24:4")

    @cached_property
    def columns(self) -> Service:
        """No key switches."""
        return self._service("cpmm", "4:2:2")

    @cached_property
    def levelled(self) -> Service:
        """Results that are not sanitised, and are rescaled."""
        plan = compile_plan(self.slots.plan.shape, self.slots.plan.packing, private_weights=False)
        return Service.of(self.backend, self.slots.module, plan)

    @cached_property
    def runs(self) -> list[tuple[Array, Array]]:
        """Runs of x = 0 in two rounds."""
        return two_rounds.runs_of_nothing(self.rounds)

    @cached_property
    def bare_runs(self) -> list[tuple[Array, Array]]:
        """Runs whose results are not sanitised."""
        return two_rounds.runs_of_nothing(self.rounds.bare())

    @cached_property
    def runs_through_doubles(self) -> list[tuple[Array, Array]]:
        """Sanitised runs, of a client whose library rounds what it encodes to doubles."""
        return two_rounds.runs_of_nothing(two_rounds.through_doubles(self.rounds))

    @cached_property
    def pair(self) -> tuple[LoRAModule, LoRAModule]:
        """Two modules of one shape and exponent: weights that are spread, and weights in one row."""
        spread, row = (module_of(kind, self.columns.plan.shape) for kind in ("orthogonal", "one row of up"))
        shift = normalized(spread)[1] - normalized(row)[1]
        return spread, LoRAModule(row.name, row.down, np.ldexp(row.up, shift), 1.0)


@dataclass(frozen=True)
class Case:
    """One attack.

    Attributes:
        name: In words.
        statistic: What is measured. The attack succeeds if it exceeds ``threshold``.
        threshold: By chance it is not exceeded.
        off: The protection that is off in the first run.
        unprotected, protected: The statistic, without and with it.
    """

    name: str
    statistic: str
    threshold: float
    off: str
    unprotected: Callable[[Lab], float]
    protected: Callable[[Lab], float]


CASES = (
    Case(
        "read `down` by dividing polynomials",
        "share of weights read exactly",
        NO_WEIGHT_READ,
        "results are not sanitised",
        lambda lab: dividing.reads_down(lab.cheetah.bare()),
        lambda lab: dividing.reads_down(lab.cheetah),
    ),
    Case(
        "read `up` by dividing polynomials of two rounds",
        "share of weights read exactly",
        NO_WEIGHT_READ,
        "results are not sanitised",
        lambda lab: dividing.reads_up(lab.rounds.bare()),
        lambda lab: dividing.reads_up(lab.rounds),
    ),
    Case(
        "read `up` off differences, by reused encryptions of zero",
        "share of weights read exactly",
        NO_WEIGHT_READ,
        "zeros come from a pool of four",
        lambda lab: dividing.reads_up_by_reused_zeros(lab.rounds, pool=4),
        lambda lab: dividing.reads_up_by_reused_zeros(lab.rounds, pool=0),
    ),
    Case(
        "regress results of x = 0 on the answer's own error",
        "correlation with `up`",
        chance(128),
        "the client's library encodes through doubles",
        lambda lab: two_rounds.recovers_up(lab.rounds, lab.runs_through_doubles),
        lambda lab: two_rounds.recovers_up(lab.rounds, lab.runs),
    ),
    Case(
        "regress results of x = 0 on the answer's encryption error",
        "correlation with `up`",
        chance(128),
        "results are not sanitised",
        lambda lab: two_rounds.recovers_up(lab.rounds, lab.bare_runs),
        lambda lab: two_rounds.recovers_up(lab.rounds, lab.runs),
    ),
    Case(
        "covariance of Δ's errors over equal queries",
        "correlation with up·upᵀ",
        GRAM_BY_CHANCE,
        "results are not sanitised",
        lambda lab: two_rounds.shows_gram_of_up(lab.rounds, lab.bare_runs),
        lambda lab: two_rounds.shows_gram_of_up(lab.rounds, lab.runs),
    ),
    Case(
        "compare unused feature rows of equal queries",
        "correlation of two runs",
        chance(2560),
        "results are not sanitised",
        lambda lab: repeating.unread_places_agree(lab.slots.bare()),
        lambda lab: repeating.unread_places_agree(lab.slots),
    ),
    Case(
        "compare imaginary parts of equal queries",
        "correlation of two runs",
        chance(4096),
        "results are not sanitised",
        lambda lab: repeating.imaginary_parts_agree(lab.slots.bare()),
        lambda lab: repeating.imaginary_parts_agree(lab.slots),
    ),
    Case(
        "compare unused coefficients of equal queries",
        "correlation of two runs",
        chance(8188),
        "results are not sanitised",
        lambda lab: repeating.unread_places_agree(lab.cheetah.bare()),
        lambda lab: repeating.unread_places_agree(lab.cheetah),
    ),
    Case(
        "noise of x = 0 against the weights",
        "correlation with what they make of the query's error",
        chance(8192),
        "results are not sanitised",
        lambda lab: reading_noise.noise_is_of_the_weights(lab.columns.bare()),
        lambda lab: reading_noise.noise_is_of_the_weights(lab.columns),
    ),
    Case(
        "noise of rescaled products, averaged over queries",
        "correlation with the weights",
        chance(2048),
        "results are re-randomised, and not flooded",
        lambda lab: rescaling.averages_tell_weights(lab.backend, flooded=False),
        lambda lab: rescaling.averages_tell_weights(lab.backend, flooded=True),
    ),
    Case(
        "size of the noise, to tell two modules apart",
        "share of right guesses",
        FEWEST_RIGHT,
        "results are not sanitised",
        lambda lab: reading_noise.guesses_the_module(lab.columns.bare(), lab.pair, GUESSES),
        lambda lab: reading_noise.guesses_the_module(lab.columns, lab.pair, GUESSES),
    ),
    Case(
        "the secret key, from a decryption that the client shares",
        "correlation of another message with its decryption",
        chance(8192),
        "all slots of a result that is not sanitised",
        lambda lab: keys.reads_another_message(lab.levelled, keys.all_slots),
        lambda lab: keys.reads_another_message(lab.slots, keys.delta),
    ),
)
"""In the order of the page."""
