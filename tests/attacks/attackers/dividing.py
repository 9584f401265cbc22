"""Division of polynomials: weights read off results whose polynomials are products with them.

A result that was not re-randomised is (c₀·w, c₁·w) for the (c₀, c₁) that the client sent. Where an encryption of zero
serves twice, so is the difference of two results for that of what was sent.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any
from unittest import mock

import numpy as np
from attackers.chances import share_equal
from attackers.polynomials import coefficients_of, difference, polynomial, quotient
from attackers.service import Array, Service

from helora_core.backend import sanitize as sanitizing
from helora_core.backend.ntt import Residues


def reads_down(service: Service, *, which: int = 1) -> float:
    """The share of ``down`` read exactly off one result of ``cheetah``."""
    x = np.random.default_rng(1).normal(size=(1, service.plan.shape.d_in))
    passed = service.ask(x)
    read = _read(service, passed.results[0], passed.sent[0], which)
    return share_equal(read, integers(service, "down.0.0"))


def reads_up(service: Service, *, which: int = 1) -> float:
    """The share of ``up`` read exactly off one result of ``cheetah_two_round``."""
    passed = service.ask(service.nothing)
    read = _read(service, passed.results[0], passed.answered[0], which)
    return share_equal(read, integers(service, "up.0.0"))


def reads_up_by_reused_zeros(service: Service, *, pool: int, runs: int = 5) -> float:
    """The share of ``up`` read exactly off differences of results, whose zeros come from a pool; 0 for fresh ones."""
    with mock.patch.object(sanitizing, "encryption_of_zero", _pooled(pool)):
        passed = [service.ask(service.nothing) for _ in range(runs)]
    guesses = []
    for left, right in combinations(passed, 2):
        primes = _primes(service, left.results[0])
        # Weights fit one prime.
        over, under = (
            difference(polynomial(one, 1, primes)[:1], polynomial(other, 1, primes)[:1], primes[:1])
            for one, other in ((left.results[0], right.results[0]), (left.answered[0], right.answered[0]))
        )
        guesses.append(coefficients_of(quotient(over, under, primes[:1]), primes[:1]))
    # Weights are small integers, whatever they are; noise modulo the primes is not.
    likeliest = min(guesses, key=lambda guess: float(np.max(np.abs(guess))))
    truth = integers(service, "up.0.0")
    return share_equal(likeliest[: truth.size], truth)


def _pooled(size: int) -> Any:
    """``encryption_of_zero`` from a pool, whose entries serve in turn; fresh ones for a pool of none."""
    fresh, pool, asked = sanitizing.encryption_of_zero, {}, {}

    def reused(*args: Any, level: int, scale: float) -> Any:
        if not size:
            return fresh(*args, level=level, scale=scale)
        number = asked.get((level, scale), 0) % size
        asked[level, scale] = number + 1
        if (level, scale, number) not in pool:
            pool[level, scale, number] = fresh(*args, level=level, scale=scale)
        return pool[level, scale, number]

    return reused


def _read(service: Service, result: Any, sent: Any, which: int) -> Array:
    """The integers that one polynomial of a result is a product with, if it is one; as many as the plaintext has."""
    primes = _primes(service, result)
    factor = quotient(polynomial(result, which, primes), _lower(sent, which, service, len(primes)), primes)
    truth = integers(service, "up.0.0" if len(service.plan.rounds) > 1 else "down.0.0")
    return coefficients_of(factor, primes)[: truth.size]


def _lower(sent: Any, which: int, service: Service, primes: int) -> Residues:
    return polynomial(sent, which, service.client.params.data_primes)[:primes]


def _primes(service: Service, result: Any) -> tuple[int, ...]:
    return service.client.params.data_primes[: service.server.evaluator.level(result) + 1]


def integers(service: Service, name: str) -> Array:
    """The integers that a plaintext of coefficients is."""
    made = dict(service.plan.layout.constants(service.plan.normalized(service.module)))
    return np.rint(np.ldexp(made[name], service.plan.constant_specs[name].scale_bits))
