"""What helora does not protect from, shown as plainly as what it does: docs/attacks.md lists it."""

from __future__ import annotations

import numpy as np
import pytest
from attackers import keys, two_rounds
from attackers.service import Service, plan_of, random_module

from helora_core.adapter.lora import LoRAModule
from helora_core.backend.protocol import Backend


def test_exact_decryptions_of_sanitised_results_give_the_key_away(tenseal: Backend) -> None:
    """Sanitising hides weights from who has the key, and not the key from who is given decryptions."""
    plan = plan_of("rank_bsgs", "64:24:4")
    service = Service.of(tenseal, random_module(plan.shape), plan)
    assert keys.reads_another_message(service, keys.exact_integers) > 0.99


@pytest.mark.parametrize(("packing", "shape"), [("rank_bsgs", "32:24:4"), ("cheetah_two_round", "64:256:8")])
def test_factors_of_the_same_product_are_rounded_otherwise(tenseal: Backend, packing: str, shape: str) -> None:
    """Δ is that of the weights as they were rounded to plaintexts; other factors of the same product round otherwise.

    What is left of it below the flood tells two such modules apart after some queries, to who has both.
    """
    plan = plan_of(packing, shape)
    module, rng = random_module(plan.shape), np.random.default_rng(5)
    turned = np.linalg.qr(rng.normal(size=(plan.shape.rank, plan.shape.rank)))[0]
    service = Service.of(tenseal, module, plan)
    other = service.serving(LoRAModule("m", turned @ module.down, module.up @ turned.T, 1.0))
    x = rng.normal(size=(1, plan.shape.d_in))
    bare, others = (each.bare().delta(each.bare().ask(x), x) for each in (service, other))
    flood = float(np.std(np.array([service.delta(service.ask(x), x) for _ in range(4)]) - bare))
    distance = float(np.linalg.norm(np.ldexp(others, service.plan.exponent - other.plan.exponent) - bare)) / 2 / flood
    print(f"{packing}: distance of one query {distance:.2g}")
    assert distance > 2.0**-10


def test_a_client_that_deviates_reads_up_off_two_rounds(tenseal: Backend) -> None:
    """The parties are taken to follow the protocol."""
    plan = plan_of("cheetah_two_round", "256:32:4")
    service = Service.of(tenseal, random_module(plan.shape), plan)
    assert two_rounds.reads_a_column_by_choice(service) > 0.99
