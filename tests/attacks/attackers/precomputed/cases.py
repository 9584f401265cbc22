"""The attacks on plans that run ahead of time: without the step that protects from each, and with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from attackers.precomputed import budget, keys, masks, zeros
from attackers.precomputed.model import ALL, Q, Rules, T

BY_CHANCE = 0.02
"""Of shares of numbers of many values: none is right by chance."""

ALL_BUT_FEW = 0.999
"""Of shares of a row of ``down``: what is short of all."""


@dataclass(frozen=True)
class Case:
    """One attack.

    Attributes:
        name: In words.
        who: Who attacks.
        statistic: What is measured. The attack succeeds if it exceeds ``threshold``.
        threshold: By chance it is not exceeded.
        off: The step that is left out of the first run.
        unprotected, protected: The statistic, without and with it.
    """

    name: str
    who: str
    statistic: str
    threshold: float
    off: str
    unprotected: Callable[[], float]
    protected: Callable[[], float]


CASES = (
    Case(
        "several y for one index",
        "client",
        "share of W's other columns read",
        BY_CHANCE,
        "a used index is answered again",
        lambda: masks.columns_of_one_index(Rules(index_once=False)),
        lambda: masks.columns_of_one_index(ALL),
    ),
    Case(
        "two inputs under one r",
        "server",
        "share of x − x′ read",
        BY_CHANCE,
        "the client uses an index twice",
        lambda: masks.inputs_of_one_index(used_twice=True),
        lambda: masks.inputs_of_one_index(used_twice=False),
    ),
    Case(
        "two layers under one r",
        "server",
        "share of x − x′ read",
        BY_CHANCE,
        "r does not depend on the input site",
        lambda: masks.inputs_of_two_sites(by_site=False),
        lambda: masks.inputs_of_two_sites(by_site=True),
    ),
    Case(
        "subtract two modules, without a query",
        "client",
        "share of W − W′ read",
        BY_CHANCE,
        "masks do not depend on the module",
        lambda: masks.modules_subtracted(Rules(mask_by_module=False)),
        lambda: masks.modules_subtracted(ALL),
    ),
    Case(
        "another upload for the same batch, without a query",
        "client",
        "share of W read",
        BY_CHANCE,
        "masks do not depend on the upload",
        lambda: masks.replayed(Rules(mask_by_upload=False)),
        lambda: masks.replayed(ALL),
    ),
    Case(
        "read G",
        "client",
        "share of W's rows read",
        BY_CHANCE,
        "results are not re-randomised",
        lambda: zeros.without_zeros(Rules(re_randomised=False)),
        lambda: zeros.without_zeros(ALL),
    ),
    Case(
        "subtract G of two uploads",
        "client",
        "share of W's rows read",
        BY_CHANCE,
        "encryptions of zero do not depend on the upload",
        lambda: zeros.of_two_uploads(Rules(zero_by_upload=False)),
        lambda: zeros.of_two_uploads(ALL),
    ),
    Case(
        "q/4 in the public key",
        "client",
        "share of W's rows read",
        BY_CHANCE,
        "the key is forged",
        lambda: zeros.of_a_forged_key(Q // 4),
        lambda: zeros.of_a_forged_key(0),
    ),
    Case(
        "q/2 in the public key",
        "client",
        "share of parities of u read",
        0.6,
        "the key is forged",
        lambda: zeros.parities_of_a_forged_key(Q // 2),
        lambda: zeros.parities_of_a_forged_key(0),
    ),
    Case(
        "answer a key challenge with a forged key",
        "client",
        "share of the challenge answered as an honest key would",
        0.75,
        "the challenge is not floored",
        lambda: zeros.challenge_answered(floored=False),
        lambda: zeros.challenge_answered(floored=True),
    ),
    Case(
        "average retries",
        "server",
        "share of the key read",
        BY_CHANCE,
        "a retry repeats the seed and draws fresh errors",
        lambda: keys.averaged(fresh_errors=True),
        lambda: keys.averaged(fresh_errors=False),
    ),
    Case(
        "add t/2 to G and watch which tokens come out wrong",
        "server",
        "share of a later batch's r decrypted",
        BY_CHANCE,
        "batches share a key",
        lambda: keys.asked_by_reactions(key_per_batch=False),
        lambda: keys.asked_by_reactions(key_per_batch=True),
    ),
    Case(
        "three columns in a query",
        "client",
        "share of a row of `down` read within the budget",
        ALL_BUT_FEW,
        "the budget counts a query as a column",
        lambda: budget.down_read(budget.TRIMMED, budget.D_IN - 1),
        lambda: budget.down_read(budget.TRIMMED, budget.queries_for(budget.TRIMMED.bits_per_query)),
    ),
    Case(
        "fractions of q₁ in an upload, exact mode",
        "client",
        "share of a row of `down` read within the budget",
        ALL_BUT_FEW,
        "the budget counts a query as the bits of t",
        lambda: budget.down_read(budget.FRACTIONS, budget.queries_for(64)),
        lambda: budget.down_read(budget.FRACTIONS, budget.queries_for(budget.FRACTIONS.bits_per_query)),
    ),
    Case(
        "an answer off by t/2",
        "server",
        "share of audits passed",
        BY_CHANCE,
        "the audit is modulo t",
        lambda: budget.audits_passed(T),
        lambda: budget.audits_passed(budget.PRIME),
    ),
)
"""In the order of the page."""
