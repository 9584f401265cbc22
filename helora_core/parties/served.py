"""What a server serves: modules, their weights, and the limits of all its sessions."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property

from helora_core.backend.checked_backend import CheckedBackend, checked
from helora_core.backend.checked_correlations import CheckedCorrelations
from helora_core.backend.encoder import PlaintextEncoder
from helora_core.backend.origin import origin_of
from helora_core.backend.protocol import Backend
from helora_core.compiler.compiled import CompiledModule
from helora_core.compiler.integers import integer_factors
from helora_core.compiler.ir import OpKind
from helora_core.compiler.key_sets import key_sets
from helora_core.compiler.requirements import require_capabilities
from helora_core.errors import InvalidInput
from helora_core.execution.constants import ConstantCache, EncodedConstants
from helora_core.execution.modular import OnlineRound, online_of
from helora_core.execution.telemetry import Telemetry
from helora_core.params.ckks import CKKSParams
from helora_core.parties.batches import AllBatches
from helora_core.parties.limits import ServerLimits
from helora_core.parties.store import Store
from helora_core.parties.weights import ModularWeights, fingerprint_of
from helora_core.privacy.leakage import Assumption
from helora_core.privacy.policy import require_accepted, require_private_weights


class Served:
    """The modules of a server, the same for all its sessions, which may be in any threads; arguments and errors are
    those of ``Server``.
    """

    def __init__(
        self,
        modules: Mapping[str, CompiledModule | Sequence[CompiledModule]],
        backend: Backend | CheckedBackend,
        *,
        private_weights: bool = True,
        assume: Collection[Assumption] = (),
        limits: ServerLimits | None = None,
        constants: ConstantCache | None = None,
        telemetry: Telemetry | None = None,
        clock: Callable[[], float] = time.monotonic,
        store: Store | AllBatches | None = None,
    ) -> None:
        if not modules:
            raise InvalidInput("Server: there are no modules to serve.", hint="Give at least one compiled module.")
        self.modules = {
            name: (each,) if isinstance(each, CompiledModule) else tuple(each) for name, each in modules.items()
        }
        self._by_plan = {(name, each.plan.digest): each for name, many in self.modules.items() for each in many}
        plans = {compiled.plan.digest: compiled.plan for compiled in self._by_plan.values()}
        for plan in plans.values():
            if private_weights:
                require_private_weights(plan.packing.name, plan.packing.leakage, sanitize_bits=plan.sanitize_bits)
            require_accepted(plan.packing.name, plan.packing.leakage, assume)
            require_capabilities(backend, plan)
        self.backend = checked(backend)
        self.origin = origin_of(self.backend.library)
        self.limits = limits or ServerLimits()
        self.key_sets = key_sets(list(plans.values()))
        self.constants = constants or ConstantCache()
        self.telemetry = telemetry or Telemetry()
        self.clock = clock
        self.batches = store if isinstance(store, AllBatches) else AllBatches(store, self.limits)
        self._factors: dict[tuple[str, str], ModularWeights] = {}
        self._factoring = threading.Lock()
        self._encoders = {each.params: PlaintextEncoder(backend, each.params) for each in self.key_sets}

    def sanitized(self, params: CKKSParams) -> Counter[int]:
        """How many results of each level are sanitised in one run of every module whose plan has these parameters."""
        levels: Counter[int] = Counter()
        for plan in (many[0].plan for many in self.modules.values()):
            if plan.params == params:
                sanitized = (op for op in plan.program.ops if op.kind is OpKind.SANITIZE)
                levels.update(plan.values[op.args[0]].level for op in sanitized)
        return levels

    def compiled(self, name: str, plan: str) -> CompiledModule | None:
        """A module with the plan of that digest, if it is served."""
        return self._by_plan.get((name, plan))

    def weights(self, name: str, plan: str) -> EncodedConstants:
        """A module's weights for the plan of that digest, encoded now if they are not already: once for all
        sessions.
        """
        compiled = self._by_plan[name, plan]
        return self.constants.constants(compiled.plan, compiled.module, self._encoders[compiled.plan.params])

    def factors(self, name: str, plan: str) -> ModularWeights:
        """A module's weights for online rounds with prepared correlations."""
        found = self._factors.get((name, plan))
        if found is not None:
            return found
        with self._factoring:
            if (name, plan) not in self._factors:
                compiled = self._by_plan[name, plan]
                matrices = integer_factors(compiled.plan, compiled.module)
                online = self.correlations.online_weights(matrices)
                self._factors[name, plan] = ModularWeights(matrices, online, fingerprint_of(matrices))
            return self._factors[name, plan]

    @cached_property
    def correlations(self) -> CheckedCorrelations:
        """What the backend does for plans that run ahead of time."""
        return self.backend.correlations

    def online(self, name: str, plan: str) -> tuple[OnlineRound, ModularWeights] | None:
        """The online round of a module by a plan, and its weights; None if it is not served."""
        compiled = self.compiled(name, plan)
        return None if compiled is None else (online_of(compiled.plan), self.factors(name, plan))
