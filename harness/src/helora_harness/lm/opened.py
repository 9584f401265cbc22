"""A model in one of the modes, ready to generate: PEFT's in the clear, or a base model with a server attached."""

from __future__ import annotations

import copy
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from helora_core.adapter.load import load_adapter
from helora_core.compiler.plan import Plan
from helora_core.compiler.request import AUTO
from helora_core.compiler.requirements import require_storable
from helora_core.errors import InvalidInput
from helora_core.parties.client import Client
from helora_core.parties.compile import compile
from helora_core.parties.compiled_lora import CompiledLoRA
from helora_harness.lm.conditions import THREADS
from helora_harness.lm.figures import PLAIN, PRECOMPUTED, Mode
from helora_harness.lm.serving import Served, served, served_adapter
from helora_harness.lm.shapes import ASSUMED, stated
from helora_transformers import attach, connect
from helora_transformers.buckets import compiled_in_buckets, weight_bytes
from helora_transformers.link.relay import Relay
from helora_transformers.private import PrivateModel

IN_PROCESS, TCP = "in-process", "tcp"


@dataclass(frozen=True)
class Setting:
    """What modes are opened with.

    Attributes:
        base: The base model's folder.
        adapter: The adapter's folder, PEFT's.
        backend: Name of the backend.
        link: ``TCP`` for a server in a process of its own, or ``IN_PROCESS``.
        ahead: Tokens that are prepared for in the mode ``PRECOMPUTED``.
        packing: Of plans that run online.
        delay_ms: Of the link, one way.
        mbit: Megabits a second of the link, each way; None for no limit.
    """

    base: Path
    adapter: Path
    backend: str
    link: str = TCP
    ahead: int = 8192
    packing: str = AUTO
    delay_ms: float = 0.0
    mbit: float | None = None


@dataclass
class Opened:
    """A model in a mode.

    Attributes:
        mode: Its mode.
        model: Runs it.
        private: What is attached; None for the model in the clear.
        lora: What is served; None for the model in the clear.
        server: The server's process; None without one.
    """

    mode: str
    model: Any
    private: PrivateModel | None = None
    lora: CompiledLoRA | None = None
    server: Served | None = None

    def once(self) -> Mode:
        """What the mode needed once so far.

        Raises:
            AssertionError: It is the mode in the clear.
        """
        assert self.private is not None
        assert self.lora is not None
        report, plans = self.private.report(), [each.plan for each in self.lora.modules]
        return Mode(
            mode=self.mode,
            packings=report.packings,
            bits=report.bits,
            keys_bytes=report.keys_bytes,
            ahead_s=report.ahead_ms / 1e3,
            ahead_tokens=report.correlations_left or 0,
            ahead_up=report.ahead_bytes_up,
            ahead_down=report.ahead_bytes_down,
            weights_bytes=weight_bytes(self.lora),
            idle_bytes=None if self.server is None else self.server.idle_bytes,
            server_bytes=None if self.server is None else self.server.resident_bytes,
            **stated(plans),
        )


def use_threads(threads: int) -> None:
    """Let torch and the engine use so many threads, here and in processes started from now on."""
    os.environ.update(dict.fromkeys(THREADS, str(threads)))
    torch.set_num_threads(threads)


def base_model(base: Path) -> Any:
    """The base model of a folder, in float32."""
    return AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()


@contextmanager
def opened(model: Any, mode: str, setting: Setting) -> Iterator[Opened]:
    """A model in a mode until the context ends.

    Args:
        model: The base model; a copy of it is run.
        mode: One of the three.
        setting: How.

    Raises:
        HeloraError: As ``compile``, ``attach`` and ``connect`` raise it.
    """
    if mode == PLAIN:
        yield Opened(mode, _with_peft(model, setting.adapter))
        return
    lora, ahead = compiled(mode, setting), setting.ahead if mode == PRECOMPUTED else 0
    own = copy.deepcopy(model)
    if setting.link == IN_PROCESS:
        with attach(own, lora, ahead=ahead) as private:
            yield Opened(mode, own, private, lora)
        return
    with (
        server_of(lora, setting) as server,
        _relayed(server.address, setting) as address,
        attach(own, connect(address, timeout=600), ahead=ahead) as private,
    ):
        yield Opened(mode, own, private, lora, server)


def _with_peft(model: Any, adapter: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of transformers about what PEFT asks it
        return PeftModel.from_pretrained(copy.deepcopy(model), str(adapter)).eval()


def compiled(mode: str, setting: Setting) -> CompiledLoRA:
    """The adapter's plans of a mode, those that ``attach`` makes."""
    adapter = load_adapter(setting.adapter)
    if mode == PRECOMPUTED:
        return compile(adapter, packing="precomputed", backend=setting.backend, constraints=ASSUMED)
    return compiled_in_buckets(adapter, packing=setting.packing, backend=setting.backend)


@contextmanager
def server_of(lora: CompiledLoRA, setting: Setting) -> Iterator[Served]:
    """A server of compiled plans in a process of its own, until the context ends: ``helora link`` with their artifact.

    Plans that have none, since the server needs the adapter in between, are compiled again there.
    """
    if not all(_has_artifact(each.plan) for each in lora.modules):
        with served_adapter(setting.adapter, setting.packing, setting.backend) as server:
            yield server
        return
    with tempfile.TemporaryDirectory(prefix="helora-lm-") as folder:
        lora.save(Path(folder, "served"))
        with served(Path(folder, "served"), setting.backend) as server:
            yield server


def _has_artifact(plan: Plan) -> bool:
    try:
        require_storable(plan)
    except InvalidInput:
        return False
    return True


@contextmanager
def _relayed(address: str, setting: Setting) -> Iterator[str]:
    if not setting.delay_ms and setting.mbit is None:
        yield address
        return
    with Relay(address, delay_ms=setting.delay_ms, bits_per_second=_bits(setting.mbit)) as slow:
        yield slow


def _bits(mbit: float | None) -> float | None:
    return None if mbit is None else 1e6 * mbit


def bytes_of_another_client(of: Opened) -> int | None:
    """By how much the server's process grows with a second client that has keys and asks every module for one token.

    None where the server has no process of its own, or plans run ahead of time: filling pools takes minutes.
    """
    if of.server is None or of.private is None or of.mode == PRECOMPUTED:
        return None
    before = of.server.resident_bytes
    with connect(of.server.address, timeout=600) as remote:
        client = Client(remote.offer())
        session = remote.open(client.evaluation_keys())
        for module, plan in client.plans.items():
            client.run(module, np.full((1, plan.shape.d_in), 0.1), session)
        after = of.server.resident_bytes
    return None if before is None or after is None else after - before
