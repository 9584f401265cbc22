"""``helora serve`` as a process of its own: started, reloaded, killed, started again, stopped."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click.testing
import pytest

from helora_core.cli.main import main
from helora_core.errors import ConnectionLost, CorrelationUsed
from helora_core.parties.client import Client
from helora_serve.client import connect

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals")
Serve = Callable[..., tuple[subprocess.Popen[str], dict[str, Any]]]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """``helora serve ARTIFACT *arguments`` on the emulation, as a process; and what it says first."""
    started: list[subprocess.Popen[str]] = []

    def start(artifact: Path, *arguments: str) -> tuple[subprocess.Popen[str], dict[str, Any]]:
        command = [sys.executable, "-m", "helora_core", "serve", str(artifact), "--backend", "numpy", "--json"]
        pipe = subprocess.PIPE
        started.append(subprocess.Popen([*command, *arguments], stdout=pipe, stderr=pipe, text=True, encoding="utf-8"))
        assert started[-1].stdout
        return started[-1], json.loads(started[-1].stdout.readline())

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def port() -> str:
    """A port that is free."""
    with socket.create_server(("127.0.0.1", 0)) as one:
        return str(one.getsockname()[1])


def test_it_serves_and_stops(serve: Serve, world: Any, artifact: Path) -> None:
    process, serving = serve(artifact, "--port", "0", "--queries", "50")
    assert (serving["event"], serving["mode"], serving["backend"]) == ("serving", "client-key", "numpy")
    assert (serving["authentication"], serving["tls"], serving["insecure"]) == (None, False, None)
    assert serving["limits"]["queries"] == 50
    assert serving["encrypts"] is False
    with connect(serving["address"]) as remote:
        client = Client(remote.offer())
        session = remote.open(client.evaluation_keys())
        assert world.right(client.run("q", world.x(3), session), world.x(3))
        process.send_signal(signal.SIGTERM)
        rest, log = process.communicate(timeout=120)
    assert json.loads(rest) == {"event": "stopped", "sessions": 1, "resumed": 0, "queries": 3}
    assert process.returncode == 0
    lines = [line for line in log.splitlines() if " session " in line]
    assert lines
    assert all("[client-key]" in line for line in lines)


def test_a_server_killed_in_the_middle_and_started_again_is_not_noticed(
    serve: Serve, world: Any, artifact: Path, port: str, tmp_path: Path
) -> None:
    options = ("--port", port, "--state", str(tmp_path / "state"), "--queries", "10000")
    process, serving = serve(artifact, *options)
    with connect(serving["address"], timeout=120, restart=120) as remote:
        client = Client(remote.offer())
        session = remote.open(client.evaluation_keys())
        for restart in range(2):
            os.kill(process.pid, signal.SIGSTOP)  # so that the request is surely on its way
            threading.Timer(0.3, process.kill).start()
            begun: list[Any] = []

            def again(old: Any = process, begun: list[Any] = begun) -> None:
                old.wait()
                begun.append(serve(artifact, *options))

            starting = threading.Thread(target=again)
            starting.start()
            x = world.x(2, restart)
            assert world.right(client.run("q", x, session), x)
            starting.join()
            process = begun[0][0]
        assert session.reconnects >= 2
    process.send_signal(signal.SIGTERM)
    rest, _ = process.communicate(timeout=120)
    assert json.loads(rest)["queries"] == 2


def test_a_server_that_is_killed_and_does_not_come_back_is_not_waited_for(
    serve: Serve, world: Any, artifact: Path, refused: Any, unreachable: Any
) -> None:
    process, serving = serve(artifact, "--port", "0")
    with connect(serving["address"], timeout=120, restart=0.5) as remote:
        client = Client(remote.offer())
        session = remote.open(client.evaluation_keys())
        assert world.right(client.run("q", world.x(1), session), world.x(1))
        os.kill(process.pid, signal.SIGSTOP)  # so that a request is surely on its way
        killed = threading.Timer(0.3, process.kill)
        killed.start()
        start = time.monotonic()
        with refused(ConnectionLost, "0.5 seconds", "nobody listens"):  # not as long as for one that is busy
            client.run("q", world.x(1), session)
        assert time.monotonic() - start >= 0.5
        unreachable()
        with refused(ConnectionLost):  # and no later one waits at all
            client.run("q", world.x(1), session)


def test_no_correlation_is_used_twice_through_kills(
    serve: Serve, world: Any, artifact_ahead: Path, port: str, tmp_path: Path
) -> None:
    options = ("--port", port, "--state", str(tmp_path / "state"), "--assume", "honest-keys")
    process, serving = serve(artifact_ahead, *options)
    with connect(serving["address"], timeout=120, restart=120) as remote:
        client = Client(remote.offer())
        session = remote.open(client.evaluation_keys())
        preparation = client.prepare("q", 300)
        while not preparation.done:
            preparation.receive(session.answer(preparation.message()))
        right = used = 0
        for seed in range(150):
            if seed == 20:
                process.kill()
                process.wait()
                process, _ = serve(artifact_ahead, *options)
            try:
                assert world.right(client.run("q", world.x(1, seed), session), world.x(1, seed))
                right += 1
            except CorrelationUsed:
                used += 1
        assert right >= 150 - 64
        assert used <= 64


def test_a_hang_up_loads_anew(serve: Serve, world: Any, other: Any, tmp_path: Path, until: Any) -> None:
    folder = tmp_path / "served"
    world.lora().save(folder)
    process, serving = serve(folder, "--port", "0")
    with connect(serving["address"]) as remote:
        client = Client(remote.offer())
        old = remote.open(client.evaluation_keys())
        other.lora().save(tmp_path / "new")
        folder.rename(tmp_path / "old")
        (tmp_path / "new").rename(folder)
        process.send_signal(signal.SIGHUP)
        until(lambda: remote.offer() and remote.document.version != serving["version"])
        newer = Client(remote.offer())
        session = remote.open(newer.evaluation_keys())
        assert other.right(newer.run("q", world.x(1), session), world.x(1))
        assert world.right(client.run("q", world.x(1), old), world.x(1))


def test_what_is_insecure_is_said_in_every_line(serve: Serve, world: Any, artifact: Path) -> None:
    process, serving = serve(artifact, "--port", "0", "--host", "0.0.0.0", "--insecure")
    assert serving["insecure"] == "no TLS, no authentication"
    with connect(serving["address"].replace("0.0.0.0", "127.0.0.1")) as remote:
        client = Client(remote.offer())
        remote.open(client.evaluation_keys())
    process.send_signal(signal.SIGINT)
    _, log = process.communicate(timeout=120)
    lines = [line for line in log.splitlines() if " session " in line]
    assert lines
    assert all("[INSECURE: no TLS, no authentication]" in line for line in lines)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "nothing to serve"),
        (("/nowhere",), "no compiled artifact"),
        (("ARTIFACT", "ARTIFACT"), "no name"),
        (("a=ARTIFACT", "a=ARTIFACT"), "the name of another"),
        (("ARTIFACT", "--host", "0.0.0.0"), "anybody is served"),
        (("ARTIFACT", "--tls-certificate", "ARTIFACT/manifest.json"), "without the others"),
        (("ARTIFACT", "--tokens", "ARTIFACT/manifest.json"), "no NAME:SHA256"),
        (("ARTIFACT", "--host", "192.0.2.1", "--insecure"), "cannot be listened at"),
    ],
)
def test_what_cannot_be_served_is_refused(artifact: Path, arguments: tuple[str, ...], words: str) -> None:
    given = [each.replace("ARTIFACT", str(artifact)) for each in arguments]
    shown = click.testing.CliRunner().invoke(
        main, ["serve", *given, "--backend", "numpy", "--port", "0", "--json"], catch_exceptions=False
    )
    assert shown.exit_code == 1
    error = json.loads(shown.stdout)["error"]
    assert error["code"] == "invalid-input"
    assert words in error["message"]


def test_a_damaged_artifact_is_named_by_the_folder_that_was_given(artifact: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(artifact, damaged)
    (damaged / "manifest.json").write_text("{}", encoding="utf-8")
    shown = click.testing.CliRunner().invoke(main, ["serve", str(damaged), "--backend", "numpy", "--json"])
    assert shown.exit_code == 1
    assert str(damaged) in json.loads(shown.stdout)["error"]["message"]
    assert "helora-version-" not in shown.stdout


def test_it_says_what_it_is_in_80_columns(artifact: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "helora_core", "serve", str(artifact), "--backend", "numpy", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8")
    assert process.stdout
    lines = []
    while not lines or "Ctrl-C" not in lines[-1]:
        lines.append(process.stdout.readline().rstrip("\n"))
    process.send_signal(signal.SIGINT)
    _, log = process.communicate(timeout=120)
    assert max(map(len, lines)) <= 80
    assert [line.split()[0] for line in lines if line[:1].strip()] == [
        "mode", "sees", "address", "adapter", "plans", "clients", "limits", "state", "Ctrl-C"
    ]  # fmt: skip
    assert "encrypts nothing" in log
