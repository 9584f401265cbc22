"""A client in plain Node, with no code of helora and no package: what docs/protocol.md says is enough to write one."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from helora_core.adapter.lora import LoRAAdapter, LoRAModule
from helora_core.parties.compile import compile
from helora_core.parties.server import Server
from helora_serve.auth import Access
from helora_serve.catalogue import fixed
from helora_serve.host import Host
from helora_serve.limits import Limits
from helora_serve.service import Service, State

HERE = Path(__file__).parent
NAME = "layers.0.q_proj"


@pytest.mark.parametrize("shape", [(64, 96, 8), (1000, 700, 3)])
def test_it_gets_the_adapters_delta(shape: tuple[int, int, int]) -> None:
    d_in, d_out, rank = shape
    rng = np.random.default_rng(1)
    module = LoRAModule(NAME, rng.normal(size=(rank, d_in)) / 8, rng.normal(size=(d_out, rank)) / 8, 2.0)
    compiled = compile(LoRAAdapter({NAME: module}, "test"), backend="rns", packing="cheetah_two_round", tokens=1)
    once, x = fixed(Server(compiled)), rng.normal(size=(1, d_in))
    with Host(Service(lambda batches: once(), limits=Limits(), access=Access(None), state=State(None))) as host:
        command = ["node", "--no-warnings", "--experimental-websocket", str(HERE / "run.mjs")]
        child = subprocess.run(
            [*command, f"{host.url}/", NAME, json.dumps(x[0].tolist())],
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
    assert child.returncode == 0, child.stderr
    expected = module.reference_delta(x)[0]
    assert np.abs(np.array(json.loads(child.stdout)) - expected).max() < 2.0**-12 * np.abs(expected).max()


def test_it_has_nothing_but_what_node_has() -> None:
    for script in HERE.glob("*.mjs"):
        imported = set(re.findall(r'from "([^"]+)"', script.read_text(encoding="utf-8")))
        assert imported <= {"node:crypto", "./client.mjs"}
