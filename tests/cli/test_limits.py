"""Whatever shape is planned for, the answer comes soon, in little memory, and is a plan or a refusal."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from helora_core.host.manager import get_manager

MEMORY = 500 << 20
SECONDS = 6.0
"""Of CPU: a machine that does other things counts up to three times as many."""

_MEASURED = """
import contextlib, io, json, sys, time
from pathlib import Path
from helora_core.cli.main import main
for command in json.loads(sys.argv[1]):
    started, status, shown = time.process_time(), 0, io.TextIOWrapper(io.BytesIO())
    try:
        with contextlib.redirect_stdout(shown):
            main([*command, "--json"])
    except SystemExit as end:
        status = end.code
    # Not ru_maxrss, which remembers what the process was that started this one.
    most = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    used = [time.process_time() - started, int(most.split()[1]) * 1024]
    shown.flush()
    print(json.dumps([command, status, json.loads(shown.buffer.getvalue()), *used]))
"""

_HUGE = ("plan", "--shape", "300000:300000:16")

ABSURD: dict[str, tuple[str, ...]] = {
    "plan": ("plan", "--shape", "1000000:1000000:16"),
    "explain": ("explain", "--shape", "1000000:1000000:16"),
    "a billion": ("plan", "--shape", "999999999:999999999:16"),
    "ten billion": ("plan", "--shape", "10000000000:10000000000:16"),
    "digits": ("plan", "--shape", "9" * 5000 + ":16:16"),
    "rings": ("plan", "--shape", "1000000:1000000:16", "--rings"),
    "rank": ("plan", "--shape", "100000:100000:100000"),
    "one side": ("plan", "--shape", "16:1000000:1"),
    "tokens": ("plan", "--shape", "512:512:8", "--tokens", "10000000"),
    "predict": ("predict", "--shape", "1000000:1000000:16"),
    **{
        name: (*_HUGE, "--packing", name, "--no-private-weights", "--assume", "honest-keys")
        for name in get_manager().packings()
    },
}


@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured as Linux has it")
def test_an_answer_comes_soon() -> None:
    """One process for all: none may leave much behind either."""

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (4 * MEMORY, 4 * MEMORY))  # libraries reserve more than they use

    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, json.dumps(list(ABSURD.values()))],
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        preexec_fn=limited,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(ABSURD), done.stderr
    for command, status, document, seconds, memory in answers:
        assert status in (0, None) or (status == 1 and document["error"]["code"]), command
        assert seconds < SECONDS, command
        assert memory < MEMORY, command


@pytest.mark.parametrize("tokens", ["0", str((1 << 31) + 1), "9" * 400])
def test_tokens_that_nobody_has_are_a_wrong_command_line(helora: Callable[..., Any], tokens: str) -> None:
    assert helora("plan", "--shape", "8:8:1", "--tokens", tokens).exit_code == 2


def test_the_refusal_says_what_to_do(refusal: Callable[..., Any]) -> None:
    error = refusal("plan", "--shape", "300000:300000:16", "--packing", "cpmm")
    assert error["code"] == "program-too-large"
    assert "cpmm" in error["message"]
    assert "helora explain" in error["hint"]


def test_a_batch_that_is_out_of_reach_is_none(helora_json: Callable[..., Any]) -> None:
    zero_moai = ("--packing", "zero_moai", "--no-private-weights", "--target-bits", 9)
    row = helora_json("plan", "--shape", "300000:300000:16", *zero_moai)
    assert row["batch_for_default_budget"] is None
