"""One way to compile and to run a cell, on every commit of this repository: only this module knows of API changes.

asv runs today's benchmarks against the code of an old commit, and so do the workers of ``ab.py`` and
``grow_history.py``. This module imports nothing of the harness, and helora_core only inside its functions: a
commit that lacks something gives ``NotThere``, which is n/a in a table, and never a broken discovery.

``VERSION`` is part of every benchmark's version: raise it when a change here changes what is measured.
"""

from __future__ import annotations

import contextlib
import inspect
import time
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

VERSION = "1"
SEED = 1
MANAGERS = ("helora_core.host.manager", "helora_core.manager")
_PROFILE = ("helora_core.planning.profile_files", "helora_core.planning.profile", "helora_core.runtime.profile")


class NotThere(NotImplementedError):
    """This commit or this machine cannot do it; asv treats it as n/a when ``setup`` raises it."""


def found(name: str, *modules: str) -> Any:
    """The attribute, from the first of the modules that has it: functions have moved."""
    reason = ""
    for module in modules:
        try:
            return getattr(import_module(module), name)
        except (ImportError, AttributeError) as error:
            reason = str(error)
    raise NotThere(f"this commit has no {name} that can be imported: {reason}")


def _accepted(function: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Those options that the function of this commit takes."""
    return {name: value for name, value in options.items() if name in inspect.signature(function).parameters}


def compiled(
    packing: str,
    shape: str,
    *,
    tokens: int = 1,
    free_scales: bool = True,
    ahead: bool = False,
    private: bool = False,
    capabilities: Any = None,
) -> Any:
    """The plan of a packing by its name for ``d_in:d_out:r``, with the defaults of this commit.

    Args:
        packing: Name of the packing.
        shape: ``d_in:d_out:r``.
        tokens: Activation vectors that will be run together; commits that lay out for no batch leave it out.
        free_scales: Whether the backend gives plaintexts scales of their own.
        ahead: Accept a plan that runs ahead of time: what it assumes of clients, and the bits that it keeps.
        private: Keep the weights private, so that results are sanitised; commits that cannot are refused.
        capabilities: Those of the backend, for what a private plan has to know of it; None for a usual one.

    Raises:
        NotThere: The commit has no such packing, or refuses the shape; its own words are the message.
    """
    compile_plan = found("compile_plan", "helora_core.compiler.compile")
    parse = found("ModuleShape", "helora_core.adapter.lora").parse
    refusal = found("HeloraError", "helora_core.errors")
    try:
        strategy = found("get_manager", *MANAGERS)().load_packing(packing)
        if private and "private_weights" not in inspect.signature(compile_plan).parameters:
            raise NotThere("this commit cannot keep weights private")
        # A commit with private weights by default has to be asked for results sent as they are.
        options: dict[str, Any] = {"free_scales": free_scales, "private_weights": private}
        if tokens > 1:  # cells of one token keep the plan that the published history has of them
            options["tokens"] = tokens
        with contextlib.suppress(NotThere):  # commits that take the trait by itself
            traits = found("BackendTraits", "helora_core.compiler.request")
            exact = private and capabilities is not None and hasattr(traits, "of")
            options["traits"] = traits.of([capabilities]) if exact else traits(free_scales=free_scales)
        if ahead:
            options |= {"assume": assumptions(), "precision_bits": 0.0}
        return compile_plan(parse(shape), strategy, **_accepted(compile_plan, options))
    except refusal as error:
        raise NotThere(str(error)) from error


def assumptions() -> frozenset[Any]:
    """All that plans may assume of clients, accepted."""
    return frozenset(found("Assumption", "helora_core.privacy.leakage"))


def plan_facts(plan: Any) -> dict[str, Any]:
    """A plan's provenance in plain numbers: see ``Provenance`` in ``rows.py``."""
    params, scales, verdict = plan.params, plan.scales, plan.verdict
    bits = [float(getattr(scales, name, params.scale_bits)) for name in ("input_bits", "down_bits", "up_bits")]
    return {
        "digest": plan.digest,
        "ring_degree": params.ring_degree,
        "modulus_bits": [*params.data_bits, *params.special_bits],
        "scale_bits": bits[:1] if len(set(bits)) == 1 else bits,
        "levels": params.max_level,
        "security": f"{verdict.security_bits} bits, classical",
        "tokens_per_run": plan.tokens_per_run,
        "rotation_keys": len(plan.rotation_steps),
    }


def plan_counts(plan: Any) -> dict[str, int]:
    """Operations of one execution, by name."""
    counts = plan.counts
    return {name: int(getattr(counts, name)) for name in counts.__struct_fields__}


def inner_counts(run: Any) -> dict[str, int]:
    """What a library says that a run took inside whole programs; nothing if it does not, or the commit cannot tell."""
    inner = getattr(run, "inner", None)
    found = {} if inner is None else {name: int(getattr(inner, name)) for name in inner.__struct_fields__}
    return found if any(found.values()) else {}


def plan_bytes(plan: Any) -> dict[str, int]:
    """Bytes that a run moves and keys take, by the plan; nothing for commits that cannot say."""
    try:
        sizes = import_module("helora_core.compiler.sizes")
        return {
            "bytes_up": sizes.bytes_up(plan.program, plan.params),
            "bytes_down": sizes.bytes_down(plan.program, plan.values, plan.params),
            "bytes_keys": sizes.key_bytes(plan.program, plan.params),
        }
    except (ImportError, AttributeError, TypeError):
        return {}


class Prepared:
    """A cell with keys made and weights encoded, ready to be run again and again.

    Args:
        backend: Name of the backend.
        packing: Name of the packing.
        shape: ``d_in:d_out:r``.
        tokens: Activation vectors per run.
        seed: Seed of the keys, for emulations; real libraries use their own randomness.
        private: Keep the weights private, so that results are sanitised.
        wrap: Wraps the backend.

    Raises:
        NotThere: The backend, its library or an ability is missing here.
    """

    def __init__(
        self,
        backend: str,
        packing: str,
        shape: str,
        tokens: int,
        *,
        seed: int | None = None,
        private: bool = False,
        wrap: Callable[[Any], Any] = lambda backend: backend,
    ) -> None:
        refusal = found("HeloraError", "helora_core.errors")
        self._wrap, self._private = wrap, private
        try:
            self._open(backend, packing, shape, tokens, seed)
        except refusal as error:
            raise NotThere(str(error)) from error

    def _open(self, name: str, packing: str, shape: str, tokens: int, seed: int | None) -> None:
        manager = found("get_manager", *MANAGERS)()
        self.backend = self._wrap(manager.load_backend(name))
        self.library, self.library_version = library_of(manager, name)
        self.provides_security = manager.backends()[name].spec.provides_security
        free = bool(getattr(self.backend.capabilities, "free_plaintext_scale", True))
        self.plan = compiled(
            packing,
            shape,
            tokens=tokens,
            free_scales=free,
            private=self._private,
            capabilities=self.backend.capabilities,
        )
        parsed = found("ModuleShape", "helora_core.adapter.lora").parse(shape)
        synthetic = "helora_core.adapter.synthetic"
        self.module = found("synthetic_module", synthetic)(parsed, seed=SEED)
        self.x = found("synthetic_activations", synthetic)(parsed, tokens, seed=SEED + 1)
        require = found("require_capabilities", "helora_core.compiler.requirements", "helora_core.runtime.adapter_run")
        require(self.backend, self.plan)
        self.ledger = found("Ledger", "helora_core.backend.ledger")()
        open_sessions = found("open_sessions", "helora_core.backend.session")
        options = {"public_key": getattr(self.plan, "needs_public_key", False), "ledger": self.ledger, "seed": seed}
        self._client, self._server = open_sessions(
            self.backend, self.plan.params, self.plan.rotation_steps, **_accepted(open_sessions, options)
        )
        self.transport_ns = 0
        for name in ("send", "receive", "serialize", "deserialize"):
            if not hasattr(self._server, name):
                continue  # of other commits
            setattr(self._server, name, self._clocked(getattr(self._server, name)))
        encode = found(
            "encode_constants",
            "helora_core.execution.constants",
            "helora_core.runtime.constants",
            "helora_core.runtime.executor",
        )
        # Before plaintexts were made without keys, the server made them.
        self._constants = encode(self.plan, self.module, getattr(self._server, "encoder", self._server))
        self._run_module = found("run_module", "helora_core.parties.module_run", "helora_core.runtime.module_run")
        self._owner = self.module if self.plan.packing.client_finishes else None

    def run(self) -> Any:
        """One run of all tokens; the result has ``delta``, ``times``, ``bytes_up`` and ``bytes_down``."""
        return self._run_module(
            plan=self.plan,
            constants=self._constants,
            client=self._client,
            server=self._server,
            ledger=self.ledger,
            x=self.x,
            client_module=self._owner,
        )

    def program(self) -> Callable[[], Any]:
        """The server's work in one run, without messages; only the first round of several."""
        client_run = found("ClientRun", "helora_core.parties.client_run", "helora_core.runtime.client_run")
        plan, constants, server = self.plan, self._constants, self._server
        if hasattr(constants, "exponent"):
            plan = plan.with_exponent(constants.exponent)
        batch = self.x[: plan.tokens_per_run]
        if "client" in inspect.signature(client_run).parameters:
            inputs = [server.receive(message) for message in client_run(plan, self._client, batch).messages()]
        else:
            inputs = [server.deserialize(payload) for payload in client_run(plan, batch).inputs(self._client)]
        executor = "helora_core.execution.executor"
        try:
            execution = found("Execution", executor)
        except NotThere:
            execute = found("execute", executor, "helora_core.runtime.executor")
            return lambda: execute(plan, server, inputs, constants)
        return lambda: execution(plan, constants).proceed(server, inputs)

    def encrypted(self) -> Any:
        """A ciphertext that the server's operations take."""
        message = self._client.send(self._client.encrypt(self.x[0, : self.plan.params.slots], scale_bits=30))
        return self._server.receive(message)

    @property
    def evaluator(self) -> Any:
        """What the server's operations are called on, as the ledger sees them."""
        return self._server.evaluator

    def _clocked(self, pass_on: Any) -> Any:
        """Adds what the server takes to read and write messages to ``transport_ns``, which no ledger does."""

        def clocked(message: Any) -> Any:
            start = time.perf_counter_ns()
            passed = pass_on(message)
            self.transport_ns += time.perf_counter_ns() - start
            return passed

        return clocked

    def elapsed_ns(self) -> dict[str, int]:
        """Time inside the library since the keys were made, by operation; nothing for commits that do not take it."""
        taken = getattr(self.ledger, "elapsed_ns", None)
        return {} if taken is None else {name: int(ns) for name, ns in taken().items()}

    def predicted_ms(self) -> float:
        """Predicted time of one run of all tokens, by the profile of the backend on this machine.

        Raises:
            NotThere: There is no such profile, or it lacks what the plan needs.
        """
        refusal = found("HeloraError", "helora_core.errors")
        load_profile, provenance = (found(name, *_PROFILE) for name in ("load_profile", "Provenance"))
        predict = found("predict", "helora_core.planning.predict", "helora_core.runtime.predict")
        name = self.backend.name
        try:
            profile = load_profile(name)
            if profile is None:
                raise NotThere(f"{name} was not calibrated here: helora calibrate --backend {name}")
            here = provenance.here(
                name, library=self.library, library_version=self.library_version, rounds=profile.provenance.rounds
            )
            foreign = {"architecture", "cpu", "library_version"} & {*profile.provenance.differences(here)}
            if foreign:
                raise NotThere(
                    f"the profile of {name} was made with another {' and '.join(sorted(foreign))}: "
                    f"helora calibrate --backend {name}"
                )
            return float(predict(self.plan, profile, tokens=len(self.x)).total_ms)
        except refusal as error:
            raise NotThere(str(error)) from error

    def timed_ns(self) -> int:
        """Wall time of one run."""
        start = time.perf_counter_ns()
        self.run()
        return time.perf_counter_ns() - start

    def precision_bits(self, delta: Any) -> float:
        """Precision of a result, compared with the plain adapter."""
        measure = found("precision_bits", "helora_core.execution.reference", "helora_core.runtime.reference")
        return float(measure(delta, self.module.reference_delta(self.x)))


def library_of(manager: Any, backend: str) -> tuple[str, str]:
    """Name and version of the library that does the arithmetic; of our own engine, the kernels that run too."""
    if backend == "rns":
        with contextlib.suppress(NotThere, PackageNotFoundError):
            chosen = found("chosen", "helora_rns.choice")
            return "helora-rns", f"{version('helora-rns')}, kernels {chosen()}"
    registered = manager.backends()[backend]
    library = registered.spec.library or backend
    known = getattr(registered, "library_version", None)
    if known is None:
        try:
            known = version(library)
        except PackageNotFoundError:
            known = "unknown"
    return library, str(known)
