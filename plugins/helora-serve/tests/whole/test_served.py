"""``helora serve`` with all modes, as a process: each route and each log line says which mode it is of."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from helora_core.errors import HeloraError
from helora_serve.capture import found, number_needles, text_needles, token_needles
from helora_serve.client import connect
from helora_serve.split.client import connect_split

TEXT = "w71 w84 w93 w66 w88 w12 w45"


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_one_server_has_three_modes_and_logs_nothing_of_what_it_sees(place: Any, artifact: Path) -> None:
    command = [
        sys.executable, "-m", "helora_core", "serve", str(artifact), "--backend", "numpy", "--port", "0", "--json",
        "--split", str(place.base), "--adapter", str(place.adapter), "--hosted",
    ]  # fmt: skip
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, encoding="utf-8") as process:
        assert process.stdout is not None
        serving = json.loads(process.stdout.readline())
        assert [each["mode"] for each in serving["modes"]] == ["client-key", "split", "hosted"]
        assert serving["split"]["adapters"] == ["default"]
        prompt = [71, 84, 93, 66, 88, 12, 45]
        with connect(serving["address"]) as remote:
            assert remote.document.mode == "client-key"
        with connect_split(serving["address"], place.base, adapter="default") as split:
            made = split.generate(prompt, 5)
            assert made == place.greedy(prompt, 5)
            rows = split.ends.embedding[prompt[0]]
        connection = http.client.HTTPConnection(urlsplit(serving["address"]).netloc, timeout=120)
        said = json.dumps({"messages": [{"role": "user", "content": TEXT}], "max_tokens": 3})
        connection.request("POST", "/v1/chat/compare", said, {"content-type": "application/json"})
        assert connection.getresponse().read()
        connection.request("GET", "/v1/split/selftest")
        assert json.loads(connection.getresponse().read())["tokens_equal"]
        connection.request("GET", "/metrics")
        metrics = connection.getresponse().read()
        connection.close()
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=120)
    assert process.returncode == 0
    lines = [line for line in log.splitlines() if "] " in line]
    assert any("[split] session" in line for line in lines)
    assert any("[hosted] compared" in line for line in lines)
    assert f"helora_split_tokens_total {len(prompt) + 4}.0".encode() in metrics
    for needles in (text_needles(TEXT), token_needles(prompt), token_needles(made), number_needles("rows", rows)):
        assert not found(needles, log.encode() + metrics)


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_without_an_artifact_it_serves_the_other_modes_and_says_so_in_80_columns(place: Any) -> None:
    command = [sys.executable, "-m", "helora_core", "serve", "--port", "0", "--split", str(place.base)]
    command += ["--adapter", str(place.adapter), "--hosted"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, encoding="utf-8") as process:
        assert process.stdout is not None
        lines: list[str] = []
        while not lines or "Ctrl-C" not in lines[-1]:
            lines.append(process.stdout.readline().rstrip("\n"))
        assert max(map(len, lines)) <= 80
        named = [line.split(maxsplit=1) for line in lines if line[:1].strip()]
        assert [each[0] for each in named] == [
            "mode", "sees", "mode", "sees", "address", "clients", "limits", "state", "Ctrl-C"
        ]  # fmt: skip
        address = dict(named)["address"]
        with connect_split(address, place.base, adapter="default") as split:
            assert split.generate([71, 84], 3) == place.greedy([71, 84], 3)
        with pytest.raises(HeloraError), connect(address):
            pass
        process.send_signal(signal.SIGHUP)  # there is nothing to load anew
        connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=60)
        connection.request("GET", "/healthz")
        assert connection.getresponse().read() == b"ok\n"
        connection.close()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 0
