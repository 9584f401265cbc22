"""The backend on a device, held to the CPU engine and to its bars: rows for ``harness/cuda_check.py``, times in ms.

All is a function of a backend and of sizes, so that a test runs it, tiny, with the CPU in a card's place. Times there
mean nothing; a row says what it ran on. helora's plugins must be installed, or on the path with their metadata.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import helora_core as helora
from helora_core.adapter.lora import ModuleShape
from helora_core.adapter.synthetic import synthetic_module
from helora_core.backend import envelope
from helora_core.backend.envelope import PayloadKind
from helora_core.backend.tape import TapeRun
from helora_core.compiler.request import Constraints
from helora_core.data.bundled import bundled_adapter
from helora_core.parties.messages import Download, decode
from helora_core.privacy.leakage import Assumption
from helora_cupy.backend import CupyBackend
from helora_rns.backend import RNSBackend

KIT = Path(__file__).resolve().parents[2] / "tests" / "test_conformance.py"
Row = Callable[..., None]

OPEN = Constraints(private_weights=False, sanitize_bits=None)
PRIVATE = Constraints(assume=frozenset({Assumption.HONEST_KEYS}))


class Sizes(NamedTuple):
    """What is measured.

    Attributes:
        shape: Of the module for one token, and for many sessions.
        wide: Of the module for many tokens.
        modules: Of the bundled adapter, which ones.
        sessions: At once.
        tokens: Of ``cpmm``, and of a batch of correlations.
        repeats: Of each measurement.
    """

    shape: str = "1536:1536:16"
    wide: str = "1536:1536:32"
    modules: str = "all"
    sessions: int = 64
    tokens: int = 4096
    repeats: int = 20


TINY = Sizes("64:64:4", "64:64:4", "layers.0.self_attn.v_proj", 2, 2, 1)


class Watched(CupyBackend):
    """Keeps the programs that it prepares, and the runs that they were last given."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.programs: list[tuple[Any, list[TapeRun]]] = []

    def prepare(self, params: Any, tape: Any) -> Any:
        executable, runs = super().prepare(params, tape), []  # type: Any, list[TapeRun]
        self.programs.append((executable, runs))
        own = executable.run

        def run(asked: Sequence[TapeRun], **options: Any) -> Any:
            runs[:] = asked
            return own(asked, **options)

        executable.run = run
        return executable


def elapsed_ms(call: Callable[[], object], finish: Callable[[], object], repeats: int) -> float:
    """The median of as many calls, each with all that it asked the device for; one more before warms up."""
    call()
    finish()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        finish()
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times)


def compiled(shape: str, packing: str, tokens: int, constraints: Constraints) -> tuple[Any, str, Any]:
    """A module of a shape, compiled; its name; and activations."""
    module = synthetic_module(ModuleShape.parse(shape), seed=1)
    adapter = helora.LoRAAdapter.from_modules([module], source="synthetic")
    lora = helora.compile(adapter, tokens=tokens, backend="rns", packing=packing, constraints=constraints)
    x = np.random.default_rng(1).standard_normal((tokens, module.shape.d_in))
    return lora, module.name, x


def kit(row: Row, timeout: int = 400) -> bool:
    """The conformance kit on the backend, in a process of its own."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(KIT), "--helora-require"]
    try:
        child = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
        last = (child.stdout.strip().splitlines() or ["nothing was printed"])[-1]
        row("conformance kit", exit=child.returncode, said=last, s=time.perf_counter() - start)
        return child.returncode == 0
    except subprocess.TimeoutExpired:
        row("conformance kit", exit=None, said=f"not done after {timeout} s")
        return False


def differential(row: Row, backend: CupyBackend, shapes: Sequence[str], packings: Sequence[str]) -> bool:
    """Results of the same message, by the CPU engine and the device, where nothing random is added: equal bytes."""
    same = True
    for shape in shapes:
        for packing in packings:
            lora, name, x = compiled(shape, packing, 2, OPEN)
            answers = []
            servers = [helora.Server(lora, each) for each in (RNSBackend(), backend)]
            client = helora.Client(servers[0].offer(), backend=RNSBackend())
            request = client.begin(name, x)
            message = request.message()
            for server in servers:
                answers.append(results_in(server.open(client.evaluation_keys()).answer(message)))
            equal = answers[0] == answers[1]
            size = sum(len(each) for run in answers[0] for each in run)
            row("answers of both engines", shape=shape, packing=packing, bytes=size, equal=equal)
            same = same and equal
    return same


def results_in(answer: bytes) -> tuple[tuple[bytes, ...], ...]:
    """The ciphertexts of an answer, which also says how long it took."""
    return decode(envelope.opened(PayloadKind.DOWNLOAD, None, answer).payload, Download).ciphertexts


def one_token(row: Row, backend: CupyBackend, sizes: Sizes) -> None:
    """One token of one session, sanitised: the program alone, and the whole answer to a message."""
    watched = Watched(backend._device)
    lora, name, x = compiled(sizes.shape, "rank_bsgs", 1, PRIVATE)
    client, session = opened(lora, watched)
    client.delta(name, x, session)
    executable, runs = watched.programs[0]
    program = elapsed_ms(lambda: executable.run(list(runs)), watched.finish, sizes.repeats)
    messages = iter([client.begin(name, x).message() for _ in range(sizes.repeats + 1)])
    whole = elapsed_ms(lambda: session.answer(next(messages)), watched.finish, sizes.repeats)
    row("rank_bsgs, one token", shape=sizes.shape, program_ms=program, answer_ms=whole, bar_ms=1.0)


def many_sessions(row: Row, backend: CupyBackend, sizes: Sizes) -> None:
    """One token of each of many sessions in one call of the program, each with keys of its own."""
    watched = Watched(backend._device)
    lora, name, x = compiled(sizes.shape, "rank_bsgs", 1, PRIVATE)
    server = helora.Server(lora, watched)
    runs: list[TapeRun] = []
    for _ in range(sizes.sessions):
        client = helora.Client(server.offer(), backend=RNSBackend())
        client.delta(name, x, server.open(client.evaluation_keys()))
        executable, last = watched.programs[0]
        runs += last
    ms = elapsed_ms(lambda: executable.run(runs), watched.finish, sizes.repeats)
    rate = len(runs) / ms * 1e3
    row("rank_bsgs, sessions at once", shape=sizes.shape, sessions=len(runs), ms=ms, tokens_per_s=rate, bar=20_000)


def whole_adapter(row: Row, backend: CupyBackend, sizes: Sizes) -> None:
    """All modules of the bundled adapter for one token: their programs one after the other, and the whole answers."""
    watched = Watched(backend._device)
    lora = helora.compile(bundled_adapter(), tokens=1, modules=sizes.modules, backend="rns", packing="rank_bsgs",
                          share=False)  # fmt: skip
    client, session = opened(lora, watched)
    rng, answer_ms = np.random.default_rng(1), 0.0
    asked: list[tuple[Any, list[TapeRun]]] = []
    for name in client.modules:
        x = rng.standard_normal((1, client.plans[name].shape.d_in))
        client.delta(name, x, session)  # encodes the weights
        message = client.begin(name, x).message()
        start = time.perf_counter()
        session.answer(message)
        answer_ms += (time.perf_counter() - start) * 1e3
        asked += [(executable, list(runs)) for executable, runs in watched.programs if runs]
        for _, runs in watched.programs:
            runs.clear()
    together: dict[int, tuple[Any, list[TapeRun]]] = {}
    for executable, runs in asked:
        together.setdefault(id(executable), (executable, []))[1].extend(runs)
    programs = elapsed_ms(
        lambda: [executable.run(runs) for executable, runs in together.values()], watched.finish, sizes.repeats
    )
    count = len(client.modules)
    row("bundled adapter, one token", modules=count, programs_ms=programs, answers_ms=answer_ms, bar_ms=12.0)


def matrices(row: Row, backend: CupyBackend, sizes: Sizes) -> None:
    """``cpmm`` on many tokens: the server's program."""
    watched = Watched(backend._device)
    lora, name, x = compiled(sizes.wide, "cpmm", sizes.tokens, PRIVATE)
    client, session = opened(lora, watched)
    client.delta(name, x, session)
    executable, runs = watched.programs[0]
    ms = elapsed_ms(lambda: executable.run(list(runs)), watched.finish, sizes.repeats)
    rate = sizes.tokens / ms * 1e3
    row("cpmm, program", shape=sizes.wide, tokens=sizes.tokens, ms=ms, tokens_per_s=rate, bar=1_000_000)


def pools(row: Row, backend: CupyBackend, sizes: Sizes) -> None:
    """Filling pools of ``precomputed``: the server's share, its messages read and written."""
    lora, name, _ = compiled(sizes.wide, "precomputed", 1, PRIVATE)
    client, session = opened(lora, backend)
    done, busy = 0, 0.0
    while done < sizes.tokens:
        preparation = client.prepare(name, sizes.tokens)
        while not preparation.done:
            message = preparation.message()
            start = time.perf_counter()
            answer = session.answer(message)
            busy += time.perf_counter() - start
            preparation.receive(answer)
        done = client.left(name)
    row("precomputed, filling pools", shape=sizes.wide, tokens=done, s=busy, tokens_per_s=done / busy, bar=1_000_000)


def opened(lora: Any, backend: CupyBackend) -> tuple[Any, Any]:
    """A client on the CPU, and its session at a server on the device."""
    server = helora.Server(lora, backend)
    client = helora.Client(server.offer(), backend=RNSBackend())
    return client, server.open(client.evaluation_keys())


def run(card: Any, bench: Any, *, quick: bool) -> None:
    """All of it on this machine's card, as ``harness/cuda_check.py`` calls it; AssertionError if something is wrong."""
    if "rns" not in helora.get_manager().backends():
        bench.row("backend", ran=False, said="helora's plugins are not installed: give their wheels")
        return
    right = measured(bench.row, CupyBackend(), Sizes(modules="layers.[0-3].*", repeats=5) if quick else Sizes())
    assert right, "the engines disagree"
    assert quick or kit(bench.row), "the conformance kit fails"


def measured(row: Row, backend: CupyBackend, sizes: Sizes) -> bool:
    """Everything but the kit; whether the engines agree."""
    row("backend", device=backend.device, memory_limit=backend._device.limit)
    same = differential(row, backend, [sizes.shape, "37:90:5"], ["rank_bsgs", "cpmm", "halevi_shoup_bsgs"])
    for work in (one_token, many_sessions, whole_adapter, matrices, pools):
        work(row, backend, sizes)
    return same
