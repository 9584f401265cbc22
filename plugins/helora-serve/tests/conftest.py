"""Small adapters that take milliseconds on the emulation, servers in this process, and relays that fail on purpose."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import hypothesis
import pytest

from helora_core.adapter.lora import ModuleShape
from helora_core.adapter.synthetic import synthetic_activations, synthetic_module
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.compiled import CompiledModule, Part
from helora_core.errors import BackendUnavailable, HeloraError
from helora_core.host.manager import get_manager
from helora_core.parties.client import Client
from helora_core.parties.compiled_lora import CompiledLoRA
from helora_core.parties.server import Server
from helora_core.privacy.leakage import Assumption
from helora_serve.auth import Access, Tokens, new_token
from helora_serve.catalogue import fixed
from helora_serve.client import Remote, connect
from helora_serve.client.remote import Connector
from helora_serve.client.wire import Carrier
from helora_serve.host import Host
from helora_serve.limits import Limits
from helora_serve.loading import Artifacts
from helora_serve.service import Service, State
from tests.loading import module_at

hypothesis.settings.register_profile("serve", deadline=None)
hypothesis.settings.load_profile("serve")

SHAPE = ModuleShape.parse("24:20:3")
LONG_S = 120.0
"""Seconds in which what must happen happens, on a machine that is busy with much else."""


def beside(name: str) -> ModuleType:
    """A module in this folder."""
    return module_at(Path(__file__).parent / f"{name}.py")


class World:
    """An adapter of two modules, ``q`` and ``v``."""

    assume = frozenset({Assumption.HONEST_KEYS})

    def __init__(self, seed: int = 1) -> None:
        self.modules = {name: synthetic_module(SHAPE, seed=seed + i, name=name) for i, name in enumerate("qv")}

    @staticmethod
    def x(tokens: int, seed: int = 0) -> Any:
        """Activations."""
        return synthetic_activations(SHAPE, tokens, seed=seed)

    def lora(self, backend: str = "numpy", packing: str = "rank_bsgs") -> CompiledLoRA:
        """It, on a backend; skips the test if that is not installed."""
        try:
            library = get_manager().load_backend(backend)
        except BackendUnavailable as error:
            pytest.skip(error.message)
        made = tuple(self._compiled(name, packing) for name in self.modules)
        return CompiledLoRA(made, library, secure=backend != "numpy")

    def lora_ahead(self) -> CompiledLoRA:
        """``q`` by a plan that runs ahead of time."""
        made = self._compiled("q", "precomputed_exact", precision_bits=8.0, assume=self.assume)
        return CompiledLoRA((made,), get_manager().load_backend("numpy"), secure=False, assume=self.assume)

    def _compiled(self, name: str, packing: str, **options: Any) -> CompiledModule:
        module = self.modules[name]
        plan = compile_plan(SHAPE, get_manager().load_packing(packing), module=module, **options)
        return CompiledModule(module, (Part(name=name, d_out=SHAPE.d_out),), plan)

    def right(self, result: Any, x: Any, module: str = "q") -> bool:
        """Whether Δ is what it should be, within the bound that the client states."""
        errors = abs(result.deltas[module] - self.modules[module.rpartition("/")[2]].reference_delta(x)).max(axis=1)
        return bool((errors <= result.error_bounds[module]).all())


@pytest.fixture(scope="session")
def world() -> World:
    return World()


@pytest.fixture(scope="session")
def other() -> World:
    """An adapter with equal plans and other weights."""
    return World(seed=100)


@pytest.fixture(scope="session")
def artifact(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The adapter, compiled into a folder."""
    folder = tmp_path_factory.mktemp("serve") / "served"
    world.lora().save(folder)
    return folder


@pytest.fixture(scope="session")
def artifact_ahead(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``q`` by a plan that runs ahead of time, compiled into a folder."""
    folder = tmp_path_factory.mktemp("serve") / "ahead"
    world.lora_ahead().save(folder)
    return folder


class Served:
    """A server in this process."""

    def __init__(self, host: Host, stack: ExitStack) -> None:
        self.host, self.service, self._stack = host, host.service, stack

    def connect(self, address: str | None = None, **options: Any) -> Remote:
        """A client of it, closed with the test."""
        return self._stack.enter_context(connect(address or self.host.url, **options))

    def session(self, address: str | None = None, **options: Any) -> tuple[Client, Any]:
        """A ``Client``, and its session."""
        remote = self.connect(address, **options)
        client = Client(remote.offer())
        return client, remote.open(client.evaluation_keys())

    def metric(self, name: str, **labels: str) -> float:
        """A sample of its metrics; 0 if there is none."""
        self.service.count()
        return self.service.metrics.registry.get_sample_value(name, labels) or 0.0

    @property
    def computed(self) -> int:
        """Requests that were answered."""
        return int(self.metric("helora_requests_total", code=""))

    def later(self, seconds: float) -> None:
        """So much time has passed for its sessions, which are looked through; once answers of ``split`` have left."""

        async def sweep() -> None:
            while self.service.split is not None and any(each.busy for each in self.service.split._sessions.values()):
                await asyncio.sleep(0.005)
            for sessions in filter(None, (self.service.sessions, self.service.split)):
                sessions.clock = partial(lambda clock: clock() + seconds, sessions.clock)
                sessions.sweep()

        assert self.host._loop is not None
        asyncio.run_coroutine_threadsafe(sweep(), self.host._loop).result(LONG_S)


Serving = Callable[..., Served]


@pytest.fixture
def serving(artifact: Path) -> Iterator[Serving]:
    """``serving(what, …)``: a server on loopback until the test is over, of artifacts by their names or of a compiled
    adapter; of ``artifact`` if nothing is given.
    """
    with ExitStack() as stack:

        def start(
            directories: Any = None,
            *,
            state: Path | None = None,
            tokens: Tokens | None = None,
            access: Access | None = None,
            assume: frozenset[Assumption] = frozenset(),
            host: dict[str, Any] | None = None,
            most_tokens: int = 4096,
            layers: Any = None,
            hosted: Any = None,
            **limits: Any,
        ) -> Served:
            bounds = Limits(tokens=most_tokens, **limits)
            if isinstance(directories, CompiledLoRA):
                once = fixed(Server(directories, limits=bounds.of_server))
                load: Any = lambda batches: once()  # noqa: E731
            else:
                load = Artifacts(directories or {"": artifact}, limits=bounds, backend="numpy", assume=assume)
            service = Service(
                load,
                limits=bounds,
                access=access or Access(tokens, any_host=tokens is not None),
                state=State(state),
                layers=layers,
                hosted=hosted,
            )
            return Served(stack.enter_context(Host(service, **(host or {}))), stack)

        yield start


class Impatient:
    """A carrier that takes the server for silent after so many seconds."""

    def __init__(self, carrier: Carrier, seconds: float) -> None:
        self._carrier, self._seconds = carrier, seconds
        self.send, self.close = carrier.send, carrier.close

    def receive(self, seconds: float) -> bytes | None:
        return self._carrier.receive(min(seconds, self._seconds))


@pytest.fixture
def silence(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """``silence(seconds)``: from now on clients replace a socket on which nothing came for so long. They go on trying
    for as long as ever, so that one that is replaced too soon, on a slow machine, costs time alone.
    """
    dial = Connector.dial

    def after(seconds: float) -> None:
        monkeypatch.setattr(Connector, "dial", lambda *given, **how: Impatient(dial(*given, **how), seconds))

    return after


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """``unreachable()``: from now on it is an error to try to reach a server."""

    def never(*given: Any, **how: Any) -> Carrier:
        raise AssertionError("a server was tried to be reached")

    return lambda: monkeypatch.setattr(Connector, "dial", never)


@pytest.fixture(scope="session")
def until() -> Callable[..., None]:
    """``until(condition)`` waits for it."""

    def wait(condition: Callable[[], object]) -> None:
        end = time.monotonic() + LONG_S
        while not condition():
            assert time.monotonic() < end, "it did not come to that in time"
            time.sleep(0.005)

    return wait


@pytest.fixture
def relayed() -> Iterator[Callable[..., Any]]:
    """``relayed(port, (kind, up, frame, connection), …)``: a relay to a server, with faults; ended with the test."""
    faults = beside("faults")
    with ExitStack() as stack:

        def start(port: int, *happen: tuple[str, bool, int, int], **options: Any) -> Any:
            named = [faults.Fault(faults.Kind[kind], *which) for kind, *which in happen]
            return stack.enter_context(faults.FaultyRelay(port, *named, **options))

        yield start


@pytest.fixture
def posting() -> Iterator[Callable[..., Any]]:
    """``posting(port, {number: kind})``: a relay that lets HTTP through alone, with faults; ended with the test."""
    faults = beside("post_faults")
    with ExitStack() as stack:

        def start(port: int, happen: dict[int, str] | None = None) -> Any:
            named = {number: faults.PostKind[kind] for number, kind in (happen or {}).items()}
            return stack.enter_context(faults.PostRelay(port, named))

        yield start


@pytest.fixture(scope="session")
def certificates() -> ModuleType:
    """What makes certificates."""
    return beside("certificates")


@pytest.fixture(scope="session")
def leaving() -> ModuleType:
    """What opens a session and leaves before its welcome."""
    return beside("leaving")


@pytest.fixture(scope="session")
def noise() -> ModuleType:
    """What makes frames that nobody should send."""
    return beside("noise")


@pytest.fixture(scope="session")
def soak() -> ModuleType:
    """What measures many clients at once, and the page of its figures."""
    return beside("soak")


@pytest.fixture(scope="session")
def transcript() -> ModuleType:
    """What renews the transcript of the protocol page."""
    return beside("transcript")


@pytest.fixture
def alice() -> tuple[Tokens, str]:
    """The tokens of alice and bob, and alice's own."""
    made, line = new_token("alice")
    _, others = new_token("bob")
    return Tokens(dict(each.split(":") for each in (line, others))), made


@pytest.fixture(scope="session")
def refused() -> Callable[..., Any]:
    """``with refused(kind, *words):`` – exactly that error is raised, names the words and has a hint."""

    @contextmanager
    def check(kind: type[HeloraError], *words: str) -> Iterator[None]:
        with pytest.raises(HeloraError) as caught:
            yield
        assert type(caught.value) is kind, caught.value
        assert caught.value.hint.strip()
        for word in words:
            assert word in str(caught.value)

    return check
