"""``helora link`` as a process of its own, and what it refuses."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click.testing
import numpy as np
import pytest

from helora_core.cli.main import main
from helora_core.errors import ConnectionLost
from helora_core.parties.client import Client
from helora_transformers.link.remote import connect

Serve = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def serve(artifact: Path) -> Iterator[Serve]:
    """``helora link ARTIFACT *arguments`` on the emulation, as a process."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "helora_core", "link", str(artifact), "--backend", "numpy", *arguments]
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, encoding="utf-8"))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def refusal() -> Callable[..., dict[str, str]]:
    def run(*arguments: object) -> dict[str, str]:
        shown = click.testing.CliRunner().invoke(main, ["link", *map(str, arguments), "--json"], catch_exceptions=False)
        assert shown.exit_code == 1
        error: dict[str, str] = json.loads(shown.stdout)["error"]
        return error

    return run


def test_two_processes(serve: Serve, world: Any, artifact: Path, tmp_path: Path) -> None:
    process = serve("--listen", f"unix://{tmp_path}/s", "--json")
    assert process.stdout
    serving = json.loads(process.stdout.readline())
    assert (serving["event"], serving["artifacts"], serving["backend"]) == ("serving", [str(artifact)], "numpy")
    (row,) = [each for each in serving["modules"] if each["module"] == "q"]
    assert (row["packing"], row["security_bits"], row["leakage"]) == ("rank_bsgs", 128, "nothing")
    x = world.x(3)
    with connect(serving["address"]) as remote:
        client = Client(remote.offer())
        result = client.run("q", x, remote.open(client.evaluation_keys()))
    errors = np.abs(result.delta - world.modules["q"].reference_delta(x)).max(axis=1)
    assert (errors <= result.error_bounds["q"]).all()
    ended = json.loads(process.stdout.readline())
    assert (ended["event"], ended["opened"], ended["messages"], ended["refused"]) == ("ended", True, 1, 0)
    process.send_signal(signal.SIGINT)
    rest, warnings = process.communicate(timeout=20)
    totals = {"connections": 1, "sessions": 1, "messages": 1, "refused": 0}
    assert json.loads(rest) == {"event": "stopped", **totals, **{key: ended[key] for key in ("bytes_up", "bytes_down")}}
    assert process.returncode == 0
    assert "encrypted nothing" not in serving
    assert "emulation" in warnings
    assert not (tmp_path / "s").exists()


def test_a_server_killed_in_the_middle_is_noticed_at_once(serve: Serve, world: Any, tmp_path: Path) -> None:
    process = serve("--listen", "tcp://0.0.0.0:0", "--insecure-plain-tcp")
    assert process.stdout
    shown = ""
    while not (found := re.search(r"at tcp://0.0.0.0:(\d+); Ctrl-C ends it", shown)):
        shown += process.stdout.readline()
    assert "backend numpy" in shown
    assert "assumed of clients: nothing" in shown
    with connect(f"tcp://127.0.0.1:{found[1]}", timeout=300) as remote, ThreadPoolExecutor(1) as thread:
        client = Client(remote.offer())
        session = remote.open(client.evaluation_keys())
        os.kill(process.pid, signal.SIGSTOP)  # so that the request is surely on its way
        asking = thread.submit(client.delta, "q", world.x(1), session)
        time.sleep(0.2)
        assert not asking.done()
        process.kill()
        with pytest.raises(ConnectionLost):
            asking.result(20)  # long before the link's own timeout
        with pytest.raises(ConnectionLost):
            client.delta("q", world.x(1), session)
    _, warnings = process.communicate()
    assert "NEITHER ENCRYPTED NOR AUTHENTICATED" in warnings


def test_what_is_refused_at_the_start(
    refusal: Callable[..., dict[str, str]], world: Any, artifact: Path, tmp_path: Path
) -> None:
    numpy = ("--backend", "numpy")
    error = refusal(artifact, *numpy, "--listen", "tcp://0.0.0.0:0")
    assert (error["code"], "--insecure-plain-tcp" in error["hint"]) == ("invalid-input", True)
    assert "serving" in refusal(artifact, *numpy, "--listen", "wss://host")["message"]
    (tmp_path / "adapter").mkdir()
    assert "helora compile --adapter" in refusal(tmp_path / "adapter", *numpy)["hint"]
    world.lora_ahead().save(tmp_path / "ahead")
    error = refusal(tmp_path / "ahead", *numpy)
    assert (error["code"], "--assume honest-keys" in error["hint"]) == ("leakage-refused", True)
    accepted = refusal(tmp_path / "ahead", *numpy, "--assume", "honest-keys", "--listen", "wss://host")
    assert accepted["code"] == "invalid-input"  # it came as far as the address


def test_the_command_is_listed_and_light() -> None:
    code = "import sys, helora_transformers.plugin; print(*{'numpy', 'torch', 'socket'} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert shown.stdout.split() == []
    assert "link" in click.testing.CliRunner().invoke(main, ["--help"]).output
