"""The noise of results: weights times errors that the client knows, since it drew them."""

from __future__ import annotations

import numpy as np
from attackers.chances import correlation
from attackers.service import Array, Service, Transcript

from helora_core.adapter.lora import LoRAModule


def noise_is_of_the_weights(service: Service) -> float:
    """Correlation of what a query of x = 0 reads with what the weights make of the query's own errors.

    An attacker tells two modules apart with it, and the product of their factors with d_in such queries.
    """
    passed = service.ask(service.nothing)
    # One ciphertext a feature, a token a slot, and no key switches, whose errors the client knows as well.
    errors = np.array([service.slots(each).real for each in passed.sent]).T
    expected = service.plan.normalized(service.module).reference_delta(errors)
    return correlation(_read(service, passed), expected)


def guesses_the_module(service: Service, modules: tuple[LoRAModule, LoRAModule], tries: int) -> float:
    """The share of runs of x = 0 of which the noise's size tells which of two modules was served.

    The attacker knows both modules, and measured the noise of each in a service of its own beforehand.
    """
    services = [service.serving(module) for module in modules]
    learned = [np.mean([_size(each) for _ in range(2)]) for each in services]
    hidden = np.random.default_rng().integers(0, 2, size=tries)
    between, larger = float(np.mean(learned)), int(learned[1] > learned[0])
    guesses = [larger if _size(services[which]) > between else 1 - larger for which in hidden]
    return float(np.mean(np.array(guesses) == hidden))


def _size(service: Service) -> float:
    """log2 of the root mean square of what a query of x = 0 reads of Δ."""
    return float(np.log2(np.sqrt(np.mean(_read(service, service.ask(service.nothing)) ** 2))))


def _read(service: Service, passed: Transcript) -> Array:
    """What a client reads where Δ stands, of all tokens that a run takes."""
    plan = service.plan
    return plan.unpack([service.slots(each).real for each in passed.results], plan.tokens_per_run)
