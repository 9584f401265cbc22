"""``up`` alone, from the two rounds of ``cheetah_two_round``.

The client knows by how much its answer is off the integers that it was to encrypt: by the noise of its encryption at
least. The server multiplies all of that by ``up``. And the noise of the first round, fresh in each run, comes back as
up·e, whose covariance is up·upᵀ.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from attackers.chances import correlation
from attackers.dividing import integers
from attackers.polynomials import difference
from attackers.service import Array, Service, Transcript

from helora_core.backend import residues
from helora_core.backend.capabilities import Encoding
from helora_core.backend.embedding import coefficients_to_slots
from helora_core.compiler.ir import OpKind
from helora_core.execution.interactive import _placed
from helora_core.parties.client_run import ClientRun


class DoublesService(Service):
    """A client that encodes its answer through doubles, as a library does that has no exact integers."""

    def answer(self, run: ClientRun, masked: Sequence[Any]) -> bytes:
        params, add = self.client.params, self.server.evaluator.add
        # SEAL encodes nothing beyond a quarter of the modulus: a quarter of the answer, four times.
        values = residues.values_of(exact_answer(self, masked), params.data_primes, 4 * self._scale)
        slots = coefficients_to_slots(values, params.ring_degree, self.client.capabilities.slot_generator)
        fresh = self.client._decryptor.encrypt(slots, scale=self._scale, encoding=Encoding.COMPLEX_SLOTS)
        quarter = self.server.receive(self.client.send(fresh))
        half = add(quarter, quarter)
        return self.server.serialize(add(half, half))

    @property
    def _scale(self) -> float:
        return 2.0 ** answer_scale_bits(self)


class ChoosingService(Service):
    """A client that deviates: it adds 2^100 to the first coefficient of its answer."""

    CHOSEN = 1 << 100

    def answer(self, run: ClientRun, masked: Sequence[Any]) -> bytes:
        answer, primes = exact_answer(self, masked), self.client.params.data_primes
        answer[:, 0] = [(int(row[0]) + self.CHOSEN) % prime for row, prime in zip(answer, primes, strict=True)]
        fresh = self.client.encrypt(answer, scale_bits=answer_scale_bits(self), encoding=Encoding.INTEGERS)
        return self.client.serialize(fresh)


def answer_scale_bits(service: Service) -> int:
    """log2 of the scale at which the client's answer is encrypted."""
    ops = service.plan.program.ops
    return service.plan.values[next(i for i, op in enumerate(ops) if op.kind is OpKind.ASK_CLIENT)].scale_bits


def reads_a_column_by_choice(service: Service) -> float:
    """Correlation of a column of ``up`` with what comes back for an answer with one coefficient more than it ought."""
    choosing = ChoosingService(**{name: getattr(service, name) for name in service.__dataclass_fields__})
    read = choosing.query(choosing.nothing)[0][choosing.kept(0)]
    return correlation(read, integers(service, "up.0.0").reshape(read.size, -1)[:, -1])


def through_doubles(service: Service) -> Service:
    """The same service, whose client encodes through doubles."""
    return DoublesService(**{name: getattr(service, name) for name in service.__dataclass_fields__})


def exact_answer(service: Service, masked: Sequence[Any]) -> Any:
    """The residues that the client is to encrypt for masked values."""
    received = [service.decrypted(each, Encoding.INTEGERS) for each in masked]
    return _placed(service.plan, received, service.client.params)


def own_error(service: Service, passed: Transcript) -> Array:
    """What the client finds in its own answer beyond the integers that it was to encrypt, a coefficient."""
    primes = service.client.params.data_primes
    answered = service.decrypted(passed.answered[0], Encoding.INTEGERS)
    return residues.values_of(difference(answered, exact_answer(service, passed.masked), primes), primes, 1.0)


def runs_of_nothing(service: Service, queries: int = 10) -> list[tuple[Array, Array]]:
    """Of runs of x = 0: what the client reads of the result, in integer units, and its own answer's error."""
    found = []
    for _ in range(queries):
        passed = service.ask(service.nothing)
        read = service.coefficients(passed.results[0])[service.kept(0)]
        found.append((read, own_error(service, passed)))
    return found


def recovers_up(service: Service, runs: list[tuple[Array, Array]]) -> float:
    """Correlation of ``up`` with the regression of results on the answers' own errors.

    What the first round's noise adds is larger, and lies in the r dimensions that the columns of ``up`` span: out of
    the way of the rest, once those are projected away.
    """
    truth, kept = integers(service, "up.0.0"), np.array(service.kept(0))
    shift = kept[:, np.newaxis] - np.arange(truth.size)
    sign, place = np.where(shift < 0, -1.0, 1.0), shift % service.plan.params.ring_degree
    size = max(float(np.std(error)) for _, error in runs)
    spanned = np.linalg.svd(np.array([result for result, _ in runs]).T)[0][:, : service.plan.shape.rank]
    beside = np.eye(kept.size) - spanned @ spanned.T
    rows = np.concatenate([beside @ (sign * error[place]) / size for _, error in runs])
    read = np.concatenate([beside @ result / size for result, _ in runs])
    guess = np.linalg.lstsq(rows, read, rcond=None)[0]
    return correlation(guess, truth)


def shows_gram_of_up(service: Service, runs: list[tuple[Array, Array]]) -> float:
    """Correlation of the covariances of results of equal queries with the inner products of the rows of ``up``."""
    covariance = np.cov(np.array([result for result, _ in runs]).T)
    rows = integers(service, "up.0.0").reshape(len(covariance), -1)
    pairs = np.triu_indices(len(covariance), 1)
    return correlation(covariance[pairs], (rows @ rows.T)[pairs])
