"""Correlations made ahead of time, and requests that use them up: the client's side of plans with an offline phase.

A preparation encrypts the client's randomness and keeps the results. A request sends activations masked by it: one
message up and one down, without encryption. Sans-IO, like all requests.
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Iterable, Sequence

import numpy as np

from helora_core.backend.capabilities import Encoding
from helora_core.backend.ledger import Ledger
from helora_core.backend.ntt import Residues
from helora_core.backend.session import ClientSession
from helora_core.compiler.exponents import normalized_tokens
from helora_core.compiler.plan import Plan
from helora_core.compiler.rounds import Phase, Round
from helora_core.execution import modular
from helora_core.execution.interactive import encrypt_answer
from helora_core.packing.protocol import Vector
from helora_core.parties.client_run import RunResult
from helora_core.parties.limits import ServerLimits
from helora_core.parties.pool import Pools, PreparedBatch, PreparedModule, Taken
from helora_core.parties.request import AskedModule, Exchange, Received, Request
from helora_core.parties.store import Store, Ticket


def lower_primes(plan: Plan, session: ClientSession) -> tuple[int, ...]:
    """The moduli of the plan's online rounds."""
    return session.params.data_primes[: modular.correlation(plan).lower]


def pools_of(session: ClientSession, plans: Iterable[Plan], store: Store | None, *, low_water: int) -> Pools:
    """The pools of a session's keys, as found in the store.

    Args:
        session: The client's session for its parameters.
        plans: All plans of these parameters.
        store, low_water: As for ``Pools``.
    """
    ahead = {plan.digest: plan for plan in plans if plan.correlation}
    primes = {digest: lower_primes(plan, session) for digest, plan in ahead.items()}
    return Pools(store, session.key_id, ahead, primes, low_water=low_water)


class Preparation(Exchange):
    """A preparation, as ``Client.prepare`` returns it. When it is done, the client's pool has the correlations.

    Args:
        asked: The modules, all with an offline phase, none of them with a Δ of zero.
        session: The client's session for their parameters.
        correlations: How many to make; the surplus of the last run is not kept.
        pools: The pools that they are added to.
    """

    def __init__(self, asked: Sequence[AskedModule], session: ClientSession, correlations: int, pools: Pools) -> None:
        start = time.perf_counter_ns()
        super().__init__(asked, session, correlations, "Preparation")
        self._pools = pools
        self._phase = Phase.OFFLINE
        self._correlations = correlations
        self._seed = secrets.token_bytes(modular.SEED_BYTES)
        ledger = Ledger()
        self._send(self._drawn(session.with_ledger(ledger)))
        self._executed = ledger.counts()
        self._times.encrypt = time.perf_counter_ns() - start

    def _drawn(self, client: ClientSession) -> list[list[bytes]]:
        plan = self._alive[0].plan
        size, primes = plan.tokens_per_run, lower_primes(plan, client)
        payloads = []
        for start in range(0, plan.runs(self._tokens) * size, size):
            end = min(start + size, self._tokens)
            r = modular.drawn(self._seed, range(start, end), primes, len(plan.program.inputs))
            vectors = modular.encryptable(r, len(primes), client.params)
            sent = client.encrypt_many(vectors, scale_bits=plan.scales.input_bits, encoding=Encoding.INTEGERS)
            payloads.append([client.serialize(each) for each in sent])
        return payloads

    def _take(self, client: ClientSession, received: Received, follows: bytes) -> None:
        decrypted = [
            [[client.decrypt(client.deserialize(each), encoding=Encoding.INTEGERS) for each in run] for run in runs]
            for runs in received
        ]
        if self._alive[0].plan.rounds[self._number + 1].phase is Phase.OFFLINE:
            self._number += 1
            self._send(
                [
                    [client.serialize(encrypt_answer(each.plan, self._number, client, run))]
                    for each, runs in zip(self._alive, decrypted, strict=True)
                    for run in runs
                ],
                follows,
            )
            return
        modules = tuple(
            PreparedModule(each.name, each.plan.digest, modular.to_bytes(self._masked(each.plan, runs)))
            for each, runs in zip(self._alive, decrypted, strict=True)
        )
        pools = self._pools
        pools.add(PreparedBatch(self._id, client.key_id, pools.number, self._tokens, self._seed, modules))
        self._message = None

    def _masked(self, plan: Plan, runs: Sequence[Sequence[Residues]]) -> Residues:
        """W·r + s, with a place for each token of each run: shape (lower primes, correlations, outputs)."""
        kept = [np.stack(run, axis=2)[:, : plan.tokens_per_run] for run in runs]
        return np.concatenate(kept, axis=1)[:, : self._tokens]


class MaskedRequest(Request):
    """A request that uses correlations.

    Args:
        asked, session, x, wanted: As for ``Request``; at least one module's Δ is not zero.
        taken: A correlation for each token.
        ticket: The writes that have to be durable so that they are not taken again.
    """

    def __init__(
        self,
        asked: Sequence[AskedModule],
        session: ClientSession,
        x: Vector,
        *,
        wanted: Sequence[str],
        taken: Taken,
        ticket: Ticket,
    ) -> None:
        self._taken = taken
        super().__init__(asked, session, x, wanted=wanted)
        self._ticket = ticket

    def _start(self, client: ClientSession, x: Vector) -> None:
        plan = self._alive[0].plan
        self._correlations = self._tokens
        scaled, self._exponents = normalized_tokens(x)
        self._nothing = np.logical_not(scaled.any(axis=1))
        y = np.empty_like(self._taken.r)
        for start in range(0, self._tokens, plan.tokens_per_run):
            of_run = slice(start, start + plan.tokens_per_run)
            y[:, of_run] = modular.masked_input(plan, scaled[of_run], self._taken.r[:, of_run], client.params)
        self._number = len(plan.rounds) - 1
        self._send([[modular.to_bytes(y)]], spans=self._taken.spans)

    def _payloads(self, turn: Round) -> int:
        return 1

    def _runs_of(self, each: AskedModule) -> int:
        return 1

    def _take(self, client: ClientSession, received: Received, follows: bytes) -> None:
        answers = {each.name: of[0][0] for each, of in zip(self._alive, received, strict=True)}
        self._settle({each.name: self._result(client, each, answers.get(each.name)) for each in self._asked})
        self._taken = Taken((), self._taken.r[:, :0], {})

    def _result(self, client: ClientSession, each: AskedModule, answer: bytes | None) -> RunResult:
        plan = each.plan
        delta, bound = np.zeros((self._tokens, plan.shape.d_out)), 0.0
        if answer is not None:
            c = self._taken.masked[each.name]
            v = modular.from_bytes(answer, lower_primes(plan, client), self._tokens, c.shape[2])
            delta = modular.read(plan, v, c, client.params)
            bound = plan.precision(noise_model=client.capabilities.noise_model).error_bound
        exponents = self._exponents + (plan.exponent or 0)
        return RunResult(
            delta=np.where(self._nothing[:, np.newaxis], 0.0, np.ldexp(delta, exponents[:, np.newaxis])),
            error_bound=np.where(self._nothing, 0.0, np.ldexp(bound, exponents)),
        )


def correlation_bytes(plan: Plan) -> int:
    """Bytes of a token online, up or down, whichever is more."""
    online, numbers = plan.rounds[-1], modular.correlation(plan).lower
    return 8 * numbers * max(len(online.inputs), len(online.outputs))


def tokens_within(plan: Plan, message_bytes: int, overhead_bytes: int) -> int:
    """How many tokens' masked activations fit in a message with its overhead; but no more than servers take
    at once by default, since correlations of a refused request are used up.
    """
    fitting = math.floor((message_bytes - overhead_bytes) / correlation_bytes(plan))
    return max(1, min(fitting, ServerLimits().tokens))
