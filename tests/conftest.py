"""What all tests share: Hypothesis profiles, what only a thorough run has, how a refusal must look, small plans with
sessions for them, and profiles that nobody measured.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

# Before NumPy is loaded: the processes of ``-n auto`` have a core each, and threads of BLAS would fight over them.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Hundreds of processes import the same modules: the first compiles them for all.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

import hypothesis
import pytest

from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.adapter.synthetic import synthetic_module
from helora_core.backend.ledger import Ledger
from helora_core.backend.protocol import Backend
from helora_core.backend.session import ClientSession, InsecureParametersWarning, ServerSession, open_sessions
from helora_core.compiler.ahead import RINGS_AHEAD, chain_ahead
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.plan import Plan
from helora_core.errors import HeloraError
from helora_core.host.manager import get_manager
from helora_core.params.ckks import CKKSParams
from helora_core.planning.profile import ChainFigures, Figure, Profile, Provenance

# Deadlines measure the machine. CI runs the same examples each time; elsewhere every run looks at new ones.
hypothesis.settings.register_profile("helora", deadline=None, max_examples=12, derandomize="CI" in os.environ)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=300)
THOROUGH = os.environ.get("HELORA_THOROUGH", "") == "1"
hypothesis.settings.load_profile("thorough" if THOROUGH else "helora")


def examples(count: int, **options: Any) -> hypothesis.settings:
    """Settings for a law whose examples take long: this many by default, and as many as any in a thorough run."""
    return hypothesis.settings(max_examples=hypothesis.settings.default.max_examples if THOROUGH else count, **options)


Refused = Callable[..., AbstractContextManager[None]]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is marked ``thorough``, unless it is asked for, or every backend is required."""
    left_out = [item for item in items if item.get_closest_marker("thorough")]
    if left_out and not THOROUGH and not config.getoption("--helora-require"):
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def pytest_sessionstart() -> None:
    """Fail where a backend is missing that ``HELORA_EXPECT`` names, which CI sets: its tests would be skipped."""
    for name in filter(None, os.environ.get("HELORA_EXPECT", "").split(",")):
        try:
            get_manager().load_backend(name)
        except HeloraError as error:
            raise pytest.UsageError(f"HELORA_EXPECT names {name}: {error}") from error


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With ``-n``, the tests of a module stay in one process: what they share takes up to half a minute to make."""
    from xdist.scheduler import LoadFileScheduling

    return LoadFileScheduling(config, log)


@pytest.fixture(scope="session")
def refused() -> Refused:
    """``with refused(kind, *words, hint=…):`` – exactly that error is raised; it names the words and has a hint."""

    @contextmanager
    def check(kind: type[HeloraError], *words: str, hint: str = "") -> Iterator[None]:
        with pytest.raises(HeloraError) as caught:
            yield
        error = caught.value
        assert type(error) is kind
        for word in words:
            assert word in error.message
        assert error.hint.strip()
        assert hint in error.hint

    return check


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


TimeNs = Callable[[str, int, int], float]
"""What an operation takes, in nanoseconds, by its name, level and ring degree."""

_AT_THE_TOP = ("encrypt_slots", "encrypt_coefficients", "encrypt_public_slots", "client_send", "server_receive",
               "sanitize", "sanitize_trimmed", "unmask", "embed", "unembed")  # fmt: skip

_AT_EVERY_LEVEL = (
    "encode_slots", "encode_coefficients", "encode_scalar", "multiply_plain", "multiply_scalar", "dot_first",
    "dot_further", "add", "add_plain", "rotate", "rotate_first", "rotate_further", "server_send", "client_receive",
    "decrypt_slots", "decrypt_coefficients",
)  # fmt: skip


AHEAD_OF_TIME = (
    "ahead_key", "ahead_draw", "ahead_encrypt", "ahead_decrypt", "ahead_sums", "ahead_receive", "ahead_multiply_down",
    "ahead_multiply_up", "ahead_result", "online_pad", "online_pad_word", "online_answer", "online_multiply",
    "online_answer_word", "online_open", "online_open_word",
)  # fmt: skip
"""Operations of chains with a wrap limb."""

EXACT = ("ahead_result_exact", "ahead_decrypt_exact")
"""Those of such chains with two data primes besides."""


def _operations(params: CKKSParams) -> Iterator[tuple[str, int]]:
    if params.wrap_bits:
        yield from ((name, params.max_level) for name in (*AHEAD_OF_TIME, *(EXACT if params.max_level else ())))
        return
    yield from ((name, params.max_level) for name in _AT_THE_TOP)
    yield "mask", max(0, params.max_level - 1)
    for level in range(params.max_level, -1, -1):
        yield from ((name, level) for name in _AT_EVERY_LEVEL)
        if level:
            yield "rescale", level


@pytest.fixture(scope="session")
def make_profile() -> Callable[..., Profile]:
    """``make_profile(*chains, time=…, without=…, backend=…)``: every operation takes what ``time`` says, 1 µs if not.

    Without chains it has all those with one to six data primes and with or without a special one, in each ring from
    2048 to 16384; and those of plans that run ahead of time.
    """

    def every_chain() -> list[CKKSParams]:
        online = [
            CKKSParams(ring_degree=ring, data_bits=(60, *(40,) * more), special_bits=special, scale_bits=30)
            for ring in (2048, 4096, 8192, 16384)
            for more in range(6)
            for special in ((), (60,))
        ]
        return [*online, *map(chain_ahead, RINGS_AHEAD)]

    def make(
        *chains: CKKSParams,
        time: TimeNs = lambda operation, level, ring: 1000.0,
        without: Collection[tuple[str, int]] = (),
        backend: str = "synthetic",
    ) -> Profile:
        timed = []
        for params in chains or every_chain():
            figures = []
            for operation, level in _operations(params):
                if (operation, level) not in without:
                    taken = time(operation, level, params.ring_degree)
                    figures.append(
                        Figure(operation=operation, level=level, median_ns=taken, minimum_ns=taken, samples=1)
                    )
            timed.append(
                ChainFigures(
                    ring_degree=params.ring_degree,
                    data_bits=params.data_bits,
                    special_bits=params.special_bits,
                    wrap_bits=params.wrap_bits,
                    figures=tuple(figures),
                )
            )
        provenance = Provenance.here(backend, library="", library_version=None, rounds=1)
        return Profile(provenance=provenance, chains=tuple(timed))

    return make
