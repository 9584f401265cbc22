"""Both parties of one plan, through helora's public ``Client`` and ``Server``, and the best plan of a backend."""

from __future__ import annotations

from collections.abc import Iterator

from helora_core.adapter.lora import ModuleShape
from helora_core.adapter.synthetic import synthetic_activations, synthetic_module
from helora_core.compiler.plan import Plan
from helora_core.compiler.request import Constraints, PlanRequest
from helora_core.execution.reference import precision_bits
from helora_core.host.manager import get_manager
from helora_core.parties.adapter_run import ModuleJob
from helora_core.parties.client import Client
from helora_core.parties.result import Result
from helora_core.parties.server import Server
from helora_core.planning.calibrate import calibrate
from helora_core.planning.planner import CalibratedBackend, Candidate, rank
from helora_core.planning.profile_files import load_profile
from helora_rns.turns import seconds_of

_MODULE, _ACTIVATIONS = 1, 2
"""Seeds: the same numbers wherever a shape is measured."""

PRIVATE, OPEN = Constraints(), Constraints(private_weights=False, sanitize_bits=None)


class Parties:
    """A synthetic module of the plan's shape at a server, and a client of it; keys are made and weights encoded.

    Args:
        backend: Name of the backend.
        plan: The plan, for what that backend can do.
    """

    def __init__(self, backend: str, plan: Plan) -> None:
        self.plan = plan
        self.module = synthetic_module(plan.shape, seed=_MODULE)
        self.x = synthetic_activations(plan.shape, 1, seed=_ACTIVATIONS)
        compiled = ModuleJob(self.module, self.x, plan).compiled
        library, name = get_manager().load_backend(backend), self.module.name
        private = plan.sanitize_bits is not None and not plan.packing.client_finishes
        server = Server({name: compiled}, library, private_weights=private)
        self._client = Client(
            server.offer(), backend=library, adapter={name: self.module} if plan.packing.client_finishes else None
        )
        self._session = server.open(self._client.evaluation_keys())
        server.served.weights(name, compiled.plan.digest)
        self._name = name

    def run(self) -> Result:
        """One request for one token, from activations to Δ."""
        return self._client.run(self._name, self.x, self._session)

    def ready(self, runs: int) -> int:
        """Encrypt zeros for the results of so many runs, as an idle server does; returns how many there are."""
        return self._session.prepare(runs)

    def bits(self, result: Result) -> float:
        """Bits of max|Δ| that are right."""
        return precision_bits(result.delta, self.module.reference_delta(self.x))


def machine_of(backend: str, *, quick: bool) -> CalibratedBackend:
    """A backend with the profile kept for this machine; without one it is calibrated now, unless it must be quick."""
    library, profile = get_manager().load_backend(backend), load_profile(backend)
    if profile is None and not quick:
        spec = get_manager().backends()[backend]
        profile = calibrate(library, library=spec.spec.library, library_version=spec.library_version)
    return CalibratedBackend(library, profile)


def candidates(
    machine: CalibratedBackend, backend: str, shape: str, packing: str, tokens: int, constraints: Constraints
) -> list[Candidate]:
    """A packing's plans on a backend, in the smallest ring that suffices and the next, or its one refusal."""
    request = PlanRequest(shape=ModuleShape.parse(shape), tokens=(tokens,), constraints=constraints)
    return rank(request, {backend: machine}, [get_manager().load_packing(packing)])


def best_parties(
    machine: CalibratedBackend,
    backend: str,
    shape: str,
    packing: str,
    tokens: int = 1,
    constraints: Constraints = PRIVATE,
) -> Parties:
    """The parties of the packing's fastest plan for one token: each is run, and the fastest kept.

    Raises:
        HeloraError: The packing has no plan.
    """
    found = list(_plans(candidates(machine, backend, shape, packing, 1, constraints)))
    timed: list[tuple[float, int, Parties]] = []
    for i, plan in enumerate(found):
        parties = Parties(backend, plan)
        parties.run()
        timed.append((min(seconds_of(parties.run) for _ in range(2)), i, parties))
    return min(timed)[2]


def _plans(options: list[Candidate]) -> Iterator[Plan]:
    plans = {each.plan.digest: each.plan for each in options if each.plan is not None and each.refusal is None}
    refusals = [each.refusal for each in options if each.refusal is not None]
    if not plans and refusals:
        raise refusals[0]
    yield from plans.values()


def split(result: Result) -> str:
    """Milliseconds of client, server and client, as the report has them."""
    times = result.report.times
    return " + ".join(f"{each / 1e6:.2f}" for each in (times.encrypt, times.compute, times.decrypt)) + " ms"
