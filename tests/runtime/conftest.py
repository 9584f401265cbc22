"""What the runtime tests share: small plans, and sessions for them on each backend of this repository."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest

from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.adapter.synthetic import synthetic_module
from helora_core.backend.ledger import Ledger
from helora_core.backend.protocol import Backend
from helora_core.backend.session import ClientSession, InsecureParametersWarning, ServerSession, open_sessions
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.plan import Plan
from helora_core.manager import get_manager
from helora_core.params.ckks import CKKSParams

# Far too small to be secure, and quick for it.
QUICK = CKKSParams(ring_degree=1024, data_bits=(55, 36, 36), special_bits=(55,), scale_bits=36)


class Bench(NamedTuple):
    """A compiled module with open sessions."""

    plan: Plan
    module: LoRAModule
    client: ClientSession
    server: ServerSession
    ledger: Ledger


@pytest.fixture(scope="session", params=["numpy", "tenseal"])
def backend(request: pytest.FixtureRequest) -> Backend:
    return get_manager().load_backend(request.param)


@pytest.fixture(scope="session")
def numpy_backend() -> Backend:
    """For what is core's own doing, whatever the backend."""
    return get_manager().load_backend("numpy")


@pytest.fixture(scope="session")
def make_bench() -> Callable[..., Bench]:
    """Compiles a shape with a packing and opens sessions, insecure and quick unless told otherwise."""

    def make(
        backend: Backend, shape: str = "37:90:5", packing: str = "rank_bsgs", params: CKKSParams | None = QUICK
    ) -> Bench:
        plan = compile_plan(
            ModuleShape.parse(shape), get_manager().load_packing(packing), params=params, private_weights=False
        )
        ledger = Ledger()
        if params is None:
            client, server = open_sessions(backend, plan.params, plan.rotation_steps, ledger=ledger)
        else:
            with pytest.warns(InsecureParametersWarning):
                client, server = open_sessions(backend, plan.params, plan.rotation_steps, ledger=ledger, insecure=True)
        return Bench(plan, synthetic_module(plan.shape, seed=1), client, server, ledger)

    return make
