"""``helora proxy`` as a process: what it prints, what it does not, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import click.testing
import openai
import pytest

from helora_core.cli.main import main
from helora_serve.capture import found, text_needles, token_needles

PROMPT = "w71 w82 w93 w64 w75 w44"
KEY = "sk-proj-abcdefghijklmnopqrstuvwxyz"
PIPES: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}


@pytest.fixture
def start(place: Any, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """``helora proxy ADDRESS *arguments`` as a process."""
    started: list[subprocess.Popen[str]] = []
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HELORA_")}
    environment |= {"XDG_CONFIG_HOME": str(tmp_path), "COLUMNS": "80", "HELORA_BACKEND": "rns"}

    def starting(address: str, *arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "helora_core", "proxy", address, "--base", place.base, "--port", 0, *arguments]
        started.append(subprocess.Popen(list(map(str, command)), text=True, env=environment, **PIPES))
        return started[-1]

    yield starting
    for process in started:
        process.kill()
        process.communicate()


def ended(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What it printed further, once Ctrl-C has ended it well."""
    process.send_signal(signal.SIGINT)
    printed = process.communicate(timeout=120)
    assert process.returncode == 0, printed
    return printed


def used(url: str, model: str) -> list[str]:
    """The texts of a conversation with what was started: answers, refusals, an answer that nobody reads to its end."""
    with openai.OpenAI(base_url=url, api_key=KEY, max_retries=0, timeout=120) as client:
        messages: Any = [{"role": "user", "content": PROMPT}]
        answer = client.chat.completions.create(model=model, messages=messages, max_tokens=8).choices[0].message.content
        refused: dict[str, Any]
        for refused in ({"max_tokens": 4000}, {"user": PROMPT}, {"model": PROMPT}, {"temperature": 3}):
            with pytest.raises(openai.APIStatusError):
                client.chat.completions.create(**{"model": model, "messages": messages, **refused})
        stream = client.chat.completions.create(model=model, messages=messages, max_tokens=90, stream=True)
        next(stream)
        stream.close()
        return [PROMPT, str(answer)]


def private_in(printed: str, texts: list[str], place: Any) -> set[str]:
    tokenizer = place.loaded()[1]
    needles = [text_needles(text) for text in [*texts, KEY, *PROMPT.split()]]
    needles += [token_needles(tokenizer(text)["input_ids"]) for text in texts]
    return found(chain.from_iterable(needles), printed.encode()) | {word for word in PROMPT.split() if word in printed}


def test_people_are_told_what_is_served_and_nobody_what_was_said(start: Any, hosting: Any, place: Any) -> None:
    host = hosting("legal", "medical")
    process = start(host.address)
    shown = [process.stdout.readline() for _ in range(9)]
    while not shown[-1].startswith("  print("):
        shown.append(process.stdout.readline())
    assert max(map(len, shown)) <= 81
    text = " ".join(" ".join(shown).split())
    for said in (host.address, "base:legal, base:medical", "computes on ciphertexts", "no text", "curl http://"):
        assert said in text
    url = text.partition("address ")[2].split()[0]
    texts = used(url, "base:legal")
    out, err = ended(process)
    assert private_in("".join(shown) + out + err, texts, place) == set()
    assert private_in(f"{texts[0]} {KEY}", texts, place) >= {"utf-8", "w71"}  # it would have been found
    assert "base:legal: 9 tokens given" in out
    assert "refused 400 context_length_exceeded" in out
    curl, _, _ = "".join(shown).partition("curl ")[2].partition("\n\n")
    assert json.loads(curl.partition("-d '")[2].rstrip("'\n"))["model"] == "base:medical"


def test_machines_read_a_document_a_line(start: Any, hosting: Any, place: Any) -> None:
    process = start(hosting().address, "--json", "--name", "small")
    serving = json.loads(process.stdout.readline())
    assert (serving["event"], serving["models"], serving["mode"]) == (
        "serving",
        ["small", "small:default"],
        "client-key",
    )
    texts = used(serving["url"], "small:default")
    out, err = ended(process)
    events = [json.loads(line) for line in out.splitlines()]
    assert [each["event"] for each in events] == ["answered", "refused", "refused", "cancelled", "stopped"]
    assert events[0]["completion_tokens"] == 8
    assert [each["code"] for each in events[1:3]] == ["context_length_exceeded", "model_not_found"]
    assert private_in(out + err, texts, place) == set()


def test_one_command_has_both_parties_for_a_try(start: Any, place: Any) -> None:
    process = start(str(place.adapter), "--json", "--packing", "rank_bsgs")
    serving = json.loads(process.stdout.readline())
    assert (serving["mode"], serving["host"]) == ("one-process", None)
    assert "nobody is protected" in serving["sees"]
    used(serving["url"], "base:default")
    ended(process)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("tcp://127.0.0.1:1",), "connection-lost"),
        (("nowhere",), "invalid-input"),
        (("{adapter}", "--base", "nowhere"), "invalid-input"),
        (("gopher://host",), "invalid-input"),
        (("tcp://127.0.0.1:1", "--base", "nowhere"), "connection-lost"),
        (("tcp://127.0.0.1:1", "--insecure-listen", "192.0.2.1"), "invalid-input"),
    ],
)  # fmt: skip
def test_what_is_refused_at_the_start(place: Any, arguments: tuple[str, ...], code: str) -> None:
    wanted = ["proxy", *arguments, "--port", "0", "--json", *(() if "--base" in arguments else ("--base", place.base))]
    wanted = [str(each).replace("{adapter}", str(place.adapter)) for each in wanted]
    shown = click.testing.CliRunner().invoke(main, wanted, catch_exceptions=False)
    assert shown.exit_code == 1
    assert json.loads(shown.stdout)["error"]["code"] == code
    assert ("OPEN BEYOND THIS MACHINE" in shown.stderr) == ("--insecure-listen" in arguments)


def test_the_command_is_listed_and_light() -> None:
    code = "import sys, helora_serve.proxy.cli; print(*{'torch', 'starlette', 'uvicorn', 'numpy'} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert shown.stdout.split() == []
    listed = click.testing.CliRunner().invoke(main, ["proxy", "--help"]).output
    assert "--allow-origin" in listed
    assert " --host" not in listed
