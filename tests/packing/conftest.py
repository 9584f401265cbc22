"""Modules and activations to pack, and plans in a ring so small that a test takes milliseconds."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import strategies as st

from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.backend.ledger import Ledger
from helora_core.backend.session import InsecureParametersWarning, open_sessions
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.plan import Plan
from helora_core.execution.constants import encode_constants
from helora_core.host.manager import get_manager
from helora_core.packing.protocol import ModulusUse, Packing, Vector
from helora_core.params.ckks import CKKSParams
from helora_core.parties.module_run import ModuleRun, run_module
from tests.registered import ACCEPTED

SMALL = CKKSParams(ring_degree=1024, data_bits=(60, 40, 40), special_bits=(60,), scale_bits=40)
"""Insecure, which no packing can see: 512 slots."""

SMALL_TO_MASK = CKKSParams(ring_degree=1024, data_bits=(46, 44), special_bits=(20,), scale_bits=32)
"""The same for packings that mask, which take two primes."""


SMALL_AHEAD = CKKSParams(ring_degree=1024, data_bits=(42, 42), special_bits=(), scale_bits=84, wrap_bits=64)
"""The same for packings that run ahead of time."""

_PARAMS = {ModulusUse.MASKED: SMALL_TO_MASK, ModulusUse.CORRELATED: SMALL_AHEAD}


@st.composite
def _modules(draw: st.DrawFn) -> LoRAModule:
    """Any shape that fits 512 slots, with rows and columns of zeros, or nothing but zeros."""
    dimension = st.one_of(st.integers(1, 20), st.sampled_from([63, 64, 65, 128, 300, 512]))
    d_in, d_out, rank = draw(dimension), draw(dimension), draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    down, up = rng.normal(size=(rank, d_in)), rng.normal(size=(d_out, rank))
    down[list(draw(st.sets(st.integers(0, rank - 1))))] = 0
    up[list(draw(st.sets(st.integers(0, d_out - 1))))] = 0
    scaling = draw(st.one_of(st.just(0.0), st.floats(-32, -1e-3), st.floats(1e-3, 32)))
    return LoRAModule("drawn", down, up, scaling)


@pytest.fixture(scope="session")
def modules() -> st.SearchStrategy[LoRAModule]:
    """Draw with ``data.draw(modules)``."""
    return _modules()


@pytest.fixture(scope="session")
def plan_for() -> Callable[..., Plan]:
    """A plan in 512 slots, for tokens that are there to be run together and a module whose zeros are left out."""

    def plan(shape: ModuleShape, packing: Packing, tokens: int | None = None, module: LoRAModule | None = None) -> Plan:
        params = _PARAMS.get(packing.modulus_use, SMALL)
        return compile_plan(
            shape, packing, params=params, tokens=tokens, module=module, private_weights=False, assume=ACCEPTED
        )

    return plan


@pytest.fixture(scope="session")
def activations() -> Callable[..., Vector]:
    """Normal activations of shape (tokens, d_in), the same for the same seed."""
    return lambda module, tokens, seed=0: np.random.default_rng(seed).normal(size=(tokens, module.shape.d_in))


@st.composite
def _wide_modules(draw: st.DrawFn) -> LoRAModule:
    """Any shape, also one that takes several ciphertexts of 512 slots each way, with rows and columns of zeros."""
    dimension = st.one_of(st.integers(1, 20), st.sampled_from([63, 64, 65, 300, 512, 513, 1100]))
    d_in, d_out, rank = draw(dimension), draw(dimension), draw(st.sampled_from([1, 2, 3, 5, 8, 13, 40]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    down, up = rng.normal(size=(rank, d_in)), rng.normal(size=(d_out, rank))
    down[list(draw(st.sets(st.integers(0, rank - 1), max_size=3)))] = 0
    up[list(draw(st.sets(st.integers(0, d_out - 1), max_size=3)))] = 0
    return LoRAModule("drawn", down, up, draw(st.sampled_from([-32.0, 0.0, 0.5, 2.0])))


@pytest.fixture(scope="session")
def wide_modules() -> st.SearchStrategy[LoRAModule]:
    """Draw with ``data.draw(wide_modules)``; d may exceed the slots, and the rank may exceed d."""
    return _wide_modules()


@pytest.fixture(scope="session")
def small_plan() -> Callable[..., Plan]:
    """A plan in 512 slots for tokens that are there to be run together."""

    def plan(module: LoRAModule, packing: Packing, tokens: int | None, *, zeros: bool = False) -> Plan:
        return compile_plan(
            module.shape, packing, params=SMALL, tokens=tokens, module=module if zeros else None, private_weights=False
        )

    return plan


@pytest.fixture(scope="session")
def peak_live() -> Callable[[Plan], int]:
    """The most ciphertexts alive at once when each is dropped after its last use."""

    def peak(plan: Plan) -> int:
        alive, most = 0, 0
        for freed in plan.program.last_reads():
            alive += 1
            most = max(most, alive)
            alive -= len(freed)
        return most

    return peak


@pytest.fixture(scope="session")
def run_on() -> Callable[[str, Plan, LoRAModule, Vector], ModuleRun]:
    """Run a plan on a backend, whether its ring is secure or not."""

    def run(backend: str, plan: Plan, module: LoRAModule, x: Vector) -> ModuleRun:
        ledger = Ledger()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", InsecureParametersWarning)
            client, server = open_sessions(
                get_manager().load_backend(backend),
                plan.params,
                plan.rotation_steps,
                ledger=ledger,
                insecure=True,
                public_key=plan.needs_public_key,
            )
        return run_module(plan, encode_constants(plan, module, server.encoder), client, server, x)

    return run
