"""What tests of the client in JavaScript share: Node, a build at a time, and the random bytes of both sides."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helora_core.adapter.lora import LoRAAdapter, LoRAModule
from helora_core.compiler.request import Constraints
from helora_core.parties import request
from helora_core.parties.compile import compile
from helora_core.parties.compiled_lora import CompiledLoRA

HERE = Path(__file__).parent
WEB = HERE.parents[1] / "src" / "helora_serve" / "web"

Run = Callable[..., dict[str, Any]]


@pytest.fixture(params=["relaxed", "simd128", "scalar"])
def build(request: pytest.FixtureRequest) -> str:
    """Each build by itself: no other one is tried."""
    return str(request.param)


@pytest.fixture
def run_job(tmp_path: Path) -> Run:
    """Runs a script of this folder with a job, and returns what it prints."""

    def run(script: str, job: dict[str, Any], *, relaxed: bool = True) -> dict[str, Any]:
        path = tmp_path / "job.json"
        path.write_text(json.dumps({"relaxed": relaxed} | job))
        command = ["node", "--no-warnings", str(HERE / script), str(path)]
        ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        assert ran.returncode == 0, ran.stderr[-3000:]
        found: dict[str, Any] = json.loads(ran.stdout)
        return found

    return run


class Partner:
    """A script of this folder that answers lines of JSON with lines of JSON."""

    def __init__(self, script: str, setup: dict[str, Any]) -> None:
        command = ["node", "--no-warnings", str(HERE / script)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.ask(**setup)

    def ask(self, **command: Any) -> dict[str, Any]:
        """What it answers; bytes go both ways as base64 of fields whose names are given here as bytes."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        plain = {name: text(each) if isinstance(each, bytes) else each for name, each in command.items()}
        self._process.stdin.write(json.dumps(plain) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "it has ended"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End it."""
        self._process.communicate()


@pytest.fixture
def partner() -> Iterator[Callable[..., Partner]]:
    """Makes partners, and ends them."""
    made: list[Partner] = []

    def make(script: str, **setup: Any) -> Partner:
        made.append(Partner(script, setup))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """The same random bytes on both sides: those of a call depend on how many were before it. Call to begin anew."""
    calls = itertools.count()

    def random(count: int) -> bytes:
        call = next(calls)
        parts = [hashlib.sha256(f"{call}.{i}".encode()).digest() for i in range(-(-count // 32))]
        return b"".join(parts)[:count]

    def begin(at: int = 0) -> None:
        nonlocal calls
        calls = itertools.count(at)
        monkeypatch.setattr(os, "urandom", random)
        monkeypatch.setattr(request, "new_request_id", lambda: random(16))

    return begin


def text(data: bytes) -> str:
    """Bytes in a job."""
    return base64.b64encode(data).decode()


@pytest.fixture
def web() -> Path:
    """Where the modules are."""
    return WEB


def _module(name: str, d_out: int, d_in: int, rank: int, seed: int) -> LoRAModule:
    rng = np.random.default_rng(seed)
    down, up = rng.standard_normal((rank, d_in)), rng.standard_normal((d_out, rank))
    return LoRAModule(name, down / np.sqrt(d_in), up / np.sqrt(rank), 2.0)


@pytest.fixture(scope="session")
def adapter() -> LoRAAdapter:
    """Two modules of one input, one of another, and one whose Δ is zero in half of its outputs."""
    half = _module("layers.0.o_proj", 320, 72, 4, 3)
    half = LoRAModule(half.name, half.down, np.where(np.arange(320)[:, None] < 160, half.up, 0.0), half.scaling)
    modules = [_module("layers.0.q_proj", 96, 64, 8, 0), _module("layers.0.v_proj", 48, 64, 4, 1),
               _module("layers.0.down_proj", 64, 200, 6, 2), half]  # fmt: skip
    return LoRAAdapter({module.name: module for module in modules}, "test")


@pytest.fixture(scope="session")
def compiled(adapter: LoRAAdapter) -> Callable[[str, bool, int], CompiledLoRA]:
    """Compiles the adapter, once for each plan."""
    known: dict[tuple[str, bool, int], CompiledLoRA] = {}

    def make(packing: str, private: bool, tokens: int) -> CompiledLoRA:
        key = packing, private, tokens
        if key not in known:
            constraints = Constraints(private_weights=private)
            known[key] = compile(adapter, packing=packing, backend="rns", constraints=constraints, tokens=tokens)
        return known[key]

    return make
