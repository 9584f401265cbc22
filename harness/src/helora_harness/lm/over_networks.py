"""Decodes one sequence through relays that imitate networks, packing by packing, beside what was predicted.

A packing has one server and one client, whose keys and pools go over the direct link; only then are its messages sent
through a relay.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import msgspec

from helora_core.adapter.combine import compact, stack
from helora_core.adapter.load import load_adapter
from helora_core.adapter.lora import ModuleShape
from helora_core.adapter.sharing import input_groups
from helora_core.errors import HeloraError
from helora_core.parties.result import Link
from helora_core.planning.profile import Profile
from helora_harness.lm.figures import ONLINE, PRECOMPUTED, OverNetwork
from helora_harness.lm.generating import Steps, generate, prompts
from helora_harness.lm.networks import Network, choices, predicted_ms
from helora_harness.lm.opened import Opened, Setting, compiled, server_of
from helora_harness.lm.serving import served_adapter
from helora_transformers import attach, connect
from helora_transformers.link.relay import Relay

PACKINGS = ("rank_bsgs", "cheetah_two_round", PRECOMPUTED)
_PROMPT = 4


class Rerouted:
    """A host as ``attach`` takes it, whose sessions can be sent another way from some moment on.

    Args:
        address: The server's.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._direct = connect(address, timeout=600)
        self.link: Link | None = None
        self._keys = b""

    def offer(self) -> bytes:
        """The server's."""
        return self._direct.offer()

    def open(self, evaluation_keys: bytes) -> Rerouted:
        """A session over the direct link, until ``through`` says otherwise."""
        if self.link is None:  # the refill of pools uses the same session
            self._keys, self.link = evaluation_keys, self._direct.open(evaluation_keys)
        return self

    def answer(self, message: bytes) -> bytes:
        """As a session does."""
        assert self.link is not None
        return self.link.answer(message)

    @contextmanager
    def through(self, network: Network) -> Iterator[None]:
        """Messages go through a relay, while the context is open."""
        before = self.link
        relay = Relay(self.address, delay_ms=network.rtt_ms / 2, bits_per_second=network.bits_per_second)
        with relay as slow, connect(slow, timeout=600) as remote:
            self.link = remote.open(self._keys)
            try:
                yield
            finally:
                self.link = before

    def close(self) -> None:
        """End the direct link."""
        self._direct.close()


def measured(
    model: Any,
    setting: Setting,
    networks: Sequence[Network],
    profile: Profile | None,
    *,
    base_ms: float,
    tokens: int,
    packings: Sequence[str] = PACKINGS,
    tell: Callable[[str], object],
) -> list[OverNetwork]:
    """A row for each network and packing; one that the backend or the adapter does not take is a row too.

    Args:
        model: The base model.
        setting: How it is opened; its link is not used.
        networks: To go through.
        profile: Of the backend; None for no predictions.
        base_ms: A decoding step of the base model alone, which predictions add.
        tokens: To generate: one fewer steps are timed.
        packings: Of all modules.
        tell: Called with a line as each row begins.
    """
    rows: dict[tuple[Network, str], OverNetwork] = {}
    for packing in packings:
        try:
            found = _of_packing(model, setting, packing, networks, profile, base_ms, tokens, tell)
        except HeloraError as refusal:
            found = [
                OverNetwork(rtt_ms=each.rtt_ms, mbit=each.mbit, packing=packing, refused=refusal.message)
                for each in networks
            ]
        rows |= {(network, packing): row for network, row in zip(networks, found, strict=True)}
    return [rows[network, packing] for network in networks for packing in packings]


def _of_packing(
    model: Any,
    setting: Setting,
    packing: str,
    networks: Sequence[Network],
    profile: Profile | None,
    base_ms: float,
    tokens: int,
    tell: Callable[[str], object],
) -> list[OverNetwork]:
    mode = PRECOMPUTED if packing == PRECOMPUTED else ONLINE
    rows = []
    with ExitStack() as stack:
        if mode == PRECOMPUTED:
            server = stack.enter_context(server_of(compiled(mode, setting), setting))
        else:
            server = stack.enter_context(served_adapter(setting.adapter, packing, setting.backend, (1,)))
        host = Rerouted(server.address)
        with attach(model, host, ahead=setting.ahead if mode == PRECOMPUTED else 0) as private:
            of = Opened(mode, model, private, server=server)
            shape = _stacked(setting)
            for network in networks:
                tell(f"{packing} over {network}")
                chosen = choices(setting.backend, profile, shape, network, setting.ahead)
                with host.through(network):
                    row = _row(of, network, packing, tokens)
                plans, traffic = list(private.client.plans.values()), row.bytes_up + row.bytes_down
                predicted = predicted_ms(plans, profile, network, round_trips=row.round_trips, traffic=traffic)
                rows.append(
                    msgspec.structs.replace(
                        row,
                        chosen=tuple(name for name, each in chosen.items() if each == packing),
                        predicted_ms=None if predicted is None else base_ms + predicted,
                    )
                )
    return rows


def _stacked(setting: Setting) -> ModuleShape:
    """The shape of the adapter's first modules that read one input, as one."""
    modules = load_adapter(setting.adapter).modules
    first = input_groups(list(modules))[0]
    return compact(stack([modules[name] for name in first])).shape


def _row(of: Opened, network: Network, packing: str, tokens: int) -> OverNetwork:
    steps = Steps(of)
    generate(of, prompts(1, _PROMPT, of.model.config.vocab_size), tokens, logits_processor=[steps])
    took = steps.steps_ms
    first, last = steps.reports[0], steps.reports[-1]
    return OverNetwork(
        rtt_ms=network.rtt_ms,
        mbit=network.mbit,
        packing=packing,
        measured_ms=statistics.median(took),
        bytes_up=(last.bytes_up - first.bytes_up) / len(took),
        bytes_down=(last.bytes_down - first.bytes_down) / len(took),
        round_trips=(last.round_trips - first.round_trips) / len(took),
    )
