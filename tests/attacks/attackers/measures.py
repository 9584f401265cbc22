"""What protects a result, measured on results: how large floods and masks really are, against what they are to hide.

Normal noise of deviation σ hides a vector e to a statistical distance of ‖e‖/2σ (Pinsker). e is measured as the
server would have sent it: nothing here is taken from the model that floods are sized by.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from attackers.chances import chance, correlation, uniformity
from attackers.dividing import reads_up
from attackers.repeating import full, unread_slots
from attackers.service import Array, Service, Transcript

from helora_core.backend.capabilities import Encoding
from helora_core.backend.residues import values_of

DISTANCE_BITS = -40.0
"""log2 of the distance that a plan promises by default."""

SIZE_BITS = 0.15
"""What the measured size of noise may be off what the plan says."""


@dataclass(frozen=True)
class Measured:
    """A statistic and what it must not exceed."""

    name: str
    statistic: float
    threshold: float

    @property
    def holds(self) -> bool:
        """Whether nothing was found."""
        return self.statistic <= self.threshold

    def __str__(self) -> str:
        return f"{self.name}: {self.statistic:.4g} (threshold {self.threshold:.4g})"


@dataclass
class OfSlots:
    """A plan whose results are in slots: what the server would send, and what it sends.

    Attributes:
        usual: The service as it ought to be.
    """

    usual: Service

    @cached_property
    def _noise(self) -> list[Array]:
        return self.usual.bare().query(self.usual.nothing)

    @cached_property
    def _content(self) -> tuple[float, float]:
        """Norms of what unread slots and imaginary parts hold, in integer units, for x of the largest norm."""
        (result,) = self.usual.bare().ask(full(self.usual)).results
        slots = self.usual.slots(result) * self.usual.server.evaluator.scale(result)
        return float(np.linalg.norm(slots.real[list(unread_slots(self.usual))])), float(np.linalg.norm(slots.imag))

    def prepare(self) -> None:
        """Measure what is to be hidden, before anything is weakened."""
        _ = self._noise, self._content

    def measure(self, service: Service) -> list[Measured]:
        """Everything, of a service that serves the same module under the same keys."""
        first = service.ask(service.nothing)
        second = service.ask(service.nothing, again=first)
        flood, mask, imaginary = self._sizes(service, first)
        noise = max(float(np.linalg.norm(each)) for each in self._noise)
        unread, twisted = self._content
        kept = [self._kept(service, each) for each in (first, second)]
        asked = service.constants.report
        return [
            Measured("log2 of the distance, noise", math.log2(noise / 2 / flood), DISTANCE_BITS),
            Measured("log2 of the distance, unread slots", math.log2(unread / 2 / mask), DISTANCE_BITS),
            Measured("log2 of the distance, imaginary parts", math.log2(twisted / 2 / imaginary), DISTANCE_BITS),
            Measured("size of the flood", abs(math.log2(flood) - max(asked.flood_bits.values())), SIZE_BITS),
            Measured("size of the mask", abs(math.log2(mask) - max(asked.mask_bits.values())), SIZE_BITS),
            Measured(
                "size of the imaginary mask", abs(math.log2(imaginary) - max(asked.mask_bits.values())), SIZE_BITS
            ),
            Measured("noise of equal queries, correlation", correlation(*kept), chance(kept[0].size)),
        ]

    def _kept(self, service: Service, passed: Transcript) -> Array:
        return service.slots(passed.results[0]).real[: unread_slots(service).start]

    def _sizes(self, service: Service, passed: Transcript) -> tuple[float, float, float]:
        """Standard deviations in integer units: of a coefficient's flood, of unread slots, and of imaginary parts."""
        (result,) = passed.results
        slots = service.slots(result) * service.server.evaluator.scale(result)
        unread = unread_slots(service)
        flood = float(np.std(slots.real[: unread.start])) / math.sqrt(service.plan.params.slots)
        return flood, float(np.std(slots.real[list(unread)])), float(np.std(slots.imag))


@dataclass
class OfTwoRounds:
    """``cheetah_two_round``: the same for its results, and for what it masks in between."""

    usual: Service
    queries: int = 3

    @cached_property
    def _noise(self) -> float:
        """Root mean square of the norm of what results hold beyond Δ = 0, where they are read."""
        bare = self.usual.bare()
        squares = [float(np.sum(bare.query(bare.nothing)[0][bare.kept(0)] ** 2)) for _ in range(self.queries)]
        return math.sqrt(float(np.mean(squares)))

    def prepare(self) -> None:
        """Measure what is to be hidden, before anything is weakened."""
        _ = self._noise

    def measure(self, service: Service) -> list[Measured]:
        """Everything, of a service that serves the same module under the same keys."""
        first = service.ask(service.nothing)
        second = service.ask(service.nothing, again=first)
        kept = [service.coefficients(each.results[0])[service.kept(0)] for each in (first, second)]
        flood = float(np.sqrt(np.mean(np.square(kept))))
        return [
            Measured("log2 of the distance, noise", math.log2(self._noise / 2 / flood), DISTANCE_BITS + _few(kept)),
            Measured("noise of equal queries, correlation", correlation(*kept), chance(kept[0].size)),
            Measured("masked values, off uniform ones", self._off_uniform(service, first.masked[0]), 5.0),
            Measured("unread coefficients, off uniform ones", self._off_uniform(service, first.results[0]), 5.0),
            Measured("share of up read by division", reads_up(service), 0.01),
        ]

    def _off_uniform(self, service: Service, ciphertext: object) -> float:
        """By how many standard deviations integers are off uniform ones, modulo all primes and each.

        All of a masked value, and those of a result that are not to be read.
        """
        residues = service.decrypted(ciphertext, Encoding.INTEGERS)
        if service.server.evaluator.level(ciphertext) == service.client.params.max_level:
            residues = np.delete(residues, service.kept(0), axis=1)
        primes = service.client.params.data_primes[: len(residues)]
        whole = values_of(residues, primes, float(math.prod(primes))) + 0.5
        each = [row / prime for row, prime in zip(residues, primes, strict=True)]
        return max(map(uniformity, [whole, *each]))


def _few(kept: list[Array]) -> float:
    """What the size of a flood, measured on few coefficients, may be off, in bits: three standard deviations."""
    return math.log2(1 + 3 / math.sqrt(2 * sum(each.size for each in kept)))
