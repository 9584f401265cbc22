"""A client and a server for one module, and all that passes between them, as the client may look at it."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.backend.capabilities import Encoding
from helora_core.backend.protocol import Backend
from helora_core.backend.session import ClientSession, ServerSession, open_sessions
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.plan import Plan
from helora_core.compiler.request import USUAL_TRAITS, BackendTraits
from helora_core.compiler.result_size import divided
from helora_core.execution.constants import EncodedConstants, encode_constants
from helora_core.execution.executor import Execution
from helora_core.host.manager import get_manager
from helora_core.parties.client_run import ClientRun

Array = NDArray[np.float64]


@dataclass
class Transcript:
    """What passed in one run: ciphertexts, in the order in which they were sent.

    Attributes:
        sent: Of the client's, packed activations.
        answered: Of the client's, what it sent for masked values.
        results: Of the server's, results.
        masked: Of the server's, masked values.
    """

    sent: list[Any] = field(default_factory=list)
    answered: list[Any] = field(default_factory=list)
    results: list[Any] = field(default_factory=list)
    masked: list[Any] = field(default_factory=list)


@dataclass
class Service:
    """A client and a server for one module.

    Attributes:
        sanitize: Whether results are sanitised; without it the server sends what it computed.
    """

    plan: Plan
    client: ClientSession
    server: ServerSession
    constants: EncodedConstants
    module: LoRAModule
    sanitize: bool = True

    @classmethod
    def of(cls, backend: Backend, module: LoRAModule, plan: Plan) -> Service:
        """With keys of its own."""
        plan = plan.for_module(module)
        sessions = open_sessions(backend, plan.params, plan.rotation_steps, public_key=plan.needs_public_key)
        return cls(plan, *sessions, encode_constants(plan, module, sessions[1].encoder), module)

    def bare(self) -> Service:
        """The same, whose results are not sanitised."""
        return replace(self, sanitize=False)

    def serving(self, module: LoRAModule) -> Service:
        """The same for another module, under the same keys."""
        plan = self.plan.for_module(module)
        return replace(self, plan=plan, constants=encode_constants(plan, module, self.server.encoder), module=module)

    def planned_anew(self) -> Service:
        """The same, with floods and masks as they are worked out now."""
        plan, constants = replace(self.plan), copy(self.constants)
        constants.report = plan.precision(noise_model=self.server.capabilities.noise_model)
        return replace(self, plan=plan, constants=constants)

    @property
    def nothing(self) -> Array:
        """An x of zeros: one token."""
        return np.zeros((1, self.plan.shape.d_in))

    def ask(self, x: Array, *, again: Transcript | None = None) -> Transcript:
        """Run the plan for x of shape (tokens, d_in); with the ciphertexts of a run before, if there is one."""
        run, passed = ClientRun(self.plan, x, module=self._finishing), Transcript()
        passed.sent = again.sent if again else [self.server.deserialize(payload) for payload in run.inputs(self.client)]

        execution = Execution(self.plan, self.constants)
        passed.results = execution.proceed(self._server, passed.sent)
        while not execution.done:
            passed.masked = passed.results
            passed.answered.append(self.server.deserialize(self.answer(run, passed.masked)))
            passed.results = execution.proceed(self._server, passed.answered[-1:])
        return passed

    def answer(self, run: ClientRun, masked: Sequence[Any]) -> bytes:
        """What the client sends for masked values."""
        return run.answer(self.client, 1, [self.server.serialize(each) for each in masked])

    def delta(self, passed: Transcript, x: Array) -> Array:
        """Δ, as the client gets it."""
        run = ClientRun(self.plan, x, module=self._finishing)
        return run.result(self.client, [self.server.serialize(result) for result in passed.results]).delta

    def query(self, x: Array) -> list[Array]:
        """Coefficients of every result, in integer units, that the client decrypts for x."""
        return [self.coefficients(result) for result in self.ask(x).results]

    def coefficients(self, ciphertext: Any) -> Array:
        """Decrypted, in integer units."""
        return self.decrypted(ciphertext, Encoding.COEFFICIENTS) * self.server.evaluator.scale(ciphertext)

    def slots(self, ciphertext: Any) -> NDArray[np.complex128]:
        """Decrypted, real and imaginary parts."""
        return self.decrypted(ciphertext, Encoding.COMPLEX_SLOTS)

    def decrypted(self, ciphertext: Any, encoding: Encoding) -> NDArray[Any]:
        """As the client decrypts it."""
        return self.client.decrypt(self.client.receive(self.server.send(ciphertext)), encoding=encoding)

    def kept(self, number: int) -> list[int]:
        """The coefficients of a result that are meant to be read."""
        output = self.plan.program.results[number]
        return list(self.plan.program.ops[output].positions) or list(range(self.plan.params.ring_degree))

    def flood_bits(self, number: int) -> int:
        """log2 of the standard deviation of a result's flood, a coefficient, in integer units."""
        return self.constants.report.flood_bits[self.plan.program.results[number]]

    def noise_bits(self, noise: list[Array]) -> list[float]:
        """log2 of the norm of each result's noise, over the coefficients that are seen."""
        seen = [self._seen(number, each) for number, each in enumerate(noise)]
        return [math.log2(max(float(np.linalg.norm(each)), 1.0)) for each in seen]

    def distance_bits(self, noise: list[Array]) -> float:
        """log2 of the statistical distance to which floods hide noise, by Pinsker's inequality: the worst result's."""
        return max(bits - 1 - self.flood_bits(number) for number, bits in enumerate(self.noise_bits(noise)))

    def _seen(self, number: int, coefficients: Array) -> Array:
        kept = self.kept(number)
        return coefficients[kept] if self.plan.program.encoding is Encoding.COEFFICIENTS else coefficients

    @property
    def _finishing(self) -> LoRAModule | None:
        return self.module if self.plan.packing.client_finishes else None

    @functools.cached_property
    def _bare(self) -> ServerSession:
        bare = ServerSession(self.server.evaluator, self.server.encoder)
        bare.sanitize_many = lambda ciphertexts, how: list(ciphertexts)  # type: ignore[method-assign]
        return bare

    @property
    def _server(self) -> ServerSession:
        return self.server if self.sanitize else self._bare


def plan_of(
    packing: str,
    shape: str,
    *,
    sanitize_bits: int = 40,
    tokens: int | None = None,
    traits: BackendTraits = USUAL_TRAITS,
) -> Plan:
    """A sanitised plan, of a packing that keeps weights private or one that does not.

    Its results are not divided once they are clean: anyone can do that, so attackers are given what was there before.
    """
    loaded = get_manager().load_packing(packing)
    private = packing not in ("cheetah", "zero_moai")
    plan = compile_plan(
        ModuleShape.parse(shape),
        loaded,
        tokens=tokens,
        private_weights=private,
        sanitize_bits=sanitize_bits,
        traits=traits,
    )
    return divided(plan, 0) or plan


def random_module(shape: ModuleShape, seed: int = 0) -> LoRAModule:
    """Normal weights."""
    rng = np.random.default_rng(seed)
    return LoRAModule("m", rng.normal(size=(shape.rank, shape.d_in)), rng.normal(size=(shape.d_out, shape.rank)), 1.0)
