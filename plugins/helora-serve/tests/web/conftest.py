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

import pytest

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


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """The same random bytes on both sides: those of a call depend on how many were before it. Call to begin anew."""
    calls = itertools.count()

    def random(count: int) -> bytes:
        call = next(calls)
        parts = [hashlib.sha256(f"{call}.{i}".encode()).digest() for i in range(-(-count // 32))]
        return b"".join(parts)[:count]

    def begin() -> None:
        nonlocal calls
        calls = itertools.count()
        monkeypatch.setattr(os, "urandom", random)

    yield begin


def text(data: bytes) -> str:
    """Bytes in a job."""
    return base64.b64encode(data).decode()


@pytest.fixture
def web() -> Path:
    """Where the modules are."""
    return WEB
