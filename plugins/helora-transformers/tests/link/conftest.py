"""Small adapters that take milliseconds, and raw sockets for peers that do not keep to the rules."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from queue import Queue
from typing import Any

import hypothesis
import pytest

from helora_core.adapter.lora import ModuleShape
from helora_core.adapter.synthetic import synthetic_activations, synthetic_module
from helora_core.artifact.plan_file import Demands
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.compiled import CompiledModule, Part
from helora_core.errors import BackendUnavailable, HeloraError
from helora_core.host.manager import get_manager
from helora_core.parties.compiled_lora import CompiledLoRA
from helora_core.parties.limits import ServerLimits
from helora_core.parties.server import Server
from helora_core.privacy.leakage import Assumption
from helora_transformers.link.host import Ended, Host
from helora_transformers.link.remote import Remote, connect

hypothesis.settings.register_profile("link", deadline=None)
hypothesis.settings.load_profile("link")

SHAPE = ModuleShape.parse("24:20:3")
PACKINGS = {"q": "rank_bsgs", "v": "rank_bsgs"}


class World:
    """An adapter of two modules, ``q`` and ``v``."""

    modules = {name: synthetic_module(SHAPE, seed=1, name=name) for name in PACKINGS}  # noqa: RUF012

    assume = frozenset({Assumption.HONEST_KEYS})

    @staticmethod
    def x(tokens: int, seed: int = 0) -> Any:
        """Activations."""
        return synthetic_activations(SHAPE, tokens, seed=seed)

    def lora(self, backend: str = "numpy", **packings: str) -> CompiledLoRA:
        """It, on a backend; skips the test if that is not installed."""
        try:
            library = get_manager().load_backend(backend)
        except BackendUnavailable as error:
            pytest.skip(error.message)
        made = [self._compiled(name, packing) for name, packing in (packings or PACKINGS).items()]
        return CompiledLoRA(tuple(made), library, secure=backend != "numpy")

    def lora_ahead(self) -> CompiledLoRA:
        """``q`` by a plan that runs ahead of time."""
        made = self._compiled("q", "precomputed_exact", precision_bits=8.0, assume=self.assume)
        return CompiledLoRA((made,), get_manager().load_backend("numpy"), secure=False, assume=self.assume)

    def _compiled(self, name: str, packing: str, **options: Any) -> CompiledModule:
        module = self.modules[name]
        plan = compile_plan(SHAPE, get_manager().load_packing(packing), module=module, **options)
        return CompiledModule(module, (Part(name=name, d_out=SHAPE.d_out),), plan)

    @staticmethod
    def load(artifact: Path, assume: frozenset[Assumption] = frozenset(), **limits: Any) -> Server:
        """The server of an artifact, on the emulation."""
        return Server.load(artifact, backend="numpy", limits=ServerLimits(**limits), demands=Demands(assume=assume))


@pytest.fixture(scope="session")
def world() -> World:
    return World()


@pytest.fixture(scope="session")
def artifact(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The adapter, compiled into a folder."""
    folder = tmp_path_factory.mktemp("link") / "served"
    world.lora().save(folder)
    return folder


class Hosted:
    """A host, and who was at it: ``connect`` and ``raw`` are ended with the test, ``over`` has those that ended."""

    def __init__(self, host: Host, over: Queue[Ended], stack: ExitStack) -> None:
        self.host, self.over, self._stack = host, over, stack

    def connect(self, **options: Any) -> Remote:
        return self._stack.enter_context(connect(self.host.address, **options))

    def raw(self, sent: bytes = b"") -> socket.socket:
        """A socket of somebody who sends what he likes."""
        address = self.host.address.removeprefix("tcp://").split(":")
        peer = self._stack.enter_context(socket.create_connection((address[0], int(address[1])), timeout=10))
        peer.sendall(sent)
        return peer


@pytest.fixture
def hosting(artifact: Path) -> Iterator[Callable[..., Hosted]]:
    """``hosting(server, …)``: a host on loopback until the test is over; the adapter's if no server is given."""
    with ExitStack() as stack:

        def start(server: Server | None = None, address: str = "tcp://127.0.0.1:0", **options: Any) -> Hosted:
            over: Queue[Ended] = Queue()
            host = Host(server or World.load(artifact), address, ended=over.put, **options)
            stack.callback(host.stop)
            return Hosted(host, over, stack)

        yield start


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
