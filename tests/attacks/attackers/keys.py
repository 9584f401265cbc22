"""The secret key, from decrypted results that the client shares (Li and Micciancio, EUROCRYPT 2021).

Who has a ciphertext and what it decrypts to exactly, noise included, has c₁·s = m − c₀, hence s. Approximate
decryptions are exact where their doubles hold every bit of a coefficient.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from attackers.chances import correlation
from attackers.polynomials import coefficients_of, difference, polynomial, quotient, transformed
from attackers.service import Array, Service, Transcript
from numpy.typing import NDArray

from helora_core.backend import ntt
from helora_core.backend.capabilities import Encoding
from helora_core.backend.embedding import slots_to_coefficients
from helora_core.backend.ntt import Residues
from helora_core.backend.residues import Integers

Shared = Callable[[Service, Transcript, Array], Residues]


def reads_another_message(service: Service, shared: Shared) -> float:
    """Correlation of a message that nobody shared with what a key found in a shared result makes of its ciphertext."""
    x = np.random.default_rng(3).normal(size=(service.plan.tokens_per_run, service.plan.shape.d_in))
    passed = service.ask(x)
    (result,) = passed.results
    level = service.server.evaluator.level(result)
    primes = service.client.params.data_primes[: level + 1]
    values = transformed(shared(service, passed, x), primes)
    over = difference(values, polynomial(result, 0, primes), primes)
    secret = quotient(over, polynomial(result, 1, primes), primes)[:1]
    return _opened(service, secret, primes[0])


def _opened(service: Service, secret: Residues, prime: int) -> float:
    """What the key makes of another ciphertext, of coefficients small enough for one prime."""
    message = np.random.default_rng(4).normal(size=service.plan.params.ring_degree)
    fresh = service.client.encrypt(message, scale_bits=20, encoding=Encoding.COEFFICIENTS)
    sealed = service.server.receive(service.client.send(fresh))
    first, second = (polynomial(sealed, which, service.client.params.data_primes)[:1] for which in (0, 1))
    opened = (first[0] + ntt.product(second[0], secret[0], prime)) % np.uint64(prime)
    return correlation(coefficients_of(opened[np.newaxis], [prime]), message)


def exact_integers(service: Service, passed: Transcript, x: Array) -> Residues:
    """The client shares all that its library can tell it: residues."""
    return service.decrypted(passed.results[0], Encoding.INTEGERS)


def all_slots(service: Service, passed: Transcript, x: Array) -> Residues:
    """It shares all slots of a result as complex doubles; the attacker rounds their coefficients to integers."""
    return _rounded(service, passed.results[0], service.slots(passed.results[0]))


def delta(service: Service, passed: Transcript, x: Array) -> Residues:
    """It shares Δ in doubles. The attacker undoes scaling and layout, and takes everything else for zero."""
    result = passed.results[0]
    run = service.delta(passed, x)
    exponents = np.array([_exponent(row) for row in x]) + (service.plan.exponent or 0)
    slots: NDArray[Any] = np.zeros(service.plan.params.slots, dtype=np.complex128)
    kept = np.ldexp(run, -exponents[:, np.newaxis]).T.ravel()
    slots[: kept.size] = kept
    return _rounded(service, result, slots)


def _exponent(row: Array) -> int:
    return int(np.ceil(np.log2(np.linalg.norm(row))))


def _rounded(service: Service, result: Any, slots: NDArray[np.complex128]) -> Residues:
    generator, params = service.client.capabilities.slot_generator, service.client.params
    values = slots_to_coefficients(slots, params.ring_degree, generator)
    primes = params.data_primes[: service.server.evaluator.level(result) + 1]
    return Integers.of_values(values, service.server.evaluator.scale(result)).residues(primes)
